"""Operations: shapes at every size and stride, and cost by formula."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_space.operations import OPERATIONS, FactorizedReduce, ReLUConvBN, SeparableConv, Zero, _make_separable
from zcpt.cost import compute_output_size

STRIDED = [(name, stride) for name in OPERATIONS for stride in (1, 2) if (name, stride) != ("none", 2)]


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (2, 3)])
@pytest.mark.parametrize(("name", "stride"), STRIDED)
def test_output_size_and_cost(name: str, stride: int, size: tuple[int, int]) -> None:
    operation = OPERATIONS[name].build(6, stride, True)
    with FlopCounterMode(display=False) as counter:
        output = operation(torch.randn(2, 6, *size))
    assert output.shape == (2, 6, *compute_output_size(size, stride))
    compute_cost = OPERATIONS[name].cost
    assert compute_cost is not None
    cost = compute_cost(6, stride, compute_output_size(size, stride))
    assert cost.params == sum(parameter.numel() for parameter in operation.parameters())
    assert 2 * 2 * cost.macs == counter.get_total_flops()  # two images, two operations a multiply-accumulate


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_in_a_supernet_batchnorms_have_no_parameters(name: str) -> None:
    norms = [m for m in OPERATIONS[name].build(4, 1, False).modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(not norm.affine and norm.track_running_stats for norm in norms)


def test_factorized_reduce_reads_every_second_pixel_of_both_diagonals() -> None:
    reduce = FactorizedReduce(1, 2, affine=False).eval()
    for conv in (reduce.conv1, reduce.conv2):
        conv.weight.data.fill_(1)
    image = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    even, odd = (reduce(image) * (1 + 1e-5) ** 0.5)[0].round()
    assert even.tolist() == [[1, 3], [9, 11]]
    assert odd.tolist() == [[6, 8], [14, 16]]


def test_average_pooling_does_not_count_the_padding() -> None:
    assert torch.equal(OPERATIONS["avg_pool_3x3"].build(1, 1, True)(torch.ones(1, 1, 3, 3)), torch.ones(1, 1, 3, 3))


def test_separable_convolutions_have_the_stride_once_and_twice_the_layers() -> None:
    convs = [m for m in OPERATIONS["sep_conv_5x5"].build(4, 2, True).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.stride[0] for conv in convs] == [2, 1, 1, 1]
    assert [conv.groups for conv in convs] == [4, 1, 4, 1]
    dilated = [m for m in OPERATIONS["dil_conv_3x3"].build(4, 2, True).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation[0] for conv in dilated] == [2, 1]


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_has_any_depth(depth: int, stride: int) -> None:
    modules = list(SeparableConv(4, 3, stride, True, 1, depth))
    convs = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert len(modules) == 4 * depth
    assert [conv.stride[0] for conv in convs] == [stride, 1, 1, 1, 1, 1, 1, 1][: 2 * depth]
    operation = _make_separable(3, dilation=1, depth=depth)
    assert operation.cost is not None
    cost = operation.cost(4, stride, compute_output_size((8, 8), stride))
    with FlopCounterMode(display=False) as counter:
        operation.build(4, stride, True)(torch.randn(1, 4, 8, 8))
    assert cost.params == depth * (4 * 9 + 4 * 4 + 8)
    assert 2 * cost.macs == counter.get_total_flops()


def test_a_blocked_convolution_is_fed_zeros() -> None:
    operation = ReLUConvBN(3, 3, 3, 1, affine=True).eval()
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(operation(x, blocked=True), operation(torch.zeros_like(x)))
    assert Zero(1)(x).abs().sum() == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@pytest.mark.parametrize(("name", "stride"), STRIDED)
def test_operations_are_compiled_by_torchscript_and_traced_by_fx(name: str, stride: int) -> None:
    # In a container, as in networks: traced alone, ``blocked`` would be an input too.
    operation = nn.Sequential(OPERATIONS[name].build(6, stride, True)).eval()
    scripted, traced = torch.jit.script(operation), torch.fx.symbolic_trace(operation)
    for size in ((8, 8), (7, 8), (8, 7)):  # a traced branch on odd sides would be that of one size
        outputs = []
        for compiled in (operation, scripted, traced):
            torch.manual_seed(0)
            outputs.append(compiled(torch.randn(2, 6, *size)))
        torch.testing.assert_close(outputs[1:], [outputs[0]] * 2, rtol=0, atol=0)
