"""Processes that share a training: which images are whose, and layers whose values do not depend on their number."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from zcpt.errors import LostError, is_out_of_memory
from zcpt.layers import DropPath
from zcpt.processes import LOST, ProcessGroup
from zcpt.seeding import use_seed

MIN_IMAGES = 2
"""Fewest images of a process in a training batch: the BatchNorms on 1x1 maps need two."""


@dataclass(frozen=True)
class Share:
    """Part of one of several processes in all batches of a training.

    A global batch of B images is cut into consecutive parts, whose sizes differ by at most one.
    """

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes."""

    def find_part(self, size: int) -> range:
        """Return the positions of this process's images in a global batch of ``size`` images."""
        return range(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def count_batches(self, images: int, batch_size: int) -> int:
        """Return the number of global training batches of an epoch.

        A last, smaller batch is left out if a process would have fewer than ``MIN_IMAGES`` of it.
        """
        full, rest = divmod(images, batch_size)
        return full + (rest // self.world >= MIN_IMAGES)

    def compute_weight(self, count: int, size: int) -> float:
        """Return the weight of the mean loss over ``count`` images of a global batch of ``size`` images.

        Summed over the parts of a process and averaged over processes, the weighted losses, and so their gradients,
        are the mean over the global batch.
        """
        return count * self.world / size


SINGLE_SHARE = Share()
"""All images, for a training of one process."""


@dataclass
class BatchPart:
    """Images of the global batch that are in the network now."""

    start: int = 0
    """Position of the first of them."""
    size: int = 0
    """Number of images of the global batch; 0 outside of training batches, where all images are in the network."""

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Draw numbers from 0 to 1 for the global batch, and return those of the images in the network.

        So masks do not depend on the number of processes, if their generators have the same state. In float32 also
        under bf16: with its eight bits of precision a probability would be a different one.
        """
        numbers = torch.rand(self.size or shape[0], *shape[1:], device=device)
        return numbers[self.start : self.start + shape[0]]


class _BatchDropPath(DropPath):
    """Drop path with one mask for the images of all processes."""

    def __init__(self, layer: DropPath, part: BatchPart) -> None:
        super().__init__()
        self.probability = layer.probability
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.probability
        return x * ((self.part.draw((len(x), 1, 1, 1), x.device) < keep) / keep).to(x.dtype)


class _BatchDropout(nn.Dropout):
    """Dropout with one mask for the images of all processes."""

    def __init__(self, layer: nn.Dropout, part: BatchPart) -> None:
        super().__init__(layer.p)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        return x * ((self.part.draw(tuple(x.shape), x.device) >= self.p) / (1 - self.p)).to(x.dtype)


class _SyncBatchNorm(_BatchNorm):
    """BatchNorm over the images of all processes, on any device: torch's SyncBatchNorm refuses CPUs."""

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            output: Tensor = super().forward(x)
            return output
        is_half = x.dtype in (torch.bfloat16, torch.float16)
        values = x.float() if is_half else x  # the sums of many bf16 numbers would be coarse
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        local = x.numel() // x.shape[1]
        sums = all_reduce(torch.cat([values.sum(dims), values.new_tensor([local])]))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        # Not the mean of the squares minus the square of the mean, which loses all digits where the mean is large.
        var = all_reduce(centred.square().sum(dims)) / count
        self._track(mean.detach(), (var * count / (count - 1)).detach())
        normalised = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        synchronized: Tensor = normalised.to(x.dtype)
        return synchronized

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Update the running statistics."""
        # None is how ``zcpt.staged_network`` keeps a second run of a checkpointed block from counting.
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)


def share_random_layers(network: nn.Module, part: BatchPart) -> None:
    """Let drop path and dropout draw for the global batch and take the ``part`` that is in the network."""
    _replace_layers(network, DropPath, lambda layer: _BatchDropPath(layer, part))
    _replace_layers(network, nn.Dropout, lambda layer: _BatchDropout(layer, part))


def synchronize_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with BatchNorms over the images of all processes; names and weights stay the same."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    _replace_layers(network, _BatchNorm, _SyncBatchNorm)
    return network


def has_unused_weights(network: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Return whether some weights get no gradient, as behind 'none' operations.

    Args:
        network: Network in the state in which it is trained; a copy of it is run.
        image_shape: Channels, height and width of the images.
    """
    trial = copy.deepcopy(network).train()
    _run_backward(trial, image_shape)
    return any(weight.grad is None for weight in trial.parameters())


def settle_buckets(network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Run one backward pass of a DistributedDataParallel network, and leave no trace in it.

    After its first backward pass DistributedDataParallel sorts the gradients anew into buckets. With three processes or
    more, sums have another order of terms then, so a resumed training would differ by rounding from an uninterrupted
    one unless both have sorted them before their first batch.
    """
    before = [buffer.clone() for buffer in network.buffers()]
    _run_backward(network.train(), image_shape)
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)
    network.zero_grad()


def _run_backward(network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Compute the gradients of the sum of all outputs for black images."""
    with use_seed(0):
        outputs = network(torch.zeros(MIN_IMAGES, *image_shape, device=next(network.parameters()).device))
        sums = [output.sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
        torch.stack(sums).sum().backward()


def _replace_layers(network: nn.Module, kind: type[Any], build: Callable[[Any], nn.Module]) -> None:
    for module in network.modules():
        for name, layer in list(module.named_children()):
            if isinstance(layer, kind):
                setattr(module, name, build(layer).train(layer.training))


@contextmanager
def name_lost_processes(processes: ProcessGroup) -> Iterator[None]:
    """Raise LostError if, inside the block, an exchange of gradients fails because another process has died.

    An error of this process's own is not sent to the others, which may wait for its gradients: it leaves them, and they
    find the connection closed.
    """
    with processes.leave_on_error():
        try:
            yield
        except RuntimeError as error:
            if processes.size == 1 or is_out_of_memory(error) or not _is_connection_error(error):
                raise
            raise LostError(f"{LOST}.") from error


def _is_connection_error(error: RuntimeError) -> bool:
    texts = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe")
    return isinstance(error, dist.DistError) or any(text in str(error) for text in texts)
