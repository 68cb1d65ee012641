"""Time one proposal on the DARTS space: seconds an evaluation, as decisions make the supernet smaller.

    python benchmarks/darts_proposal.py --dataset folder:PATH

Writes ``benchmarks/results/darts_proposal.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from train.data import load_data, scoring_batches
from zcpt.files import as_json, write_atomically
from zcpt.monitor import Progress
from zcpt.search import Decision

RESULT = Path(__file__).parent / "results" / "darts_proposal.json"


class Times(Progress):
    """Seconds an evaluation, decision by decision."""

    def __init__(self) -> None:
        self.each: list[float] = []

    def decided(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Note the decision's time."""
        super().decided(proposal, decision, replayed)
        self.each += [decision.seconds / len(decision.candidates)] * len(decision.candidates)


def main() -> None:
    """Propose one architecture and write how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="CIFAR-10, as 'zcpt search' takes it")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    batches, times = scoring_batches(load_data(args.dataset), 0), Times()
    began = time.perf_counter()
    result = zcpt.search("darts", batches, proposals=1, device=args.device, listeners=[times])
    cuda = args.device.startswith("cuda")
    document = {
        "what": "darts, C=16, 8 cells, B=64, one proposal",
        "evaluations": len(times.each),
        "seconds": time.perf_counter() - began,
        "seconds an evaluation": {
            "mean": statistics.mean(times.each),
            "nothing decided": times.each[0],
            "all operations decided": times.each[-1],
        },
        "genotype": zcpt.get_space("darts").format(result.architecture),
        "device": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_atomically(RESULT, as_json(document))


if __name__ == "__main__":
    main()
