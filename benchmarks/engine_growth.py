"""Growth of the fast engine's cost, and its distance from what the machine could compute."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import zcpt
from benchmarks.engine_setup import BATCHES, build_supernet, make_random_batch, measure_seconds
from zcpt.devices import move_batch
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot
from zcpt.scoring import Evaluator
from zcpt.scoring.fast.build import build_graph
from zcpt.scoring.fast.graph import FusedChain, Graph, Value, WeightedSum
from zcpt.scoring.fast.kernels import count_both_positive
from zcpt.scoring.fast.operations import Convolution
from zcpt.scoring.fast.plan import Planner
from zcpt.scoring.fast.rewrite import rewrite_graph
from zcpt.space import SearchSpace

_REPEATS = 5
_SMALL = {"batch": 32, "channels": 16, "layers": 5, "side": 32}
"""Settings of which one at a time is changed."""


def measure_growth(device: torch.device) -> dict[str, Any]:
    """Measure seconds of an evaluation of the undecided ``darts``, or of a search, while one setting is changed."""
    changes: Mapping[str, tuple[int, ...]] = {
        "batch": (16, 32, 64, 128),
        "channels": (8, 16, 32),
        "layers": (5, 8, 11),
        "side": (16, 32, 64),
    }
    growth: dict[str, Any] = {"of": {"space": "darts", **_SMALL}}
    for name, values in changes.items():
        growth[name] = {v: _measure_evaluation(zcpt.get_space("darts"), device, **{**_SMALL, name: v}) for v in values}
    growth["edges undecided"] = {
        n: _measure_evaluation(zcpt.get_space("darts"), device, **_SMALL, undecided=n) for n in (0, 14, 28)
    }
    growth["operations of an edge"] = {
        _count_operations(name): _measure_evaluation(zcpt.get_space(name), device, **_SMALL)
        for name in ("darts-s2", "darts-s3", "darts")
    }
    growth["N"] = {n: _measure_search(device, proposals=n, validation_batches=1) for n in (1, 2, 4)}
    growth["V"] = {v: _measure_search(device, proposals=2, validation_batches=v) for v in (4, 16, 64)}
    return growth


def _count_operations(name: str) -> int:
    return len(zcpt.get_space(name).choices[0].candidates)


def _measure_evaluation(
    space: SearchSpace,
    device: torch.device,
    batch: int,
    channels: int,
    layers: int,
    side: int,
    undecided: int | None = None,
) -> float:
    net = build_supernet(space, device, channels=channels, layers=layers, image_size=(side, side))
    mixture, edges = Mixture.initial(space.choices), [choice for choice in space.choices if not choice.phase]
    for choice in edges if undecided is None else edges[undecided:]:
        mixture = mixture if undecided is None else mixture.select(choice.name, choice.selectable[-1:])
    evaluator, images = Evaluator(net, Naswot()), move_batch(make_random_batch(batch, side), device)
    return _measure_median(lambda: evaluator.score_mixtures([mixture], images), device)


def _measure_search(device: torch.device, **settings: Any) -> float:
    images = make_random_batch(64)
    began = time.perf_counter()
    data = images.images, images.labels
    settings |= {"batch_size": 32, "validation_batch_size": 32, "channels": 16, "layers": 1}
    zcpt.search("nasbench201", data, num_classes=10, device=device, supernet_weights="run", **settings)
    return time.perf_counter() - began


def _measure_median(call: Callable[[], Any], device: torch.device) -> float:
    call()
    return statistics.median(measure_seconds(call, device) for _ in range(_REPEATS))


def measure_limits(device: torch.device) -> dict[str, Any]:
    """Compare one evaluation of an undecided supernet with the machine's rates.

    Counted are the products of all convolutions and kernels, and the bytes of every tensor that is written once and
    read once by each of its readers; what a cache may save is not.
    """
    rates = _measure_rates(device)
    limits: dict[str, Any] = {"rates": rates}
    for name in ("darts", "nasbench201"):
        space, size = zcpt.get_space(name), BATCHES[name]
        net, batch = build_supernet(space, device), move_batch(make_random_batch(size), device)
        mixture, proxy = Mixture.initial(space.choices), Naswot()
        taken = _measure_median(partial(Evaluator(net, proxy, engine="fast").score_mixtures, [mixture], batch), device)
        graph = build_graph(net, tuple(batch.images.shape), torch.float32, device, proxy.is_counted)
        graph = rewrite_graph(graph)
        values = [*_unchain(graph)]
        operations = {
            "convolutions": 2 * sum(_count_macs(value) for value in values),
            "kernels": 2 * sum(value.units for value in Planner(net, graph).count_observed(mixture)) * size * size,
        }
        moved = sum(4 * size * (value.units + sum(source.units for source in value.sources)) for value in values)
        seconds = {
            "convolutions": operations["convolutions"] / rates["float32 products a second"],
            "kernels": operations["kernels"] / rates["int8 products a second"],
            "moving": moved / rates["bytes a second"],
        }
        limits[name] = {
            "seconds": taken,
            "operations of convolutions": operations["convolutions"],
            "operations of kernels": operations["kernels"],
            "bytes": moved,
            "seconds at the measured rates": seconds,
            "share of computing alone": (seconds["convolutions"] + seconds["kernels"]) / taken,
        }
    return limits


def _unchain(graph: Graph) -> Iterator[Value]:
    """Iterate over all values, with the links of chains in place of the chains."""
    for value in graph.values:
        if isinstance(value.op, FusedChain):
            sources = value.sources
            for link in value.op.links:
                yield replace(link, sources=sources)
                sources = (link,)
        else:
            yield value


def _count_macs(value: Value) -> int:
    convolutions = [value.op] if isinstance(value.op, Convolution) else []
    if isinstance(value.op, WeightedSum):
        # Merged convolutions are one with the largest window of them.
        merged = [[term.convolution for term in terms if term.convolution] for terms in value.op.terms]
        convolutions = [max(each, key=lambda one: one.weight.numel()) for each in merged if each]
    windows = sum(math.prod(convolution.weight.shape[1:]) for convolution in convolutions)
    return value.shape[0] * value.units * windows


def _measure_rates(device: torch.device) -> dict[str, float]:
    """Measure the machine's rates: a large product, a copy, and a product of signs."""
    side, signs = 2048, torch.randint(0, 2, (256, 2**14), dtype=torch.int8, device=device)
    square, line = torch.randn(side, side, device=device), torch.randn(2**26, device=device)
    target = torch.empty_like(line)
    return {
        "float32 products a second": 2 * side**3 / _measure_median(lambda: square @ square, device),
        "int8 products a second": 2 * 256**2 * 2**14 / _measure_median(lambda: count_both_positive(signs), device),
        "bytes a second": 2 * 4 * 2**26 / _measure_median(lambda: target.copy_(line), device),
    }
