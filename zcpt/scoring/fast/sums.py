"""Sums weighted by a mixture: which terms one has, and how a term is added to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Mix, Term, Value
from zcpt.scoring.fast.operations import Convolution, Scale


def flatten(total: Value, readers: Mapping[Value, int]) -> None:
    """Let a sum read what the sums, the factors and the convolutions that it alone reads are made of."""
    found: list[tuple[Value, tuple[Term, ...]]] = []
    for source, terms in _simplest(total, readers):
        places = [i for i, (other, others) in enumerate(found) if other is source and _alike(others[0], terms[0])]
        if places:
            found[places[0]] = (source, found[places[0]][1] + terms)
        else:
            found.append((source, terms))
    sources, each = zip(*found, strict=True)
    total.op, total.sources = Mix(each), sources


def _simplest(total: Value, readers: Mapping[Value, int]) -> Iterator[tuple[Value, tuple[Term, ...]]]:
    assert isinstance(total.op, Mix)
    for source, terms in zip(total.sources, total.op.terms, strict=True):
        if terms[0].through is not None:
            yield source, terms
            continue
        (term,) = terms
        alone = readers[source] == 1
        while isinstance(source.op, Scale) and source.op.factor is not None:
            term = replace(term, constant=term.constant * source.op.factor)
            (source,) = source.sources
            alone = alone and readers[source] == 1
        if isinstance(source.op, Mix) and alone:
            for inner, others in _simplest(source, readers):
                yield inner, tuple(_times(term, other) for other in others)
        elif isinstance(source.op, Convolution) and alone and source.sources[0].units <= source.units:
            # Not where it makes something smaller: what is kept would be larger.
            yield source.sources[0], (replace(term, through=source.op),)
        else:
            yield source, (term,)


def _times(outer: Term, inner: Term) -> Term:
    return Term(outer.weighed_by + inner.weighed_by, outer.constant * inner.constant, inner.through)


def _alike(one: Term, other: Term) -> bool:
    """Whether the convolutions of two terms that read the same source are one with another kernel."""
    a, b = one.through, other.through
    return a is not None and b is not None and a.like(b)


def factor(term: Term, rows: Mapping[str, tuple[float, ...]]) -> float:
    """What a term is multiplied by under a mixture with these weights."""
    return term.constant * math.prod(rows[choice][i] for choice, i in term.weighed_by)


def merged(terms: tuple[Term, ...], factors: tuple[float, ...], dtype: torch.dtype) -> Convolution | None:
    """The one convolution that does what the terms do, their factors included; None where they are none."""
    convolutions = [term.through for term in terms]
    if convolutions[0] is None:
        return None
    total: Convolution | None = None
    for convolution, weight in zip(convolutions, factors, strict=True):
        assert convolution is not None
        if weight:
            scaled = convolution.times(weight)
            total = scaled if total is None else total.plus(scaled)
    return None if total is None else total.to(dtype)


def add_to(before: Tensor | None, x: Tensor, weight: float, through: Convolution | None, out: Tensor) -> None:
    """Write a sum with one more summand into ``out``, which may be ``before``.

    Args:
        before: The sum so far; None if this is the first summand.
        x: What is added, or what goes through the convolution first.
        weight: Its factor; one that goes through a convolution has it in that.
        through: The convolution.
        out: The sum.
    """
    if through is None:
        _ = torch.mul(x, weight, out=out) if before is None else torch.add(before, x, alpha=weight, out=out)
    elif through.pointwise and all(map(_in_rows, (x, out))) and (before is None or _in_rows(before)):
        # As a product of matrices, which adds to the sum while it writes it.
        matrix = through.weight[:, :, 0, 0].T
        if before is None:
            torch.mm(_rows(x), matrix, out=_rows(out))
        else:
            torch.addmm(_rows(before), _rows(x), matrix, out=_rows(out))
    else:
        y = through(x)
        _ = out.copy_(y) if before is None else torch.add(before, y, out=out)


def _in_rows(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def _rows(x: Tensor) -> Tensor:
    """[pixels of all images, channels], in the same memory."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)
