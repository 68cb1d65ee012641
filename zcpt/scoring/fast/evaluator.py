"""Scores of the naswot family by the fast engine, within the memory that is available."""

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
from zcpt.scoring.fast.build import build_graph
from zcpt.scoring.fast.executor import PlanExecutor
from zcpt.scoring.fast.memory import PackedSigns, count_packed_bytes, estimate_peak
from zcpt.scoring.fast.parallel import choose_threads, execute_plan
from zcpt.scoring.fast.plan import ExecutionPlan, Planner
from zcpt.scoring.fast.rewrite import rewrite_graph
from zcpt.supernet import Supernet

_log = logging.getLogger(__name__)
KernelsAndFiniteness = tuple[list[Tensor], list[bool]]


@dataclass(frozen=True)
class MemoryStrategy:
    """How a call is divided; in a list of strategies each takes less memory and more time than the one before."""

    share: bool
    """Whether all mixtures are scored together, and what they have in common is computed once and kept."""
    images: int
    """Number of images that are computed at a time."""


class FastEvaluator:
    """Scores one network in evaluation mode, whose weights stay what they are at the first call.

    Args:
        net: A supernet, or a discrete network.
        proxy: A proxy of the naswot family.
        dtype: Type to compute in; float32 means that of the images.
        max_memory: Bytes to take at once, beside the network and the batch; 0 sets no limit.
    """

    def __init__(
        self, net: nn.Module, proxy: Naswot, dtype: torch.dtype = torch.float32, max_memory: float = 0
    ) -> None:
        self.net = net
        self.proxy = proxy
        self.dtype = dtype
        self.max_memory = max_memory
        self._planners: dict[tuple[object, ...], Planner] = {}
        self._first_strategy: dict[int, int] = {}
        """For each number of images, index of the first strategy that has not run out of memory."""

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU."""
        kernels, finite = self.compute_kernels(mixtures, batch.images)
        scores = [log_determinant(k) if ok else math.nan for k, ok in zip(kernels, finite, strict=True)]
        return torch.tensor(scores, dtype=torch.float64, device="cpu")

    def compute_kernels(self, mixtures: Sequence[Mixture | None], images: Tensor) -> KernelsAndFiniteness:
        """Compute the agreement kernels [B, B] of P mixtures, as ``Naswot.compute_kernel``.

        Returns:
            The kernels, and for each whether the network's output is finite.

        Raises:
            ConfigError: ``max_memory`` is too little.
            ProxyError: No ReLU module of the network ran.
        """
        mixtures = [self._adapt_mixture(mixture) for mixture in mixtures]
        images = self._cast_images(images)
        if not mixtures:
            return [], []
        strategies = self._list_strategies(mixtures, images)
        # Without a limit nothing is estimated, because that takes time.
        remaining = ((strategy, 0) for strategy in strategies[self._first_strategy.get(len(images), 0) :])
        for strategy, needed in self._estimate(strategies, mixtures, images) if self.max_memory else remaining:
            if needed > self.max_memory:
                continue
            try:
                return self._compute_with(strategy, mixtures, images)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or strategy is strategies[-1]:
                    raise
            next_index = strategies.index(strategy) + 1
            # Remembered: the next decision would run out of memory in the same place.
            self._first_strategy[len(images)] = next_index
            _log.warning("out of memory: continuing with %s at a time", _describe(strategies[next_index], len(images)))
        raise self._memory_error(needed, images)

    def estimate_memory(self, mixtures: Sequence[Mixture | None], images: Tensor) -> int:
        """Estimate the bytes that ``compute_kernels`` takes at once, beside the network and the batch.

        Raises:
            ConfigError: ``max_memory`` is too little.
        """
        mixtures = [self._adapt_mixture(mixture) for mixture in mixtures]
        images = self._cast_images(images)
        if not mixtures:
            return 0
        for _, needed in self._estimate(self._list_strategies(mixtures, images), mixtures, images):
            if not self.max_memory or needed <= self.max_memory:
                return needed
        raise self._memory_error(needed, images)

    def _adapt_mixture(self, mixture: Mixture | None) -> Mixture | None:
        if mixture is None and isinstance(self.net, Supernet):
            mixture = self.net.initial_mixture()
        return self.proxy.adapt_mixture(mixture)

    def _cast_images(self, images: Tensor) -> Tensor:
        # float32 stands for the default precision: a network in float64 stays in float64, as with the plain engine.
        return images if self.dtype == torch.float32 else images.to(self.dtype)

    def _list_strategies(self, mixtures: Sequence[Mixture | None], images: Tensor) -> list[MemoryStrategy]:
        batch = len(images)
        strategies = [MemoryStrategy(True, batch), MemoryStrategy(False, batch)]
        if self._get_planner(batch, mixtures, images).graph.is_per_image:
            # Divisors of the batch only: a graph is built for one shape, so all parts have to be equal.
            strategies += [MemoryStrategy(False, part) for part in range(batch - 1, 0, -1) if batch % part == 0]
        return strategies

    def _estimate(
        self, strategies: Sequence[MemoryStrategy], mixtures: Sequence[Mixture | None], images: Tensor
    ) -> Iterator[tuple[MemoryStrategy, int]]:
        """Yield the remaining strategies with their estimated peak memory, all from the graph of the whole batch."""
        planner = self._get_planner(len(images), mixtures, images)
        plans: dict[bool, list[ExecutionPlan]] = {}
        for strategy in strategies[self._first_strategy.get(len(images), 0) :]:
            if strategy.share not in plans:
                plans[strategy.share] = list(_make_plans(planner, strategy, mixtures))
            packed_images = 0 if strategy.images == len(images) else len(images)
            threads = _choose_threads(planner, strategy, images)
            yield (
                strategy,
                max(
                    estimate_peak(plan, strategy.images, images.element_size(), threads)
                    + count_packed_bytes(plan, packed_images)
                    for plan in plans[strategy.share]
                ),
            )

    def _compute_with(
        self, strategy: MemoryStrategy, mixtures: Sequence[Mixture | None], images: Tensor
    ) -> KernelsAndFiniteness:
        planner = self._get_planner(strategy.images, mixtures, images)
        plans = list(_make_plans(planner, strategy, mixtures))
        if strategy.images == len(images):
            kernels, finite = self._compute_whole(planner, strategy, plans, images)
        else:
            kernels, finite = self._compute_parts(planner, strategy, plans, images)
        # The diagonal is the number of units that count.
        if len(kernels) < len(mixtures) or not all(bool(kernel[0, 0]) for kernel in kernels):
            raise self.proxy.no_relu_error(self.net)
        return kernels, finite

    def _compute_whole(
        self, planner: Planner, strategy: MemoryStrategy, plans: Sequence[ExecutionPlan], images: Tensor
    ) -> KernelsAndFiniteness:
        kernels: list[Tensor] = []
        finite: list[bool] = []
        threads = _choose_threads(planner, strategy, images)
        for plan in plans:
            accumulator, plan_finite = execute_plan(plan, planner.graph.output, images, threads)
            kernels += accumulator.compute_kernels()
            finite += plan_finite
        return kernels, finite

    def _compute_parts(
        self, planner: Planner, strategy: MemoryStrategy, plans: Sequence[ExecutionPlan], images: Tensor
    ) -> KernelsAndFiniteness:
        kernels: list[Tensor] = []
        finite: list[bool] = []
        signs = PackedSigns(len(images), max(count_packed_bytes(plan, 1) for plan in plans), images.device)
        for plan in plans:
            signs.clear()
            parts_finite = []
            for part in images.split(strategy.images):
                signs.begin_part(strategy.images)
                executor = PlanExecutor(plan, planner.graph.output, part, signs)
                executor.run_shared()
                # Also after a part that is not finite: the kernel counts all images, as by the other strategies.
                parts_finite.append(executor.run_own(0))
            kernels += signs.accumulate().compute_kernels()
            finite.append(all(map(bool, parts_finite)))
        return kernels, finite

    def _get_planner(self, batch: int, mixtures: Sequence[Mixture | None], images: Tensor) -> Planner:
        shape = (batch, *images.shape[1:])
        feed_zeros = any(mixture is not None and mixture.feed_zeros for mixture in mixtures)
        key = (shape, images.dtype, images.device, feed_zeros)
        if key not in self._planners:
            graph = build_graph(self.net, shape, images.dtype, images.device, self.proxy.is_counted, feed_zeros)
            self._planners[key] = Planner(self.net, rewrite_graph(graph))
        return self._planners[key]

    def _memory_error(self, needed: int, images: Tensor) -> ConfigError:
        return ConfigError(
            f"--max-memory {format_count(self.max_memory)} is too little: scoring {type(self.net).__name__} on "
            f"batches of {len(images)} images needs {format_count(needed, up=True)} bytes. Give that or more, or a "
            "smaller --batch-size."
        )


def _make_plans(
    planner: Planner, strategy: MemoryStrategy, mixtures: Sequence[Mixture | None]
) -> Iterator[ExecutionPlan]:
    if strategy.share:
        yield planner.plan(mixtures)
    else:
        yield from (planner.plan([mixture], share=False) for mixture in mixtures)


def _choose_threads(planner: Planner, strategy: MemoryStrategy, images: Tensor) -> int:
    is_divisible = planner.graph.is_per_image and strategy.images == len(images)
    return choose_threads(images) if is_divisible else 1


def _describe(strategy: MemoryStrategy, images: int) -> str:
    return "one mixture" if strategy.images == images else f"one mixture and {strategy.images} of {images} images"


def _is_out_of_memory(error: RuntimeError) -> bool:
    # torch has no error class of its own for the CPU's memory.
    return (
        isinstance(error, torch.cuda.OutOfMemoryError)
        or "not enough memory" in str(error)
        or ("can't allocate memory" in str(error))
    )
