"""Tracing any module gives the kernel of the plain engine, and leaves the module unchanged."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.zcpt.scoring.fast.conftest import (
    NASWOT,
    FunctionNetwork,
    assert_same_kernel,
    build_head,
    compute_fast_kernels,
    compute_plain_kernel,
    make_images,
)
from tests.zcpt.scoring.test_evaluator import copy_state, is_same_state
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.fast.operations import OpaqueModule
from zcpt.supernet import Stochastic


def conv(inputs: int = 3, outputs: int = 4, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, **{"padding": 1, **options})


def norm(channels: int = 4, **options: Any) -> Any:
    layer = nn.BatchNorm2d(channels, **options)
    with torch.no_grad():
        for tensor in [t for t in layer.state_dict().values() if t.is_floating_point()]:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return layer


def reuse_relu(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.second(net.relu(net.first(x))) - 0.1))


def use_functional_relu(net: Any, x: Any) -> Any:
    return net.head(net.relu(F.relu(net.first(x)) - 0.3) + torch.relu(x.mean(1, keepdim=True)).relu())


def add_residual(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    y = net.second(x)
    return net.head(torch.add(x, net.relu(y + x) + y, alpha=2) + x.add(y))


def concatenate(net: Any, x: Any) -> Any:
    x = net.first(x)
    halves = torch.cat([net.relu(x[:, :2]), x[:, 2:].contiguous()], 1)
    return net.head(net.relu(net.second(halves)) + torch.cat((x[:, 3:], x[:, :3]), dim=-3))


def split_in_chunks(net: Any, x: Any) -> Any:
    one, other = net.first(x).chunk(2, dim=1)
    third, fourth = torch.split(net.relu(one), 1, dim=1)
    return net.head(torch.cat([other, fourth, net.relu(third - 0.1)], 1))


def take_slices(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    return net.head(net.relu(x[..., ::2, ::2] + y[:, :, ::2, 1::2]) + net.relu(y[:, [2, 1, 0, 3], 1::2, ::2]))


def index_batch(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.first(x)[torch.tensor([1, 0, 3, 2, 5, 4])]))


def branch_on_data(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    if x.mean() > 0.01:
        x = net.relu(net.second(x))
    return net.head(x)


def convert_to_numpy(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    return net.head(net.relu(x - torch.from_numpy(x.detach().numpy()).mean()))


def write_in_place(net: Any, x: Any) -> Any:
    x = net.first(x)
    x += 0.1
    x.mul_(2)
    x[:, :1] = 0
    return net.head(net.relu(x) + net.second(x))


def overwrite_view(net: Any, x: Any) -> Any:
    x = net.first(x)
    flat = net.in_place(x[:, :2])
    return net.head(net.relu(x + 0.05) + flat.mean())


def overwrite_result(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = net.in_place(x)
    F.hardtanh(y, 0, 0.05, inplace=True)
    return net.head(net.relu(x - 0.1))


def clamp_in_place(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = F.hardtanh(x, -0.1, 0.1, inplace=True)
    return net.head(net.relu(x - 0.2) + y)


def overwrite_input(net: Any, x: Any) -> Any:
    y = net.in_place(x.view(x.shape))
    return net.head(net.relu(net.first(x + y)))


def pass_keywords(net: Any, x: Any) -> Any:
    x = F.conv2d(input=x, weight=net.first.weight, padding=1)
    return net.head(torch.cat(tensors=[net.relu(x), F.relu(input=x)], dim=1)[:, :4])


def loop_over_images(net: Any, x: Any) -> Any:
    return net.head(net.relu(torch.stack([F.conv2d(image, net.first.weight) for image in net.relu(x)])))


def mix_images(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.first(x - x.mean(0)).flip(0)))


def squeeze_and_excite(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    gate = torch.sigmoid(x.mean((2, 3), keepdim=True) - 0.2)
    return net.head(net.relu(x * gate - 0.1))


def use_custom_gradient(net: Any, x: Any) -> Any:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

    return net.head(net.relu(Double.apply(net.first(x)) - 0.3))


FUNCTIONS = [
    reuse_relu, use_functional_relu, add_residual, concatenate, split_in_chunks, take_slices, index_batch,
    branch_on_data, convert_to_numpy, write_in_place, overwrite_view, overwrite_result, clamp_in_place, overwrite_input,
    pass_keywords, loop_over_images, mix_images, squeeze_and_excite, use_custom_gradient,
]  # fmt: skip


class SharedModules(nn.Module):
    """Has a module that never runs, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unused, self.again = conv(), nn.Sequential(conv(), nn.ReLU()), conv(4)
        self.block = nn.Sequential(nn.ReLU(), self.again, norm())
        self.head = build_head()

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return self.head(self.block(self.block(x) + self.again(x)))


class Noisy(Stochastic):
    def forward(self, x: Any) -> Any:
        return x + self.normal_like(x)


def build_hooked_network() -> Any:
    net = nn.Sequential(conv(), nn.ReLU(), conv(4), nn.ReLU(), build_head())
    net[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] - 0.2,))
    net[2].register_forward_hook(lambda module, inputs, output: output * 2 + inputs[0])
    return net


def build_parametrized_network(kind: Any) -> Any:
    layer = conv(3, 4)
    with torch.no_grad():
        return nn.Sequential(getattr(parametrizations, kind)(layer), norm(), nn.ReLU(), build_head())


def build_network(*modules: Any, channels: int = 4) -> Any:
    return nn.Sequential(conv(), *modules, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


NETWORKS = {
    "shared and unused modules": SharedModules,
    "batch statistics": lambda: build_network(norm(), norm(track_running_stats=False), nn.ReLU(), conv(4)),
    "scale without convolution": lambda: build_network(nn.ReLU(), norm(), nn.ReLU6(), norm(affine=False)),
    "in-place relu": lambda: build_network(norm(), nn.ReLU(inplace=True), conv(4), nn.ReLU6(inplace=True)),
    "in-place relu first": lambda: nn.Sequential(nn.ReLU(inplace=True), conv(), nn.ReLU(), build_head()),
    "same": lambda: build_network(conv(4, padding="same", dilation=2), norm()),
    "reflected": lambda: build_network(conv(4, padding_mode="reflect"), norm()),
    "grouped": lambda: build_network(
        conv(4, 8, groups=2, bias=False), norm(8), nn.ReLU(), conv(8, 4, stride=2, groups=4)
    ),
    "oblong windows": lambda: build_network(
        nn.Conv2d(4, 4, (3, 1), (2, 1), (1, 0), (1, 2)), nn.AvgPool2d((1, 3), (2, 1), (0, 1))
    ),
    "transposed": lambda: build_network(nn.ConvTranspose2d(4, 4, 3, 2), norm()),
    "other activations": lambda: build_network(
        nn.SiLU(), conv(4), nn.Hardtanh(-0.5, 0.5), conv(4), nn.Hardtanh(0, 0.2), nn.PReLU(), nn.GELU()
    ),
    "in-place activations": lambda: build_network(
        nn.SiLU(inplace=True), conv(4), nn.ELU(inplace=True), nn.Hardswish(True)
    ),
    "pools": lambda: build_network(
        nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, ceil_mode=True), nn.MaxPool2d(2, ceil_mode=True), nn.LPPool2d(2, 2)
    ),
    "dropout": lambda: build_network(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()),
    "group norm": lambda: build_network(nn.GroupNorm(2, 4), nn.ReLU(), nn.InstanceNorm2d(4), nn.LocalResponseNorm(2)),
    "flat head": lambda: nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 9), nn.ReLU(), nn.Linear(9, 2)),
    "norm of vectors": lambda: nn.Sequential(conv(), nn.Flatten(), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 9)),
    "3d convolution": lambda: nn.Sequential(
        conv(), nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, 1), nn.ReLU(), nn.Flatten()
    ),
    "noise": lambda: build_network(nn.ReLU(), Noisy(), norm()),
    "hooks": build_hooked_network,
    "weight norm": lambda: build_parametrized_network("weight_norm"),
    "spectral norm": lambda: build_parametrized_network("spectral_norm"),
    "orthogonal": lambda: build_parametrized_network("orthogonal"),
    "pixel shuffle": lambda: build_network(
        nn.PixelShuffle(2), conv(1, 4), nn.ChannelShuffle(2), nn.Upsample(scale_factor=2)
    ),
}


def assert_same_as_plain(net: Any, images: Any) -> None:
    for module in net.modules():
        if isinstance(module, Stochastic):
            module.seed = 3
    with torch.no_grad():
        net.eval()(images.clone())  # the first call of a parametrization may change its buffers
    twin = copy.deepcopy(net)
    before = copy_state(net)
    (kernel,) = compute_fast_kernels(net, images)
    assert is_same_state(copy_state(net), before)
    assert_same_kernel(kernel, compute_plain_kernel(twin, images), share=0)


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["channels first", "channels last"]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_any_modules_equal_those_of_the_plain_engine(name: Any, layout: Any) -> None:
    net = NETWORKS[name]()
    if name != "3d convolution":
        net = net.to(memory_format=layout)
    assert_same_as_plain(net, make_images().contiguous(memory_format=layout))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_kernels_of_any_forward_pass_equal_those_of_the_plain_engine(function: Any) -> None:
    net = FunctionNetwork(
        function, first=conv(), second=conv(4), relu=nn.ReLU(), in_place=nn.ReLU(inplace=True), head=build_head()
    )
    assert_same_as_plain(net, make_images())


def find_opaque_values(net: Any, images: Any) -> Any:
    fast = FastEvaluator(net.eval(), NASWOT)
    with torch.no_grad():
        fast.compute_kernels([None], images)
    (planner,) = fast._planners.values()
    return [value for value in planner.graph.values if isinstance(value.op, OpaqueModule)]


def test_only_what_cannot_be_traced_is_opaque() -> None:
    net = FunctionNetwork(branch_on_data, first=conv(), second=conv(4), relu=nn.ReLU(), head=build_head())
    assert len(find_opaque_values(net, make_images())) == 1
    assert not find_opaque_values(
        build_network(norm(), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout()), make_images()
    )


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [BrokenError, RuntimeError, KeyError])
def test_an_error_of_a_module_is_raised_and_the_network_left_unchanged(error: Any) -> None:
    def fail(net: Any, x: Any) -> None:
        x = net.relu(net.first(x))
        raise error("of the module")

    net = FunctionNetwork(fail, first=conv(), relu=nn.ReLU())
    before = copy_state(net.eval())
    with pytest.raises(error, match="of the module"):
        compute_fast_kernels(net, make_images())
    assert is_same_state(copy_state(net), before)


def test_an_error_that_depends_on_the_images_is_raised() -> None:
    def fail(net: Any, x: Any) -> Any:
        if x.max() > 2:
            raise BrokenError
        return net.head(net.relu(net.first(x)))

    net = FunctionNetwork(fail, first=conv(), relu=nn.ReLU(), head=build_head())
    before = copy_state(net.eval())
    with pytest.raises(BrokenError):
        compute_fast_kernels(net, make_images())
    assert is_same_state(copy_state(net), before)
    assert_same_as_plain(net, make_images() * 0.1)


@pytest.mark.filterwarnings("ignore")
def test_compiled_modules_give_the_same_kernel() -> None:
    net: Any = build_network(norm())
    expected = compute_plain_kernel(net, make_images())
    torch.compiler.reset()
    for whole in (
        torch.compile(net, backend="eager"),
        nn.Sequential(cast(nn.Module, torch.compile(net[:4], backend="eager")), net[4:]),
    ):
        assert_same_kernel(compute_fast_kernels(whole, make_images())[0], expected)


def test_scripted_modules_give_the_same_kernel() -> None:
    net = build_network(norm())
    with torch.no_grad():
        scripted = nn.Sequential(torch.jit.trace(net[0].eval(), make_images()), *net[1:])
    assert_same_kernel(compute_fast_kernels(scripted, make_images())[0], compute_plain_kernel(net, make_images()))
