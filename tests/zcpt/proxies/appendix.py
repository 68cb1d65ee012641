"""A small network and two batches, all filled with sines, on which published implementations were run.

Tensors are filled in C order by formulas of the index k = 0, 1, 2, ..., computed in float64 and then rounded. The
values that the tests expect are those of the authors' own code on this network.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from zcpt import Batch

SEEDS = (
    "epe_nas",
    "fisher",
    "grad_norm",
    "grasp",
    "jacob_cov",
    "l2_norm",
    "lnwot",
    "logsynflow",
    "macs",
    "naswot",
    "naswot-batch",
    "naswot-official",
    "params",
    "plain",
    "snip",
    "snr_snip",
    "snr_synflow",
    "synflow",
    "synflow_bn",
    "tcet_snip",
    "tcet_synflow",
)
"""The proxies tested together here; every other proxy has tests of its own."""
CONV1, CONV2, LINEAR = LAYERS = ("0", "3", "8")
"""Names of the layers with weights."""


def fill_tensor(shape: tuple[int, ...], formula: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a tensor of that shape, float32."""
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return formula(k).reshape(shape).float()


def _sine(size: float, step: float, start: float, k: Tensor) -> Tensor:
    return size * torch.sin(step * k + start)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Build conv 3->4, BN, ReLU, conv 4->6 of stride 2, BN, ReLU, global average, linear 6->5; 385 parameters."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    with torch.no_grad():
        for name, size, step, start in (
            ("0.weight", 0.5, 1.3, 0.2),
            ("3.weight", 0.4, 0.9, 0.5),
            ("3.bias", 0.1, 0.7, 0.1),
            ("8.weight", 0.6, 1.1, 0.3),
            ("8.bias", 0.1, 0.8, 0.4),
        ):
            tensor = net.get_parameter(name)
            tensor.copy_(fill_tensor(tensor.shape, partial(_sine, size, step, start)))
    return net.to(dtype)


def batch(offset: float = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """Return 8 images 3x8x8 of 5 classes; the second batch has the offset 1."""
    images = fill_tensor((8, 3, 8, 8), lambda k: torch.cos(0.37 * k + offset) + 0.5 * torch.sin(0.011 * k))
    return Batch(images.to(dtype), torch.arange(8) % 5)


def both_batches() -> Batch:
    """Return the first and the second batch as one of 16 images."""
    one, other = batch(), batch(1)
    return Batch(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))
