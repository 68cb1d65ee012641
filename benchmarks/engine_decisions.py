"""Compare what two ways of scoring decide: every decision of whole proposals, and how close the differing ones were.

    python benchmarks/engine_decisions.py [--against plain] [--seeds 10] [--space darts ...]
    python benchmarks/engine_decisions.py --against bf16

The proposals are those of the fast engine in float32, on random images and small networks. Each of their decisions is
taken again, on the same mixtures and batch, by the plain engine, or by the fast one in bf16. Writes
``benchmarks/results/engine_decisions.json``.
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
from benchmarks.engine_setup import make_random_batch
from zcpt.batches import Batch, as_batches
from zcpt.files import to_json_text, write_atomically
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot
from zcpt.scoring import Evaluator
from zcpt.search import Callback, Decision, FreshSupernets, SearchConfig, SearchSeeds, configure
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace

RESULT = Path(__file__).parent / "results" / "engine_decisions.json"
SIDE, BATCH, CHANNELS = 16, 16, 8
"""Pixels a side, images of a batch, width."""
LAYERS = {"nasbench201": 2}
"""Where the smallest network is too small to be worth a look; elsewhere it is taken."""


class Repeated(Callback):
    """Takes every decision of a proposal again."""

    def __init__(
        self, space: SearchSpace, config: SearchConfig, network_config: NetworkConfig, images: Batch, other: str
    ) -> None:
        self.choices, self.images = {choice.name: choice for choice in space.choices}, images
        net = FreshSupernets(space, network_config, config, torch.device("cpu")).build_supernet(0)
        self.mixture, self.left = Mixture.initial(space.choices), dict[str, tuple[str, ...]]()
        self.evaluator = (
            Evaluator(net, Naswot(), engine="plain") if other == "plain" else Evaluator(net, Naswot(), precision="bf16")
        )
        self.taken, self.difference, self.differing = 0, 0.0, list[dict[str, Any]]()

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Score the same candidates."""
        choice = self.choices[decision.choice]
        left = self.left.get(choice.name, decision.candidates)
        removed = [self.mixture.without(choice.name, candidate) for candidate in left]
        scores = self.evaluator.score_mixtures(removed, self.images).tolist()
        pick = min if choice.keep == 1 else max
        mine, theirs = (pick(range(len(left)), key=row.__getitem__) for row in (scores, list(decision.scores)))
        finite = [abs(a - b) for a, b in zip(scores, decision.scores, strict=True) if abs(a) < float("inf")]
        self.difference = max([self.difference, *finite])
        if mine != theirs:
            gap = abs(decision.scores[mine] - decision.scores[theirs])
            self.differing.append({"choice": choice.name, "gap": gap, "score": decision.scores[theirs]})
        self.taken += 1
        self.left[choice.name] = decision.kept
        if len(decision.kept) == choice.keep:
            self.mixture = self.mixture.select(choice.name, decision.kept)
        else:
            self.mixture = self.mixture.without(choice.name, *set(left) - set(decision.kept))


def compare(name: str, seed: int, other: str) -> Repeated:
    """One proposal, with each decision taken again."""
    space = zcpt.get_space(name)
    settings: dict[str, Any] = {"channels": CHANNELS, "layers": LAYERS.get(name, space.small_size.layers)}
    settings |= {"proposals": 1, "batch_size": BATCH, "seed": seed}
    config = configure(space, **settings)
    data = make_random_batch(BATCH, SIDE)
    source = as_batches((data.images, data.labels), 10)
    images = source.draw(BATCH, derive_seed(SearchSeeds.from_seed(seed).batch, 0))
    repeated = Repeated(space, config, NetworkConfig(CHANNELS, config.layers, 10, 3, (SIDE, SIDE)), images, other)
    zcpt.search(space, source, num_classes=10, callbacks=[repeated], engine="fast", **settings)
    return repeated


def main() -> None:
    """Compare and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=("plain", "bf16"), default="plain")
    parser.add_argument("--space", nargs="+", choices=zcpt.list_spaces(), default=zcpt.list_spaces())
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in args.space:
        began = time.perf_counter()
        found = [compare(name, seed, args.against) for seed in tqdm(range(args.seeds), name, disable=None)]
        scores = [one["score"] for each in found for one in each.differing]
        document.setdefault(args.against, {})[name] = {
            "proposals": args.seeds,
            "decisions": sum(each.taken for each in found),
            "differing": [one for each in found for one in each.differing],
            "largest difference of scores": max(each.difference for each in found),
            "mean score where decisions differ": statistics.mean(scores) if scores else None,
            "of": {"images": SIDE, "batch": BATCH, "channels": CHANNELS},
            "seconds": time.perf_counter() - began,
            "torch": torch.__version__,
            "date": date.today().isoformat(),
        }
        write_atomically(RESULT, to_json_text(document))


if __name__ == "__main__":
    main()
