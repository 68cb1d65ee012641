"""Finding cells, edges and candidate operations in somebody else's search network."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor, nn

from darts_space.darts import edge_name, edges_into, inputs_name
from darts_space.genotype import KINDS
from zcpt.errors import ConfigError

Primitives = Sequence[str] | Sequence[Sequence[str]] | Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
"""Names of an edge's operations; or a list of them for each edge; or either for normal and for reduction cells, under
keys such as 'primitives_normal' and 'primitives_reduct'."""

_WANTED = (
    "zcpt.select takes search networks in the shape of DARTS': 'cells', each with a flag 'reduction' and a list "
    "'_ops' of mixed operations, which have their candidates in a list '_ops' and a forward(x, weights)"
)
_REMEDY = "Pass the network that is searched, before it is made discrete; zcpt.search has spaces of its own."


@dataclass(frozen=True)
class Edge:
    """One mixed operation."""

    where: str
    """Its name in the network."""
    module: nn.Module
    operation: str
    """The choice of its operation."""
    inputs: str
    """The choice of its node's inputs; the first node of a cell has none of that name."""
    source: int
    """Index of its input among those of its node."""


@dataclass(frozen=True)
class Anatomy:
    """What a search network consists of."""

    network: nn.Module
    nodes: tuple[int, ...]
    """Intermediate nodes of a cell: 2, 3, ..."""
    joined: int
    """How many of them, the last ones, are the output of a cell."""
    candidates: Mapping[str, tuple[tuple[str, ...], ...]]
    """For normal and reduction cells the names of each edge's operations."""
    edges: tuple[Edge, ...]
    """Of all cells."""
    kinds: tuple[str, ...]
    """Of all cells, 'normal' or 'reduce'."""


def unsupported(found: str) -> ConfigError:
    """The error for a model of another shape."""
    return ConfigError(f"{_WANTED}; {found}. {_REMEDY}")


def examine(model: object, primitives: Primitives | None = None) -> Anatomy:
    """Take a search network apart without touching it.

    Args:
        model: The network, or a torch wrapper around it.
        primitives: Names of the candidate operations; None looks for them where DARTS code bases have them.

    Raises:
        ConfigError: It has another shape, or the names are not to be found.
    """
    network = _unwrapped(model)
    cells = [(f"cells.{index}", cell) for index, cell in enumerate(_listed(network, "cells", type(model).__name__))]
    for name, cell in cells:
        _not_wrapped(name, cell)
    mixed = {name: list(_mixed_operations(name, cell)) for name, cell in cells}
    kinds = tuple(KINDS[bool(cell.reduction)] for _, cell in cells)
    if set(kinds) != set(KINDS):
        raise unsupported(f"the {len(cells)} cells of {type(network).__name__} are all of kind '{kinds[0]}'")
    nodes = _nodes(len(mixed[cells[0][0]]))
    candidates: dict[str, tuple[tuple[str, ...], ...]] = {}
    edges: list[Edge] = []
    for (name, cell), kind in zip(cells, kinds, strict=True):
        names = tuple(
            _names(primitives, (operation, cell, network), kind, index, f"{name}._ops.{index}")
            for index, operation in enumerate(mixed[name])
        )
        if candidates.setdefault(kind, names) != names or len(names) != len(edges_into(nodes)):
            raise unsupported(f"{name} has other edges or operations than the cells before it")
        for index, ((node, source), module) in enumerate(zip(edges_into(nodes), mixed[name], strict=True)):
            choices = edge_name(kind, node, source), inputs_name(kind, node)
            edges.append(Edge(f"{name}._ops.{index}", module, *choices, source))
    where: dict[nn.Module, str] = {}
    for edge in edges:
        if where.setdefault(edge.module, edge.where) != edge.where:
            raise unsupported(f"{where[edge.module]} and {edge.where} are one and the same mixed operation")
    joined = int(getattr(network, "_multiplier", getattr(cells[0][1], "_multiplier", len(nodes))))
    return Anatomy(network, nodes, joined, candidates, tuple(edges), kinds)


def architecture_parameters(anatomy: Anatomy) -> dict[str, Tensor]:
    """The architecture parameters [edges, operations] of each kind of cell; ConfigError if there are none."""
    found = {}
    for kind in KINDS:
        alpha = getattr(anatomy.network, f"alphas_{kind}", None)
        edges = [len(names) for names in anatomy.candidates[kind]]
        if not isinstance(alpha, Tensor) or [len(row) for row in alpha] != edges:
            given = list(alpha.shape) if isinstance(alpha, Tensor) else type(alpha).__name__
            raise ConfigError(
                f"shares='alpha' reads 'alphas_normal' and 'alphas_reduce' of the network; alphas_{kind} is {given} "
                f"where {len(edges)} rows of {edges[0]} are needed: leave shares out."
            )
        found[kind] = alpha.detach().double().cpu()
    return found


def _unwrapped(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise unsupported(f"an object of type {type(model).__name__} was given, which is no torch module")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrapped(model.module)
    return _unwrapped(model._orig_mod) if hasattr(model, "_orig_mod") else model  # of torch.compile


def _not_wrapped(where: str, module: nn.Module) -> None:
    # Around a part it would compile, and guard, what is put in the place of mixed operations for a while.
    if hasattr(module, "_orig_mod"):
        raise unsupported(f"{where} was replaced by torch.compile({where}), where {where}.compile() would do")


def _listed(owner: nn.Module, attribute: str, where: str) -> Iterable[Any]:
    modules = getattr(owner, attribute, None)
    if not isinstance(modules, nn.ModuleList) or not len(modules):
        raise unsupported(f"{where} has no list '{attribute}' of modules")
    return modules


def _mixed_operations(name: str, cell: Any) -> Iterator[nn.Module]:
    if not hasattr(cell, "reduction"):
        raise unsupported(f"{name} ({type(cell).__name__}) has no 'reduction'")
    for index, operation in enumerate(_listed(cell, "_ops", f"{name} ({type(cell).__name__})")):
        _not_wrapped(f"{name}._ops.{index}", operation)
        where = f"{name}._ops.{index} ({type(operation).__name__})"
        _listed(operation, "_ops", where)
        if len(inspect.signature(operation.forward).parameters) < 2:
            raise unsupported(f"the forward of {where} takes no weights")
        yield operation


def _nodes(edges: int) -> tuple[int, ...]:
    for last in count(3):
        nodes = tuple(range(2, last))
        if len(edges_into(nodes)) >= edges:
            break
    if len(edges_into(nodes)) != edges:
        raise unsupported(
            f"its cells have {edges} edges, while nodes that read all nodes before them make 2, 5, 9, 14, 20, ..."
        )
    return nodes


def _names(
    given: Primitives | None, owners: tuple[nn.Module, nn.Module, nn.Module], kind: str, index: int, where: str
) -> tuple[str, ...]:
    size = len(owners[0]._ops)  # type: ignore[arg-type]  # a ModuleList
    for source in _sources(*owners) if given is None else (given,):
        names = _for_edge(source, kind, index)
        if names is not None and len(set(names)) == len(names) == size and set(names) != {"none"}:
            return names
    lacking = "no list PRIMITIVES fits them" if given is None else f"primitives={given!r} does not fit them"
    raise ConfigError(
        f"zcpt.select needs the names of the {size} operations of {where}, and {lacking}: pass primitives=[...], the "
        "names in the order of '_ops', or a mapping with 'normal' and 'reduce' to such a list for every edge."
    )


def _sources(*owners: nn.Module) -> Iterator[object]:
    """Where DARTS code bases keep the names; darts-pt has a class attribute that all networks share, so that last."""
    spellings = ("primitives", "_primitives", "PRIMITIVES", "op_names")
    yield from (vars(owner)[name] for owner in owners for name in spellings if name in vars(owner))
    yield from (getattr(owner, name) for owner in owners for name in spellings if hasattr(owner, name))
    modules = (sys.modules.get(base.__module__) for owner in owners for base in type(owner).__mro__)
    yield from (vars(module)["PRIMITIVES"] for module in modules if module and "PRIMITIVES" in vars(module))


def _for_edge(names: Any, kind: str, index: int) -> tuple[str, ...] | None:
    """The names for one edge, None if ``names`` is nothing of the kind."""
    if isinstance(names, Mapping):
        keys = [key for key in names if kind[:5] in str(key)]  # darts-pt writes 'reduct'
        names = names[keys[0]] if keys else None
    if isinstance(names, list | tuple) and index < len(names) and isinstance(names[index], list | tuple):
        names = names[index]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
