"""Compare the decisions of the fast engine with those of the plain one, or of bf16.

    python benchmarks/engine_decisions.py [--against plain] [--seeds 10] [--space darts ...]
    python benchmarks/engine_decisions.py --against bf16

The fast engine makes proposals in float32, on random images and small networks. The plain engine, or the fast one in
bf16, scores the perturbations of each decision again, on the same batch. Writes the number of decisions, and each
that differs with its gap, to ``benchmarks/results/engine_decisions.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from benchmarks.engine import PerturbationRecorder, make_random_batch
from zcpt.batches import Batch, as_batches
from zcpt.files import to_json_text, write_atomically
from zcpt.proxies import Naswot
from zcpt.scoring import Evaluator
from zcpt.search import Decision, FreshSupernets, SearchConfig, SearchSeeds, configure
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace

RESULT = Path(__file__).parent / "results" / "engine_decisions.json"
SIDE = 16
"""Height and width of the images."""
BATCH = 16
"""Images of a batch."""
CHANNELS = 8
"""Width of the networks."""
LAYERS = {"nasbench201": 2}
"""Depth where the space's smallest network has too few cells for a meaningful comparison."""


class DecisionComparison(PerturbationRecorder):
    """Scores the perturbations of every decision again, by the plain engine or in bf16, and compares."""

    def __init__(
        self, space: SearchSpace, config: SearchConfig, network_config: NetworkConfig, batch: Batch, against: str
    ) -> None:
        super().__init__(space)
        self.batch = batch
        net = FreshSupernets(space, network_config, config, torch.device("cpu")).build_supernet(0)
        if against == "plain":
            self.evaluator = Evaluator(net, Naswot(), engine="plain")
        else:
            self.evaluator = Evaluator(net, Naswot(), precision="bf16")
        self.largest_difference = 0.0
        self.differing: list[dict[str, Any]] = []

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Score the perturbations again, and record whether another candidate would be decided."""
        super().on_decision(proposal, decision, replayed)
        scores = self.evaluator.score_mixtures(self.perturbations[-1], self.batch).tolist()
        # A choice that keeps one candidate selects the one whose removal scores lowest; a choice that keeps several
        # drops the one whose removal scores highest.
        pick = min if self.choices[decision.choice].keep == 1 else max
        picked, original = (pick(range(len(row)), key=row.__getitem__) for row in (scores, list(decision.scores)))
        differences = [abs(a - b) for a, b in zip(scores, decision.scores, strict=True) if abs(a) < float("inf")]
        self.largest_difference = max([self.largest_difference, *differences])
        if picked != original:
            gap = abs(decision.scores[picked] - decision.scores[original])
            self.differing.append({"choice": decision.choice, "gap": gap, "score": decision.scores[original]})


def compare_proposal(name: str, seed: int, against: str) -> DecisionComparison:
    """Make one proposal with the fast engine, and compare each of its decisions."""
    space = zcpt.get_space(name)
    settings: dict[str, Any] = {"channels": CHANNELS, "layers": LAYERS.get(name, space.small_size.layers)}
    settings |= {"proposals": 1, "batch_size": BATCH, "seed": seed}
    config = configure(space, **settings)
    data = make_random_batch(BATCH, SIDE)
    source = as_batches((data.images, data.labels), 10)
    batch = source.draw(BATCH, derive_seed(SearchSeeds.from_seed(seed).batch, 0))  # that of the search's decisions
    network_config = NetworkConfig(CHANNELS, config.layers, 10, 3, (SIDE, SIDE))
    comparison = DecisionComparison(space, config, network_config, batch, against)
    zcpt.search(space, source, num_classes=10, callbacks=[comparison], engine="fast", **settings)
    return comparison


def main() -> None:
    """Compare the proposals of all seeds, and write the results space by space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=("plain", "bf16"), default="plain")
    parser.add_argument("--space", nargs="+", choices=zcpt.list_spaces(), default=zcpt.list_spaces())
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in args.space:
        began = time.perf_counter()
        comparisons = [
            compare_proposal(name, seed, args.against) for seed in tqdm(range(args.seeds), name, disable=None)
        ]
        differing = [row for comparison in comparisons for row in comparison.differing]
        document.setdefault(args.against, {})[name] = {
            "proposals": args.seeds,
            "decisions": sum(len(comparison.perturbations) for comparison in comparisons),
            "differing": differing,
            "largest difference of scores": max(comparison.largest_difference for comparison in comparisons),
            "mean score where decisions differ": statistics.mean(row["score"] for row in differing)
            if differing
            else None,
            "of": {"images": SIDE, "batch": BATCH, "channels": CHANNELS},
            "seconds": time.perf_counter() - began,
            "torch": torch.__version__,
            "date": date.today().isoformat(),
        }
        write_atomically(RESULT, to_json_text(document))


if __name__ == "__main__":
    main()
