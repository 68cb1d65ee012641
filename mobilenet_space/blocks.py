"""Candidate operations of chain spaces, with their parameters and MACs by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor, nn

from zcpt.cost import Block, Cost, HeightWidth, compute_output_size, conv_cost, measure_cost, norm_cost
from zcpt.errors import SpaceError
from zcpt.layers import DropPath
from zcpt.registry import Registry

Activation = Callable[[], nn.Module]
"""Class of an activation, for example ``nn.ReLU6``."""


@dataclass(frozen=True)
class Layer:
    """Channels, stride and input size of one layer of a chain. They are the same for all candidates."""

    in_channels: int
    out_channels: int
    stride: int
    input_size: HeightWidth
    """Height and width of the input."""

    @property
    def output_size(self) -> HeightWidth:
        """Height and width of the output."""
        return compute_output_size(self.input_size, self.stride)

    @property
    def keeps_shape(self) -> bool:
        """Whether the output has the shape of the input."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def build_next(self, out_channels: int, stride: int = 1) -> Layer:
        """Return the layer of these channels that reads the output of this one."""
        return Layer(self.out_channels, out_channels, stride, self.output_size)


# No class here may have 'ReLU' in its name: the proxy ``naswot-official`` counts modules by their class names, as the
# published code does, and would count this one and the ReLU in it.
class ConvNorm(nn.Sequential):
    """Convolution (padded to keep the size at stride 1), BatchNorm, and an activation if one is given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = None,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        # With parameters in supernets too, unlike in DARTS: ProxylessNAS' supernets have them. Fresh ones (weight 1,
        # bias 0) change no output.
        super().__init__(conv, nn.BatchNorm2d(out_channels), *([activation()] if activation else []))

    @staticmethod
    def cost(in_channels: int, out_channels: int, kernel: int, size: HeightWidth, groups: int = 1) -> Cost:
        """Compute the cost with an output of height and width ``size``."""
        return conv_cost(in_channels, out_channels, kernel, size, groups) + norm_cost(out_channels)


class MBConv(nn.Module):
    """MobileNetV2's inverted residual: expand by a 1x1, depthwise convolution, project by a 1x1 without activation.

    If the layer keeps the shape, the input is added, and drop path can drop the branch for some images. In other layers
    the branch is all that the block computes, so it is never dropped.
    """

    def __init__(self, layer: Layer, kernel: int, expansion: int, activation: Activation, drop_path: bool) -> None:
        super().__init__()
        hidden = expansion * layer.in_channels
        expand = [] if expansion == 1 else [ConvNorm(layer.in_channels, hidden, 1, activation=activation)]
        self.branch = nn.Sequential(
            *expand,
            ConvNorm(hidden, hidden, kernel, layer.stride, groups=hidden, activation=activation),
            ConvNorm(hidden, layer.out_channels, 1),
        )
        self.residual = layer.keeps_shape
        self.drop = DropPath() if drop_path and self.residual else nn.Identity()

    def forward(self, x: Tensor, blocked: bool = False) -> Tensor:
        """Apply the block. ``blocked`` feeds it zeros, as the published search on NAS-Bench-Macro does when masking."""
        x = x * 0 if blocked else x
        output: Tensor = self.branch(x)
        return x + self.drop(output) if self.residual else output

    @staticmethod
    def cost(layer: Layer, kernel: int, expansion: int) -> Cost:
        """Compute the cost at the position of ``layer``."""
        hidden = expansion * layer.in_channels
        # The stride is in the depthwise convolution: the expansion still works on maps of the input size.
        expand = Cost() if expansion == 1 else ConvNorm.cost(layer.in_channels, hidden, 1, layer.input_size)
        depthwise = ConvNorm.cost(hidden, hidden, kernel, layer.output_size, groups=hidden)
        return expand + depthwise + ConvNorm.cost(hidden, layer.out_channels, 1, layer.output_size)


BuildOperation = Callable[[Layer, Activation, bool], nn.Module]
"""Function or class that builds an operation from (layer, activation, whether to add drop path)."""
Builder = TypeVar("Builder", bound=BuildOperation)


@dataclass(frozen=True)
class ChainOperation:
    """Candidate operation of chains."""

    build: BuildOperation
    cost: Callable[[Layer], Cost] | None = None
    """Function from the layer to the cost. None measures the module."""


def make_mb_conv(kernel: int, expansion: int) -> ChainOperation:
    """Return the MBConv with a kernel size and an expansion as a candidate operation."""
    return ChainOperation(
        lambda layer, activation, drop_path: MBConv(layer, kernel, expansion, activation, drop_path),
        lambda layer: MBConv.cost(layer, kernel, expansion),
    )


def _build_identity(layer: Layer, activation: Activation, drop_path: bool) -> nn.Module:
    # NAS-Bench-Macro has an identity in layers of stride 2 too; ProxylessNAS has it only where the shape stays.
    return nn.Identity() if layer.keeps_shape else ConvNorm(layer.in_channels, layer.out_channels, 1, layer.stride)


def _compute_identity_cost(layer: Layer) -> Cost:
    return Cost() if layer.keeps_shape else ConvNorm.cost(layer.in_channels, layer.out_channels, 1, layer.output_size)


IDENTITY = "identity"
"""Identity; if the shape changes, a 1x1 convolution with the stride, and BatchNorm."""
MB_CONVS = {
    f"mb_k{kernel}_e{expansion}": make_mb_conv(kernel, expansion) for kernel in (3, 5, 7) for expansion in (3, 6)
}
OPERATIONS: Registry[ChainOperation] = Registry(
    "operation", SpaceError, own={**MB_CONVS, IDENTITY: ChainOperation(_build_identity, _compute_identity_cost)}
)


def register_operation(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a class or function that builds a candidate operation of chain spaces.

    It is called with the ``Layer`` (channels in and out, stride, size of the maps), the class of the activation, and
    whether to add drop path. Its cost is measured on the module.

    Raises:
        SpaceError: The name is taken.
    """
    return OPERATIONS.decorator(name, convert=ChainOperation)


def layer_block(name: str, layer: Layer, cost: Cost, build: Callable[[], nn.Module]) -> Block:
    """Return the block at the position of ``layer`` in a discrete network."""
    return Block(name, layer.in_channels, layer.out_channels, layer.stride, layer.input_size, cost, build)


def operation_block(name: str, layer: Layer, activation: Activation) -> Block:
    """Return the block of a candidate operation at the position of ``layer``."""
    operation = OPERATIONS[name]
    build = partial(operation.build, layer, activation, True)
    cost = operation.cost(layer) if operation.cost else measure_cost(build, layer.in_channels, *layer.input_size)
    return layer_block(name, layer, cost, build)
