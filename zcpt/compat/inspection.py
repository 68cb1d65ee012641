"""Find the cells, edges and candidate operations of search networks of other DARTS code bases.

Three code bases set what is accepted: DARTS (github.com/quark0/darts), DARTS-PT (github.com/ruocwang/darts-pt) and
PC-DARTS (github.com/yuhuixu1993/PC-DARTS). All have ``network.cells[i]._ops[edge]._ops[operation]``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor, nn

from darts_space.darts import edge_name, inputs_name, list_edges
from darts_space.genotype import KINDS
from zcpt.errors import ConfigError

Primitives = Sequence[str] | Sequence[Sequence[str]] | Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
"""Names of the operations: one list for all edges, or a list for each edge, or a mapping to either of them with one key
for normal and one for reduction cells, such as 'primitives_normal' and 'primitives_reduct'."""

_SUPPORTED = (
    "zcpt.select takes search networks of DARTS' form: 'cells', each with a flag 'reduction' and a list "
    "'_ops' of mixed operations, which have their candidates in a list '_ops' and a forward(x, weights)"
)
_REMEDY = "Pass the network that is searched, before it is made discrete; zcpt.search has spaces of its own."


@dataclass(frozen=True)
class MixedEdge:
    """An edge of one cell with its mixed operation."""

    path: str
    """Name of the mixed operation in the network, such as 'cells.0._ops.3'."""
    module: nn.Module
    operation: str
    """Name of the choice of the edge's operation."""
    inputs: str
    """Name of the choice of its node's inputs; there is none for the first node, which keeps both of its inputs."""
    source: int
    """Index of the edge's input among all inputs of its node."""


@dataclass(frozen=True)
class SearchNetworkStructure:
    """Cells, edges and operations of a search network."""

    network: nn.Module
    nodes: tuple[int, ...]
    """Intermediate nodes of a cell: 2, 3, ... (0 and 1 are the cell's inputs)."""
    joined: int
    """Number of nodes, counted from the last, whose outputs are concatenated to the output of a cell."""
    candidates: Mapping[str, tuple[tuple[str, ...], ...]]
    """Names of the operations of each edge, for 'normal' and for 'reduce' cells."""
    edges: tuple[MixedEdge, ...]
    """Edges of all cells, in order."""
    kinds: tuple[str, ...]
    """Kind of each cell: 'normal' or 'reduce'."""


def unsupported(problem: str) -> ConfigError:
    """Return the error for a model that is not of a supported form."""
    return ConfigError(f"{_SUPPORTED}; {problem}. {_REMEDY}")


def inspect_network(model: object, primitives: Primitives | None = None) -> SearchNetworkStructure:
    """Find the cells, edges and operations of a search network without changing it.

    Args:
        model: The network; it may be wrapped by torch (``DataParallel``, ``torch.compile``).
        primitives: Names of the candidate operations; None looks where DARTS code bases have them.

    Raises:
        ConfigError: The network is not of a supported form, or the names cannot be found.
    """
    network = _unwrap(model)
    cells = [
        (f"cells.{index}", cell) for index, cell in enumerate(_get_modules(network, "cells", type(model).__name__))
    ]
    for path, cell in cells:
        _refuse_compiled(path, cell)
    mixed = {path: list(_find_mixed_operations(path, cell)) for path, cell in cells}
    kinds = tuple(KINDS[bool(cell.reduction)] for _, cell in cells)
    if set(kinds) != set(KINDS):
        raise unsupported(f"the {len(cells)} cells of {type(network).__name__} are all of kind '{kinds[0]}'")
    nodes = _nodes_of(len(mixed[cells[0][0]]))
    candidates: dict[str, tuple[tuple[str, ...], ...]] = {}
    edges: list[MixedEdge] = []
    for (path, cell), kind in zip(cells, kinds, strict=True):
        names = tuple(
            _find_names(primitives, (operation, cell, network), kind, index, f"{path}._ops.{index}")
            for index, operation in enumerate(mixed[path])
        )
        # All cells of a kind share their choices, as they share alpha in DARTS.
        if candidates.setdefault(kind, names) != names or len(names) != len(list_edges(nodes)):
            raise unsupported(f"{path} has other edges or operations than the cells before it")
        for index, ((node, source), module) in enumerate(zip(list_edges(nodes), mixed[path], strict=True)):
            choices = edge_name(kind, node, source), inputs_name(kind, node)
            edges.append(MixedEdge(f"{path}._ops.{index}", module, *choices, source))
    # The adapter gives each mixed operation the weights of one edge, so no two edges may share a mixed operation.
    paths: dict[nn.Module, str] = {}
    for edge in edges:
        if paths.setdefault(edge.module, edge.path) != edge.path:
            raise unsupported(f"{paths[edge.module]} and {edge.path} are one and the same mixed operation")
    # DARTS keeps ``_multiplier`` in the network and in its cells. Where neither has it, all nodes are concatenated.
    joined = int(getattr(network, "_multiplier", getattr(cells[0][1], "_multiplier", len(nodes))))
    return SearchNetworkStructure(network, nodes, joined, candidates, tuple(edges), kinds)


def read_alphas(structure: SearchNetworkStructure) -> dict[str, Tensor]:
    """Return the architecture parameters [edges, operations] of each kind of cell, on the CPU in float64.

    Raises:
        ConfigError: The network has none, or of another shape.
    """
    alphas = {}
    for kind in KINDS:
        alpha = getattr(structure.network, f"alphas_{kind}", None)
        edges = [len(names) for names in structure.candidates[kind]]
        if not isinstance(alpha, Tensor) or [len(row) for row in alpha] != edges:
            given = list(alpha.shape) if isinstance(alpha, Tensor) else type(alpha).__name__
            raise ConfigError(
                f"shares='alpha' reads 'alphas_normal' and 'alphas_reduce' of the network; alphas_{kind} is {given} "
                f"where {len(edges)} rows of {edges[0]} are needed: leave shares out."
            )
        alphas[kind] = alpha.detach().double().cpu()
    return alphas


def _unwrap(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise unsupported(f"an object of type {type(model).__name__} was given, which is not a torch module")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrap(model.module)
    # torch.compile(model) returns a wrapper that has the original here.
    return _unwrap(model._orig_mod) if hasattr(model, "_orig_mod") else model


def _refuse_compiled(path: str, module: nn.Module) -> None:
    # torch.compile around the whole network is bypassed by ``_unwrap``. Around a part it stays in the forward pass: it
    # would compile the temporary forwards of the adapter, and recompile for each mixture.
    if hasattr(module, "_orig_mod"):
        raise unsupported(f"{path} was replaced by torch.compile({path}), where {path}.compile() would do")


def _get_modules(owner: nn.Module, attribute: str, path: str) -> Iterable[Any]:
    modules = getattr(owner, attribute, None)
    if not isinstance(modules, nn.ModuleList) or not len(modules):
        raise unsupported(f"{path} has no list '{attribute}' of modules")
    return modules


def _find_mixed_operations(path: str, cell: Any) -> Iterator[nn.Module]:
    if not hasattr(cell, "reduction"):
        raise unsupported(f"{path} ({type(cell).__name__}) has no 'reduction'")
    for index, operation in enumerate(_get_modules(cell, "_ops", f"{path} ({type(cell).__name__})")):
        _refuse_compiled(f"{path}._ops.{index}", operation)
        described = f"{path}._ops.{index} ({type(operation).__name__})"
        _get_modules(operation, "_ops", described)
        if len(inspect.signature(operation.forward).parameters) < 2:
            raise unsupported(f"the forward of {described} takes no weights")
        yield operation


def _nodes_of(edges: int) -> tuple[int, ...]:
    """Return the intermediate nodes of a cell from its number of edges: 2 edges are node 2, 14 are nodes 2 to 5."""
    for last in count(3):
        nodes = tuple(range(2, last))
        if len(list_edges(nodes)) >= edges:
            break
    if len(list_edges(nodes)) != edges:
        raise unsupported(
            f"its cells have {edges} edges, while nodes that read all nodes before them make 2, 5, 9, 14, 20, ..."
        )
    return nodes


def _find_names(
    given: Primitives | None, owners: tuple[nn.Module, nn.Module, nn.Module], kind: str, index: int, path: str
) -> tuple[str, ...]:
    """Return the names of the operations of one edge: ``given``, or the first list of the code base that fits."""
    size = len(owners[0]._ops)  # type: ignore[arg-type]  # _get_modules has checked that it is a ModuleList
    for source in _name_sources(*owners) if given is None else (given,):
        names = _names_of_edge(source, kind, index)
        if names is not None and len(set(names)) == len(names) == size and set(names) != {"none"}:
            return names
    missing = "no list PRIMITIVES fits them" if given is None else f"primitives={given!r} does not fit them"
    raise ConfigError(
        f"zcpt.select needs the names of the {size} operations of {path}, and {missing}: pass primitives=[...], the "
        "names in the order of '_ops', or a mapping with 'normal' and 'reduce' to such a list for every edge."
    )


def _name_sources(*owners: nn.Module) -> Iterator[object]:
    """Yield the lists of names that code bases have, the most specific first.

    DARTS and PC-DARTS import ``PRIMITIVES`` into the module of their classes. DARTS-PT has ``primitives`` in each cell
    and ``op_names`` in the network. It also sets ``PRIMITIVES`` on ``nn.Module`` itself, so that every module of the
    process has the list of the network that was made last: attributes of classes come after those of instances.
    """
    spellings = ("primitives", "_primitives", "PRIMITIVES", "op_names")
    yield from (vars(owner)[name] for owner in owners for name in spellings if name in vars(owner))
    yield from (getattr(owner, name) for owner in owners for name in spellings if hasattr(owner, name))
    modules = (sys.modules.get(base.__module__) for owner in owners for base in type(owner).__mro__)
    yield from (vars(module)["PRIMITIVES"] for module in modules if module and "PRIMITIVES" in vars(module))


def _names_of_edge(names: Any, kind: str, index: int) -> tuple[str, ...] | None:
    """Return the names for one edge; None if ``names`` is not of a form of ``Primitives``."""
    if isinstance(names, Mapping):
        # DARTS-PT has the keys 'primitives_normal' and 'primitives_reduct', hence 'reduc' for 'reduce'.
        keys = [key for key in names if kind[:5] in str(key)]
        names = names[keys[0]] if keys else None
    if isinstance(names, list | tuple) and index < len(names) and isinstance(names[index], list | tuple):
        names = names[index]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
