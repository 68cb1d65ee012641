"""Weighted sums: a term's factor under a mixture, and adding one summand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Term
from zcpt.scoring.fast.operations import Convolution


def compute_factor(term: Term, rows: Mapping[str, tuple[float, ...]]) -> float:
    """Return the number that a term is multiplied by under a mixture with these weights."""
    return term.constant * math.prod(rows[choice][i] for choice, i in term.mixture_weights)


def merge_convolutions(terms: tuple[Term, ...], factors: tuple[float, ...], dtype: torch.dtype) -> Convolution | None:
    """Return the one convolution that computes the terms of a source, their factors included.

    Terms whose factor is 0 are left out. The result is None where all are, or where the terms have no convolution.
    """
    total: Convolution | None = None
    for term, factor in zip(terms, factors, strict=True):
        if factor and term.convolution is not None:
            scaled = term.convolution.multiply(factor)
            total = scaled if total is None else total.merge(scaled)
    # Cast once at the end: kernels are scaled and added in the precision of the network.
    return None if total is None else total.to(dtype)


def add_summand(total: Tensor | None, x: Tensor, weight: float, convolution: Convolution | None, out: Tensor) -> None:
    """Write a sum with one more summand into ``out``, which may be ``total``.

    Args:
        total: The sum so far; None for the first summand.
        x: The summand, or what the convolution is applied to.
        weight: Factor of a summand without convolution; a convolution has its factor in the kernel.
        convolution: Applied to ``x`` before it is added.
        out: The new sum.
    """
    if convolution is None:
        _ = torch.mul(x, weight, out=out) if total is None else torch.add(total, x, alpha=weight, out=out)
    elif (
        convolution.is_matrix_product
        and all(map(_has_pixel_rows, (x, out)))
        and (total is None or _has_pixel_rows(total))
    ):
        # One call of BLAS that adds to the sum while it writes it: the product never exists as a tensor of its own.
        matrix = convolution.weight[:, :, 0, 0].T
        if total is None:
            torch.mm(_pixel_rows(x), matrix, out=_pixel_rows(out))
        else:
            torch.addmm(_pixel_rows(total), _pixel_rows(x), matrix, out=_pixel_rows(out))
    else:
        y = convolution(x)
        _ = out.copy_(y) if total is None else torch.add(total, y, out=out)


def _has_pixel_rows(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def _pixel_rows(x: Tensor) -> Tensor:
    """Return a channels-last tensor as [pixels of all images, channels], in the same memory."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)
