"""Tracing modules: whatever they do, the kernel is that of the plain engine, and they are left unchanged."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.zcpt.scoring.fast.conftest import NASWOT, Calls, assert_same_kernel, fast_kernels, head, images, plain_kernel
from tests.zcpt.scoring.test_evaluator import same, snapshot
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


def relus_twice(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.second(net.relu(net.first(x))) - 0.1))


def functional_relu(net: Any, x: Any) -> Any:
    return net.head(net.relu(F.relu(net.first(x)) - 0.3) + torch.relu(x.mean(1, keepdim=True)).relu())


def residual(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    y = net.second(x)
    return net.head(torch.add(x, net.relu(y + x) + y, alpha=2) + x.add(y))


def joined(net: Any, x: Any) -> Any:
    x = net.first(x)
    halves = torch.cat([net.relu(x[:, :2]), x[:, 2:].contiguous()], 1)
    return net.head(net.relu(net.second(halves)) + torch.cat((x[:, 3:], x[:, :3]), dim=-3))


def chunks(net: Any, x: Any) -> Any:
    one, other = net.first(x).chunk(2, dim=1)
    third, fourth = torch.split(net.relu(one), 1, dim=1)
    return net.head(torch.cat([other, fourth, net.relu(third - 0.1)], 1))


def sliced(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    return net.head(net.relu(x[..., ::2, ::2] + y[:, :, ::2, 1::2]) + net.relu(y[:, [2, 1, 0, 3], 1::2, ::2]))


def picked(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.first(x)[torch.tensor([1, 0, 3, 2, 5, 4])]))


def depends_on_data(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    if x.mean() > 0.01:
        x = net.relu(net.second(x))
    return net.head(x)


def by_way_of_numpy(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    return net.head(net.relu(x - torch.from_numpy(x.detach().numpy()).mean()))


def in_place(net: Any, x: Any) -> Any:
    x = net.first(x)
    x += 0.1
    x.mul_(2)
    x[:, :1] = 0
    return net.head(net.relu(x) + net.second(x))


def writes_over_a_view(net: Any, x: Any) -> Any:
    x = net.first(x)
    flat = net.in_place(x[:, :2])
    return net.head(net.relu(x + 0.05) + flat.mean())


def writes_over_its_result(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = net.in_place(x)
    F.hardtanh(y, 0, 0.05, inplace=True)
    return net.head(net.relu(x - 0.1))


def clamps_in_place(net: Any, x: Any) -> Any:
    x = net.first(x)
    y = F.hardtanh(x, -0.1, 0.1, inplace=True)
    return net.head(net.relu(x - 0.2) + y)


def writes_over_what_it_reads(net: Any, x: Any) -> Any:
    y = net.in_place(x.view(x.shape))
    return net.head(net.relu(net.first(x + y)))


def called_by_names(net: Any, x: Any) -> Any:
    x = F.conv2d(input=x, weight=net.first.weight, padding=1)
    return net.head(torch.cat(tensors=[net.relu(x), F.relu(input=x)], dim=1)[:, :4])


def image_by_image(net: Any, x: Any) -> Any:
    return net.head(net.relu(torch.stack([F.conv2d(image, net.first.weight) for image in net.relu(x)])))


def across_the_batch(net: Any, x: Any) -> Any:
    return net.head(net.relu(net.first(x - x.mean(0)).flip(0)))


def squeezed(net: Any, x: Any) -> Any:
    x = net.relu(net.first(x))
    gate = torch.sigmoid(x.mean((2, 3), keepdim=True) - 0.2)
    return net.head(net.relu(x * gate - 0.1))


def custom_gradient(net: Any, x: Any) -> Any:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

    return net.head(net.relu(Double.apply(net.first(x)) - 0.3))


FUNCTIONS = [
    relus_twice, functional_relu, residual, joined, chunks, sliced, picked, depends_on_data, by_way_of_numpy, in_place,
    writes_over_a_view, writes_over_its_result, clamps_in_place, writes_over_what_it_reads, called_by_names,
    image_by_image, across_the_batch, squeezed, custom_gradient,
]  # fmt: skip


class Counting(nn.Module):
    """Has a module that never runs, and one that serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unused, self.again = conv(), nn.Sequential(conv(), nn.ReLU()), conv(4)
        self.block = nn.Sequential(nn.ReLU(), self.again, norm())
        self.head = head()

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return self.head(self.block(self.block(x) + self.again(x)))


class Noisy(Stochastic):
    def forward(self, x: Any) -> Any:
        return x + self.normal_like(x)


def with_hooks() -> Any:
    net = nn.Sequential(conv(), nn.ReLU(), conv(4), nn.ReLU(), head())
    net[1].register_forward_pre_hook(lambda module, given: (given[0] - 0.2,))
    net[2].register_forward_hook(lambda module, given, output: output * 2 + given[0])
    return net


def parametrized(kind: Any) -> Any:
    layer = conv(3, 4)
    with torch.no_grad():
        return nn.Sequential(getattr(parametrizations, kind)(layer), norm(), nn.ReLU(), head())


def row(*modules: Any, channels: int = 4) -> Any:
    return nn.Sequential(conv(), *modules, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


NETWORKS = {
    "shared and unused modules": Counting,
    "batch statistics": lambda: row(norm(), norm(track_running_stats=False), nn.ReLU(), conv(4)),
    "scale without convolution": lambda: row(nn.ReLU(), norm(), nn.ReLU6(), norm(affine=False)),
    "in-place relu": lambda: row(norm(), nn.ReLU(inplace=True), conv(4), nn.ReLU6(inplace=True)),
    "in-place relu first": lambda: nn.Sequential(nn.ReLU(inplace=True), conv(), nn.ReLU(), head()),
    "same": lambda: row(conv(4, padding="same", dilation=2), norm()),
    "reflected": lambda: row(conv(4, padding_mode="reflect"), norm()),
    "grouped": lambda: row(conv(4, 8, groups=2, bias=False), norm(8), nn.ReLU(), conv(8, 4, stride=2, groups=4)),
    "oblong": lambda: row(nn.Conv2d(4, 4, (3, 1), (2, 1), (1, 0), (1, 2)), nn.AvgPool2d((1, 3), (2, 1), (0, 1))),
    "transposed": lambda: row(nn.ConvTranspose2d(4, 4, 3, 2), norm()),
    "other activations": lambda: row(
        nn.SiLU(), conv(4), nn.Hardtanh(-0.5, 0.5), conv(4), nn.Hardtanh(0, 0.2), nn.PReLU(), nn.GELU()
    ),
    "in-place activations": lambda: row(nn.SiLU(inplace=True), conv(4), nn.ELU(inplace=True), nn.Hardswish(True)),
    "pools": lambda: row(
        nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, ceil_mode=True), nn.MaxPool2d(2, ceil_mode=True), nn.LPPool2d(2, 2)
    ),
    "dropout": lambda: row(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()),
    "group norm": lambda: row(nn.GroupNorm(2, 4), nn.ReLU(), nn.InstanceNorm2d(4), nn.LocalResponseNorm(2)),
    "flat head": lambda: nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 9), nn.ReLU(), nn.Linear(9, 2)),
    "norm of vectors": lambda: nn.Sequential(conv(), nn.Flatten(), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 9)),
    "volumes": lambda: nn.Sequential(conv(), nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, 1), nn.ReLU(), nn.Flatten()),
    "noise": lambda: row(nn.ReLU(), Noisy(), norm()),
    "hooks": with_hooks,
    "weight norm": lambda: parametrized("weight_norm"),
    "spectral norm": lambda: parametrized("spectral_norm"),
    "orthogonal": lambda: parametrized("orthogonal"),
    "pixels shuffled": lambda: row(nn.PixelShuffle(2), conv(1, 4), nn.ChannelShuffle(2), nn.Upsample(scale_factor=2)),
}


def assert_like_plain(net: Any, given: Any) -> None:
    for module in net.modules():
        if isinstance(module, Stochastic):
            module.seed = 3
    with torch.no_grad():
        net.eval()(given.clone())  # parametrizations settle
    twin = copy.deepcopy(net)
    before = snapshot(net)
    (kernel,) = fast_kernels(net, given)
    assert same(snapshot(net), before)
    assert_same_kernel(kernel, plain_kernel(twin, given), share=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "pixels"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_any_modules(name: Any, layout: Any) -> None:
    net = NETWORKS[name]()
    if name != "volumes":
        net = net.to(memory_format=layout)
    assert_like_plain(net, images().contiguous(memory_format=layout))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_forward_passes_of_any_kind(function: Any) -> None:
    net = Calls(function, first=conv(), second=conv(4), relu=nn.ReLU(), in_place=nn.ReLU(inplace=True), head=head())
    assert_like_plain(net, images())


def opaque(net: Any, given: Any) -> Any:
    fast = FastEvaluator(net.eval(), NASWOT)
    with torch.no_grad():
        fast.compute_kernels([None], given)
    (planner,) = fast._planners.values()
    return [value for value in planner.graph.values if isinstance(value.op, OpaqueModule)]


def test_only_what_cannot_be_traced_is_opaque() -> None:
    net = Calls(depends_on_data, first=conv(), second=conv(4), relu=nn.ReLU(), head=head())
    assert len(opaque(net, images())) == 1
    assert not opaque(row(norm(), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout()), images())


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [BrokenError, RuntimeError, KeyError])
def test_a_modules_own_error_comes_through_and_leaves_it_as_it_was(error: Any) -> None:
    def fail(net: Any, x: Any) -> None:
        x = net.relu(net.first(x))
        raise error("of the module")

    net = Calls(fail, first=conv(), relu=nn.ReLU())
    before = snapshot(net.eval())
    with pytest.raises(error, match="of the module"):
        fast_kernels(net, images())
    assert same(snapshot(net), before)


def test_an_error_that_depends_on_the_images_comes_through() -> None:
    def fail(net: Any, x: Any) -> Any:
        if x.max() > 2:
            raise BrokenError
        return net.head(net.relu(net.first(x)))

    net = Calls(fail, first=conv(), relu=nn.ReLU(), head=head())
    before = snapshot(net.eval())
    with pytest.raises(BrokenError):
        fast_kernels(net, images())
    assert same(snapshot(net), before)
    assert_like_plain(net, images() * 0.1)


@pytest.mark.filterwarnings("ignore")
def test_compiled_modules() -> None:
    net: Any = row(norm())
    expected = plain_kernel(net, images())
    torch.compiler.reset()
    for whole in (
        torch.compile(net, backend="eager"),
        nn.Sequential(cast(nn.Module, torch.compile(net[:4], backend="eager")), net[4:]),
    ):
        assert_same_kernel(fast_kernels(whole, images())[0], expected)


def test_scripted_modules() -> None:
    net = row(norm())
    with torch.no_grad():
        scripted = nn.Sequential(torch.jit.trace(net[0].eval(), images()), *net[1:])
    assert_same_kernel(fast_kernels(scripted, images())[0], plain_kernel(net, images()))
