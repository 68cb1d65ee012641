"""Units are counted exactly, for any number, size and memory layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.zcpt.scoring.fast.conftest import make_images
from zcpt.proxies.naswot import agreement_kernel
from zcpt.scoring.fast import kernels
from zcpt.scoring.fast.kernels import KernelAccumulator, count_both_positive, write_signs


def draw_signs(batch: int, units: int) -> torch.Tensor:
    return torch.randint(2, (batch, units), dtype=torch.int8, generator=torch.Generator().manual_seed(units))


@pytest.mark.parametrize("product", ["int8", "float32"])
@pytest.mark.parametrize(
    ("batch", "units"), [(1, 1), (2, 7), (6, 255), (17, 129), (33, 2**14 + 3), (5, 2**15 + 1), (301, 9)]
)
def test_products_equal_those_of_integers(
    batch: int, units: Any, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if product == "float32":
        monkeypatch.setattr(kernels, "_has_int8_product", lambda signs: False)
        monkeypatch.setattr(kernels, "_EXACT_FLOAT32", 1000)
    for signs in (draw_signs(batch, units), torch.ones(batch, units, dtype=torch.int8)):
        both = count_both_positive(signs)
        assert both.dtype == torch.int64
        assert torch.equal(both, signs.long() @ signs.long().T)


def build_layouts() -> Any:
    x = make_images(5, 7)
    return {
        "channels first": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "sliced": make_images(5, 8)[:, :, 1:, 1:],
        "transposed": x.transpose(2, 3),
        "one channel": x[:, :1].contiguous(memory_format=torch.channels_last),
        "vectors": x.flatten(1),
        "expanded": torch.zeros(()).expand(5, 3, 7, 7),
        "not finite": x.masked_fill(x > 1, torch.nan).masked_fill(x < -1, torch.inf),
        "bf16": x.bfloat16(),
        "many": torch.randn(5, 2**14 + 5, generator=torch.Generator().manual_seed(0)),
    }


@pytest.mark.parametrize("name", build_layouts())
def test_an_accumulator_counts_the_same_units_as_the_proxy(name: Any) -> None:
    x = build_layouts()[name]
    accumulator = KernelAccumulator()
    accumulator.record((1, 0, 2), x)
    accumulator.record((1, 0, 2), x)
    accumulator.record((0, 1, 1), x[:, :2])
    units = x[0].numel()
    accumulator.record_signs((0, 0, 3), write_signs(x, accumulator.allocate_signs(x, units)))
    whole, part = agreement_kernel(x), agreement_kernel(x[:, :2])
    expected = [2 * whole, part, 7 * whole + part]
    assert all(torch.equal(one, other) for one, other in zip(accumulator.compute_kernels(), expected, strict=True))


def test_zero_is_not_positive() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf, torch.nan]])
    assert write_signs(x, torch.empty(1, 7, dtype=torch.int8)).tolist() == [[0, 0, 1, 0, 1, 0, 0]]
