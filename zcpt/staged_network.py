"""Base class of discrete networks that are a row of blocks, global pooling and a linear classifier."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from zcpt.errors import ConfigError
from zcpt.layers import AuxiliaryHead, DropPathNetwork, build_classifier, set_drop_path

Level = tuple[str, int, int]
"""Block of a network: path of its module, channels of its output, and by how much its output is smaller."""


class StagedNetwork(DropPathNetwork):
    """Discrete network that is a row of blocks, each of which reads the one before it or the two before it.

    A subclass builds its blocks, implements ``forward_blocks`` and calls ``_add_head`` at the end of its ``__init__``.
    The methods are those of a timm model.
    """

    __constants__ = ("grad_checkpointing",)  # torch.jit.script leaves out the branch that it cannot compile

    def __init__(self) -> None:
        super().__init__()
        self.grad_checkpointing = False

    def _add_head(
        self, levels: Iterable[Level], num_classes: int, auxiliary_after: int, auxiliary: bool, features: int = 0
    ) -> None:
        """Add the classifier and the auxiliary head.

        Args:
            levels: All blocks, from the first to the last.
            num_classes: Number of classes.
            auxiliary_after: Index of the block that the auxiliary head reads.
            auxiliary: Whether there is an auxiliary head.
            features: Channels of ``forward_features``; 0 means those of the last block.
        """
        levels = list(levels)
        self.block_paths = [path for path, _, _ in levels]
        self.num_features = self.head_hidden_size = features or levels[-1][1]
        self.num_classes = num_classes
        self.pool_type, self.global_pool = "avg", build_global_pool("avg")
        self.dropout = nn.Dropout(0.0)
        self.classifier: nn.Module = nn.Linear(self.num_features, num_classes)
        self.auxiliary_after = auxiliary_after
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            self.auxiliary = AuxiliaryHead(levels[auxiliary_after][1], num_classes)
        # The last block of each size of maps, as timm describes it, and its index.
        self.feature_info: list[dict[str, Any]] = [
            {"module": path, "num_chs": channels, "reduction": reduction, "block": index}
            for index, (path, channels, reduction) in enumerate(levels)
            if index + 1 == len(levels) or levels[index + 1][2] != reduction
        ]

    @abstractmethod
    def forward_blocks(self, images: Tensor, kept: list[int]) -> tuple[Tensor, list[Tensor]]:
        """Run all blocks.

        Args:
            images: [B, C, H, W].
            kept: Indices of blocks, in increasing order.

        Returns:
            The last maps [B, F, h, w], and the outputs of the blocks in ``kept``.
        """

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.auxiliary is None or not self.training:
            maps, _ = self.forward_blocks(images, [])
            return self.forward_head(maps)
        maps, kept = self.forward_blocks(images, [self.auxiliary_after])
        return self.forward_head(maps), self.auxiliary(kept[0])

    def forward_features(self, images: Tensor) -> Tensor:
        maps, _ = self.forward_blocks(images, [])
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        features: Tensor = self.dropout(self.global_pool(maps))
        if pre_logits:
            return features
        logits: Tensor = self.classifier(features)
        return logits

    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the last maps of each size, as in timm.

        Args:
            images: [B, C, H, W].
            indices: Indices in ``feature_info``; a number takes that many from the end, None all.
            norm: Without effect: the blocks normalise their output themselves.
            stop_early: Without effect: the network is run to the end.
            output_fmt: Layout of the maps; there is one.
            intermediates_only: Return the maps only, without the output of ``forward_features``.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt must be 'NCHW', not {output_fmt!r}.")
        blocks = [self.feature_info[index]["block"] for index in take_indices(len(self.feature_info), indices)]
        maps, kept = self.forward_blocks(images, sorted(set(blocks)))
        values = dict(zip(sorted(set(blocks)), kept, strict=True))
        intermediates = [values[block] for block in blocks]
        return intermediates if intermediates_only else (maps, intermediates)

    def set_rising_drop_path(self, probability: float) -> None:
        for index, path in enumerate(self.block_paths):
            # The last block has less than the whole, as in timm's EfficientNets.
            set_drop_path(self.get_submodule(path), probability * index / len(self.block_paths))

    def set_dropout(self, probability: float) -> None:
        self.dropout.p = probability

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        pool_type = self.pool_type if global_pool is None else global_pool
        if num_classes and not pool_type:
            raise ConfigError(f"{num_classes} classes need a global pooling, for example 'avg'.")
        if pool_type != self.pool_type:
            self.pool_type, self.global_pool = pool_type, build_global_pool(pool_type)
        self.head_hidden_size = self.num_features * (2 if pool_type.endswith("catavgmax") else 1)
        weight = next(self.parameters())
        self.num_classes = num_classes
        self.classifier = build_classifier(self.head_hidden_size, num_classes, weight)
        if self.auxiliary is not None:
            self.auxiliary.reset_classifier(num_classes)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the blocks behind the last of some feature maps, and the classifier, as in timm.

        Args:
            indices: Indices in ``feature_info``, as for ``forward_intermediates``.
            prune_norm: Without effect.
            prune_head: Whether to remove the classifier.

        Returns:
            The indices as a list of numbers from 0.
        """
        taken = take_indices(len(self.feature_info), indices)
        last, blocks = self.feature_info[max(taken)], self.feature_info[-1]["module"].partition(".")[0]
        if last is not self.feature_info[-1]:
            name, _, index = last["module"].partition(".")
            setattr(self, blocks, getattr(self, blocks)[: int(index) + 1 if name == blocks else 0])
            self.head = nn.Sequential()
            self.num_features = last["num_chs"]
            prune_head = True
        if prune_head:
            self.auxiliary = None
            self.reset_classifier(0, "")
        return taken

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that are never decayed: none. Optimisers may leave out biases and norms."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return the patterns that sort parameters by blocks, for learning rates that grow with the depth."""
        return {"stem": r"^stem", "blocks": r"^(?:cells|blocks|layers)\.(\d+)"}


def build_global_pool(name: str) -> nn.Module:
    """Return the global pooling of that name in timm: 'avg', 'max', 'avgmax', 'catavgmax'; '' pools nothing."""
    if not name:
        return nn.Identity()
    if name == "avg":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    from timm.layers import SelectAdaptivePool2d  # imports all of timm, which takes seconds

    try:
        pool: nn.Module = SelectAdaptivePool2d(pool_type=name, flatten=True)
    except AssertionError:
        raise ConfigError(f"global_pool must be 'avg', 'max', 'avgmax', 'catavgmax' or '', not {name!r}.") from None
    return pool


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return indices below ``count``, as timm reads them: a number takes that many from the end, None takes all."""
    wanted = range(-indices, 0) if isinstance(indices, int) else range(count) if indices is None else indices
    if not wanted or not all(-count <= index < count for index in wanted):
        raise ConfigError(f"there are {count} sizes of maps, so indices {indices} do not exist.")
    return [index % count for index in wanted]


def run_checkpointed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a block without storing what is inside; the backward pass computes it again.

    Its BatchNorms update their statistics in the first run only, so that they are those of training without this.
    """
    if not torch.is_grad_enabled():
        output: Tensor = block(*inputs)
        return output
    if torch.compiler.is_compiling():  # a compiled block computes statistics once, and takes no context_fn
        compiled: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        return compiled
    contexts = nullcontext(), _keep_statistics(block)
    recomputed: Tensor = checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: contexts)
    return recomputed


@contextmanager
def _keep_statistics(block: nn.Module) -> Iterator[None]:
    """Let the BatchNorms of a block leave their running statistics as they are, also in training mode."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    state = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, state, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
