"""How the cost of the fast engine grows, and how far it is from what the machine could do."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

import zcpt
from benchmarks.engine_setup import BATCHES, random_batch, seconds, supernet
from zcpt.devices import move_batch
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot
from zcpt.scoring import Evaluator
from zcpt.scoring.fast.graph import Chain, Mix, Value
from zcpt.scoring.fast.kernels import both_positive
from zcpt.scoring.fast.network import Network
from zcpt.scoring.fast.operations import Convolution
from zcpt.space import SearchSpace

_REPEATS = 5
_SMALL = {"batch": 32, "channels": 16, "layers": 5, "side": 32}
"""What stays as it is while one of it is changed."""


def growth(device: torch.device) -> dict[str, Any]:
    """Seconds of the fast engine while one thing is changed: an evaluation of the undecided ``darts``; a search."""
    changes: Mapping[str, tuple[int, ...]] = {
        "batch": (16, 32, 64, 128),
        "channels": (8, 16, 32),
        "layers": (5, 8, 11),
        "side": (16, 32, 64),
    }
    found: dict[str, Any] = {"of": {"space": "darts", **_SMALL}}
    for name, values in changes.items():
        found[name] = {v: _evaluation(zcpt.get_space("darts"), device, **{**_SMALL, name: v}) for v in values}
    found["edges undecided"] = {
        n: _evaluation(zcpt.get_space("darts"), device, **_SMALL, undecided=n) for n in (0, 14, 28)
    }
    found["operations of an edge"] = {
        _operations(name): _evaluation(zcpt.get_space(name), device, **_SMALL)
        for name in ("darts-s2", "darts-s3", "darts")
    }
    found["N"] = {n: _search(device, proposals=n, validation_batches=1) for n in (1, 2, 4)}
    found["V"] = {v: _search(device, proposals=2, validation_batches=v) for v in (4, 16, 64)}
    return found


def _operations(name: str) -> int:
    return len(zcpt.get_space(name).choices[0].candidates)


def _evaluation(
    space: SearchSpace,
    device: torch.device,
    batch: int,
    channels: int,
    layers: int,
    side: int,
    undecided: int | None = None,
) -> float:
    net = supernet(space, device, channels=channels, layers=layers, image_size=(side, side))
    mixture, edges = Mixture.initial(space.choices), [choice for choice in space.choices if not choice.phase]
    for choice in edges if undecided is None else edges[undecided:]:
        mixture = mixture if undecided is None else mixture.select(choice.name, choice.selectable[-1:])
    evaluator, images = Evaluator(net, Naswot()), move_batch(random_batch(batch, side), device)
    return _median(lambda: evaluator.score_mixtures([mixture], images), device)


def _search(device: torch.device, **settings: Any) -> float:
    images = random_batch(64)
    began = time.perf_counter()
    data = images.images, images.labels
    settings |= {"batch_size": 32, "validation_batch_size": 32, "channels": 16, "layers": 1}
    zcpt.search("nasbench201", data, num_classes=10, device=device, supernet_weights="run", **settings)
    return time.perf_counter() - began


def _median(call: Callable[[], Any], device: torch.device) -> float:
    call()
    return statistics.median(seconds(call, device) for _ in range(_REPEATS))


def limits(device: torch.device) -> dict[str, Any]:
    """What one evaluation of an undecided supernet has to do, beside what the machine can.

    Counted are the products of all convolutions and of all kernels, and the bytes of every tensor that is written
    once and read once by each who needs it; not what a cache may save.
    """
    rates = _rates(device)
    found: dict[str, Any] = {"rates": rates}
    for name in ("darts", "nasbench201"):
        space, size = zcpt.get_space(name), BATCHES[name]
        net, batch = supernet(space, device), move_batch(random_batch(size), device)
        mixture = Mixture.initial(space.choices)
        evaluator = Evaluator(net, Naswot(), engine="fast")
        taken = _median(lambda e=evaluator, m=mixture, b=batch: e.score_mixtures([m], b), device)  # type: ignore[misc]
        proxy = Naswot()
        network = Network(net, tuple(batch.images.shape), torch.float32, device, proxy.is_counted)
        values = list(_values(network))
        macs = sum(_macs(value) for value in values)
        pluralize = sum(value.units for value in network.observed(mixture)) * size * size
        moved = sum(4 * size * (value.units + sum(source.units for source in value.sources)) for value in values)
        needs = {
            "convolutions": 2 * macs / rates["float32 products a second"],
            "kernels": 2 * pluralize / rates["int8 products a second"],
            "moving": moved / rates["bytes a second"],
        }
        found[name] = {
            "seconds": taken,
            "operations of convolutions": 2 * macs,
            "operations of kernels": 2 * pluralize,
            "bytes": moved,
            "seconds at the measured rates": needs,
            "share of computing alone": (needs["convolutions"] + needs["kernels"]) / taken,
        }
    return found


def _values(network: Network) -> list[Value]:
    """All values, those within chains too."""
    found = []
    for value in network.values:
        if isinstance(value.op, Chain):
            before = value.sources
            for op, link in value.op.links:
                found.append(Value(link.index, op, before, link.shape, link.choices))
                before = (link,)
        else:
            found.append(value)
    return found


def _macs(value: Value) -> int:
    convolutions = [value.op] if isinstance(value.op, Convolution) else []
    if isinstance(value.op, Mix):
        # Of several that are one, the largest window is gone over.
        through = [[term.through for term in terms if term.through] for terms in value.op.terms]
        convolutions = [max(each, key=lambda one: one.weight.numel()) for each in through if each]
    windows = sum(math.prod(convolution.weight.shape[1:]) for convolution in convolutions)
    return value.shape[0] * value.units * windows


def _rates(device: torch.device) -> dict[str, float]:
    """What the machine does where nothing is in the way: a large product, a copy, and a product of signs."""
    side, signs = 2048, torch.randint(0, 2, (256, 2**14), dtype=torch.int8, device=device)
    square, line = torch.randn(side, side, device=device), torch.randn(2**26, device=device)
    copied = torch.empty_like(line)
    return {
        "float32 products a second": 2 * side**3 / _median(lambda: square @ square, device),
        "int8 products a second": 2 * 256**2 * 2**14 / _median(lambda: both_positive(signs), device),
        "bytes a second": 2 * 4 * 2**26 / _median(lambda: copied.copy_(line), device),
    }
