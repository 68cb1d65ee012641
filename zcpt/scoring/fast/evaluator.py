"""Scores by the fast engine, within the memory that there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.options import format_count
from zcpt.proxies import Naswot, log_determinant
from zcpt.scoring.fast.memory import Packed, packed_bytes, peak
from zcpt.scoring.fast.network import Network
from zcpt.scoring.fast.parallel import carried_out, threads_for
from zcpt.scoring.fast.plan import Plan, plan
from zcpt.scoring.fast.run import Run
from zcpt.supernet import Supernet

_log = logging.getLogger(__name__)
_Kernels = tuple[list[Tensor], list[bool]]


@dataclass(frozen=True)
class _Way:
    """How to go about a call; each takes less memory and more time than the one before it."""

    share: bool
    """Whether what all mixtures have in common is computed once and kept."""
    images: int
    """How many images of the batch at a time."""


class FastEvaluator:
    """Scores one network in evaluation mode, whose weights stay what they are at the first call.

    Args:
        net: A supernet, or a discrete network.
        proxy: Of the naswot family.
        dtype: To compute in; float32 leaves it to the images.
        max_memory: Bytes to take at once, beside the network and the batch; 0 sets no limit.
    """

    def __init__(
        self, net: nn.Module, proxy: Naswot, dtype: torch.dtype = torch.float32, max_memory: float = 0
    ) -> None:
        self.net, self.proxy, self.dtype, self.max_memory = net, proxy, dtype, max_memory
        self._networks: dict[tuple[object, ...], Network] = {}
        self._first: dict[int, int] = {}
        """For batches of so many images: of the ways, the first one for which memory was not found wanting."""

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU."""
        kernels, finite = self.kernels(mixtures, batch.images)
        scores = [log_determinant(k) if ok else math.nan for k, ok in zip(kernels, finite, strict=True)]
        return torch.tensor(scores, dtype=torch.float64, device="cpu")

    def kernels(self, mixtures: Sequence[Mixture | None], images: Tensor) -> _Kernels:
        """The agreement kernels [B, B] of P mixtures, as by ``Naswot.compute_kernel``, and whether outputs are finite.

        Raises:
            ConfigError: ``max_memory`` is too little.
            ProxyError: No ReLU module of the network ran.
        """
        mixtures, images = [self._seen(mixture) for mixture in mixtures], self._in_precision(images)
        if not mixtures:
            return [], []
        ways = self._ways(mixtures, images)
        left = ((way, 0) for way in ways[self._first.get(len(images), 0) :])  # to estimate takes its time
        for way, needs in self._estimated(ways, mixtures, images) if self.max_memory else left:
            if needs > self.max_memory:
                continue
            try:
                return self._kernels(way, mixtures, images)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or way is ways[-1]:
                    raise
            following = self._first[len(images)] = ways.index(way) + 1
            _log.warning("out of memory: going on with %s at a time", _described(ways[following], len(images)))
        raise self._too_little(needs, images)

    def estimate_memory(self, mixtures: Sequence[Mixture | None], images: Tensor) -> int:
        """An estimate of the bytes that ``kernels`` takes at once, beside the network and the batch.

        Raises:
            ConfigError: ``max_memory`` is too little.
        """
        mixtures, images = [self._seen(mixture) for mixture in mixtures], self._in_precision(images)
        if not mixtures:
            return 0
        for _, needs in self._estimated(self._ways(mixtures, images), mixtures, images):
            if not self.max_memory or needs <= self.max_memory:
                return needs
        raise self._too_little(needs, images)

    def _ways(self, mixtures: Sequence[Mixture | None], images: Tensor) -> list[_Way]:
        whole = self._network(_Way(True, len(images)), mixtures, images)
        return list(_ways(len(images), whole.per_image))

    def _seen(self, mixture: Mixture | None) -> Mixture | None:
        if mixture is None and isinstance(self.net, Supernet):
            mixture = self.net.initial_mixture()
        return self.proxy.adapt_mixture(mixture)

    def _in_precision(self, images: Tensor) -> Tensor:
        # As by the plain engine, float32 is what networks usually have, and not what those of float64 are made.
        return images if self.dtype == torch.float32 else images.to(self.dtype)

    def _kernels(self, way: _Way, mixtures: Sequence[Mixture | None], images: Tensor) -> _Kernels:
        network, kernels, finite = self._network(way, mixtures, images), list[Tensor](), list[bool]()
        plans = list(_plans(network, way, mixtures))
        if way.images == len(images):
            threads = _threads(network, way, images)
            for some in plans:
                tally, ends = carried_out(some, network.output, images, threads)
                finite += ends
                kernels += tally.kernels()
        else:
            packed = Packed(len(images), max(packed_bytes(some, 1) for some in plans), images.device)
            for some in plans:
                packed.clear()
                each = []
                for part in images.split(way.images):
                    packed.begin(way.images)
                    run = Run(some, network.output, part, packed)
                    run.shared()
                    each.append(run.own(0))  # all parts are counted
                kernels += packed.tally().kernels()
                finite.append(all(map(bool, each)))
        # The diagonal is how many units count.
        if len(kernels) < len(mixtures) or not all(bool(kernel[0, 0]) for kernel in kernels):
            raise self.proxy.no_relu_error(self.net)
        return kernels, finite

    def _estimated(
        self, ways: Sequence[_Way], mixtures: Sequence[Mixture | None], images: Tensor
    ) -> Iterator[tuple[_Way, int]]:
        """The ways that are left, each with the bytes that it takes, as far as they are known from the whole batch."""
        whole, element = self._network(ways[0], mixtures, images), images.element_size()
        plans: dict[bool, list[Plan]] = {}
        for way in ways[self._first.get(len(images), 0) :]:
            if way.share not in plans:
                plans[way.share] = list(_plans(whole, way, mixtures))
            beside, threads = 0 if way.images == len(images) else len(images), _threads(whole, way, images)
            yield way, max(peak(p, way.images, element, threads) + packed_bytes(p, beside) for p in plans[way.share])

    def _network(self, way: _Way, mixtures: Sequence[Mixture | None], images: Tensor) -> Network:
        shape, feed_zeros = (way.images, *images.shape[1:]), any(m is not None and m.feed_zeros for m in mixtures)
        key = (shape, images.dtype, images.device, feed_zeros)
        if key not in self._networks:
            self._networks[key] = Network(
                self.net, shape, images.dtype, images.device, self.proxy.is_counted, feed_zeros
            )
        return self._networks[key]

    def _too_little(self, least: int, images: Tensor) -> ConfigError:
        return ConfigError(
            f"--max-memory {format_count(self.max_memory)} is too little: scoring {type(self.net).__name__} on "
            f"batches of {len(images)} images needs {format_count(least, up=True)} bytes. Give that or more, or a "
            "smaller --batch-size."
        )


def _plans(network: Network, way: _Way, mixtures: Sequence[Mixture | None]) -> Iterator[Plan]:
    if way.share:
        yield plan(network, mixtures)
    else:
        yield from (plan(network, [mixture], share=False) for mixture in mixtures)


def _ways(images: int, splits: bool) -> Iterator[_Way]:
    yield _Way(True, images)
    yield _Way(False, images)
    # Parts of equal size: a network is looked into for one size.
    yield from (_Way(False, part) for part in range(images - 1, 0, -1) if splits and images % part == 0)


def _threads(network: Network, way: _Way, images: Tensor) -> int:
    return threads_for(images) if network.per_image and way.images == len(images) else 1


def _described(way: _Way, images: int) -> str:
    return "one mixture" if way.images == images else f"one mixture and {way.images} of {images} images"


def _is_out_of_memory(error: RuntimeError) -> bool:
    return (
        isinstance(error, torch.cuda.OutOfMemoryError)
        or "not enough memory" in str(error)
        or ("can't allocate memory" in str(error))
    )
