"""Find the cells, edges and candidate operations of search networks of other code bases.

Two forms are known. In that of DARTS, a cell reads two cells and has one mixed operation for each edge; code bases
differ in the names of the lists. In that of NAS-Bench-201, a cell reads one cell, and mixes the operations itself or
has mixed operations. docs/drop-in.md lists the code bases.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from torch import nn

from darts_space import darts, nasbench201
from darts_space.genotype import KINDS
from zcpt.compat.operation_names import Owners, Primitives, find_names
from zcpt.errors import ConfigError

_CELL_LISTS = ("cells", "_cells")
_EDGE_LISTS = ("_ops", "cell_ops", "dag", "edges")
"""Attributes of a cell that hold its edges: of DARTS, P-DARTS, pt.darts, and NAS-Bench-201 and AutoDL-Projects."""
_OPERATION_LISTS = ("_ops", "m_ops", "ops")
"""Attributes of a mixed operation that hold its candidates: of DARTS, P-DARTS and confopt."""
_MIXING_METHODS = ("forward", "forward_darts")
"""Methods that add up the operations, with an input and weights as first parameters; AutoDL-Projects has the second."""

_SUPPORTED = (
    "zcpt.select takes search networks of DARTS' form or of NAS-Bench-201's: 'cells' with a list of edges "
    f"({', '.join(map(repr, _EDGE_LISTS))}), which have a list of their candidates "
    f"({', '.join(map(repr, _OPERATION_LISTS))}) and a forward(x, weights)"
)
_REMEDY = "Pass the network that is searched, before it is made discrete; zcpt.search has spaces of its own."

Form = Literal["darts", "nasbench201"]


@dataclass(frozen=True)
class MixedEdge:
    """An edge of one cell."""

    path: str
    """Name of the edge in the network, such as 'cells.0._ops.3'."""
    operation: str
    """Name of the choice of the edge's operation."""
    inputs: str
    """Name of the choice of its node's inputs, which not all nodes have: some keep all of them."""
    source: int
    """Index of the edge's input among all inputs of its node."""
    names: tuple[str, ...]
    """Names of its operations, in the order of the list."""
    owner: nn.Module
    """Module that has the list of the operations."""
    attribute: str
    """Name of the list in this module."""

    @property
    def operations(self) -> list[nn.Module]:
        """Operations of the edge, in the order of ``names``."""
        operations = self.owner._modules[self.attribute]
        assert isinstance(operations, nn.ModuleList)
        return list(operations)


@dataclass(frozen=True)
class Mixer:
    """A module that adds up operations by weights: a mixed operation with one edge, or a cell with all its edges."""

    module: nn.Module
    method: str
    """Name of the method that adds up, with an input and weights as first parameters."""
    edges: tuple[MixedEdge, ...]
    rows: tuple[int, ...] | None
    """Row of each edge in the weights [edges, operations]; None if the weights [operations] are those of one edge."""


@dataclass(frozen=True)
class SearchNetworkStructure:
    """Cells, edges and operations of a search network."""

    network: nn.Module
    form: Form
    owners: Owners
    """Modules whose attributes describe the search, such as its architecture parameters."""
    nodes: tuple[int, ...]
    """Nodes of a cell that have edges: 2, 3, ... in DARTS' form (0 and 1 are the cell's inputs), else 1, 2, ..."""
    joined: int
    """Number of nodes, counted from the last, whose outputs are concatenated to the output of a cell."""
    is_nested: bool
    """Whether the genotypes of the code base have a list for each node."""
    candidates: dict[str, tuple[tuple[str, ...], ...]]
    """Kind of cell -> names of the operations of each edge."""
    mixers: tuple[Mixer, ...]
    """Mixers of all cells, in order."""
    kinds: tuple[str, ...]
    """Kind of each search cell; '' for other parts among the cells."""

    @property
    def edges(self) -> tuple[MixedEdge, ...]:
        """Edges of all cells, in order."""
        return tuple(edge for mixer in self.mixers for edge in mixer.edges)

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Edges (node, source) of a cell, in order."""
        return tuple((node, source) for node in self.nodes for source in range(node))


def unsupported(problem: str) -> ConfigError:
    """Return the error for a model that is not of a supported form."""
    return ConfigError(f"{_SUPPORTED}; {problem}. {_REMEDY}")


@dataclass(frozen=True)
class _Cell:
    """A cell with the modules of its edges: mixed operations, or lists of operations that the cell mixes itself."""

    path: str
    module: nn.Module
    attribute: str
    nodes: tuple[int, ...]
    edges: tuple[tuple[str, nn.Module], ...]
    """Key within ``attribute``, such as '3' or '1<-0', and module of each edge, in the order of (node, source)."""
    form: Form

    @property
    def kind(self) -> str:
        """Kind of the cell: 'normal' or 'reduce', or 'cell' in NAS-Bench-201's form."""
        return "cell" if self.form == "nasbench201" else KINDS[bool(self.module.reduction)]

    def get_path(self, index: int) -> str:
        """Return the name of an edge in the network."""
        return f"{self.path}.{self.attribute}.{self.edges[index][0]}"


def inspect_network(model: object, primitives: Primitives | None = None) -> SearchNetworkStructure:
    """Find the cells, edges and operations of a search network without changing it.

    Args:
        model: The network. It may be wrapped by torch (``DataParallel``, ``torch.compile``), and the cells may be in a
            module inside, as in code with a controller around the network.
        primitives: Names of the candidate operations; None looks where the code bases have them.

    Raises:
        ConfigError: The network is not of a supported form, or the names cannot be found.
    """
    network = _unwrap(model)
    inner, attribute, cells, others = _find_cells(network)
    owners = (inner,) if inner is network else (inner, network)
    first = cells[0]
    kinds = {cell.path: cell.kind for cell in cells}
    if first.form == "darts" and set(kinds.values()) != set(KINDS):
        raise unsupported(f"the {len(cells)} cells of {type(inner).__name__} are all of kind '{first.kind}'")
    candidates: dict[str, tuple[tuple[str, ...], ...]] = {}
    mixers: list[Mixer] = []
    for cell in cells:
        found = _list_mixers(cell, owners, primitives)
        names = tuple(edge.names for mixer in found for edge in mixer.edges)
        # All cells of a kind share their choices, as they share alpha in DARTS.
        if (cell.form, cell.nodes) != (first.form, first.nodes) or candidates.setdefault(cell.kind, names) != names:
            raise unsupported(f"{cell.path} has other edges or operations than the cells before it")
        mixers += found
    _check_distinct(mixers)
    # DARTS keeps ``_multiplier`` in the network and in its cells. Where neither has it, all nodes are concatenated.
    joined = int(getattr(inner, "_multiplier", getattr(first.module, "_multiplier", len(first.nodes))))
    return SearchNetworkStructure(
        network,
        first.form,
        owners,
        first.nodes,
        joined,
        first.attribute == "dag",  # pt.darts has lists of lists of edges, and writes genotypes alike
        candidates,
        tuple(mixers),
        tuple(kinds.get(f"{attribute}.{index}", "") for index in range(len(cells) + others)),
    )


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


def _find_cells(network: nn.Module) -> tuple[nn.Module, str, list[_Cell], int]:
    """Return the module that has the cells, the path of their list, the search cells, and the number of other parts."""
    for path, module in network.named_modules():
        for name in _CELL_LISTS:
            parts = getattr(module, name, None)
            if not isinstance(parts, nn.ModuleList) or not len(parts):
                continue
            path = f"{path}.{name}" if path else name
            cells = [_read_cell(f"{path}.{index}", part) for index, part in enumerate(parts)]
            found = [cell for cell in cells if cell is not None]
            missing = [f"{path}.{index}" for index, cell in enumerate(cells) if cell is None]
            # NAS-Bench-201 has residual blocks between the cells, DARTS has only cells.
            if missing and (not found or found[0].form == "darts"):
                missing_cell = network.get_submodule(missing[0])
                raise unsupported(f"{missing[0]} ({type(missing_cell).__name__}) has no list '_ops' of modules")
            return module, path, found, len(missing)
    raise unsupported(f"{type(network).__name__} has no list 'cells' of modules")


def _read_cell(path: str, cell: nn.Module) -> _Cell | None:
    """Read the edges of a cell; None if it has no list of edges."""
    _refuse_compiled(path, cell)
    for attribute in _EDGE_LISTS:
        edges = getattr(cell, attribute, None)
        if not isinstance(edges, nn.ModuleList | nn.ModuleDict) or not len(edges):
            continue
        if isinstance(edges, nn.ModuleDict):
            read = _read_named_edges(path, cell, attribute, edges)
        elif all(isinstance(part, nn.ModuleList) and not _is_operation_list(part) for part in edges):
            parts = [
                (f"{i}.{j}", edge)
                for i, part in enumerate(edges)
                if isinstance(part, nn.ModuleList)
                for j, edge in enumerate(part)
            ]
            read = _Cell(path, cell, attribute, _find_nodes(path, len(parts)), tuple(parts), "darts")
        else:
            flat = tuple((str(index), edge) for index, edge in enumerate(edges))
            read = _Cell(path, cell, attribute, _find_nodes(path, len(flat)), flat, "darts")
        if read.form == "darts" and not hasattr(cell, "reduction"):
            raise unsupported(f"{path} ({type(cell).__name__}) has no 'reduction'")
        return read
    return None


def _is_operation_list(module: nn.ModuleList) -> bool:
    """Return whether the items of a list are operations, not mixed operations."""
    return not any(_find_operation_list(item) for item in module)


def _read_named_edges(path: str, cell: nn.Module, attribute: str, edges: nn.ModuleDict) -> _Cell:
    """Read edges with keys such as '1<-0': from node 0 to node 1."""
    matches = {key: re.fullmatch(r"(\d{1,3})<-(\d{1,3})", key) for key in edges}
    if not all(matches.values()):
        raise unsupported(f"{path}.{attribute} has other keys than '1<-0', '2<-0', '2<-1', ...")
    ends = {key: (int(match[1]), int(match[2])) for key, match in matches.items() if match}
    # The targets of NAS-Bench-201 begin at 1, since node 0 is the input. Those of AutoDL-Projects' cells in DARTS' form
    # begin at 0, which is the node behind two inputs.
    form: Form = "nasbench201" if min(target for target, _ in ends.values()) else "darts"
    shift = 0 if form == "nasbench201" else 2
    placed = sorted((target + shift, source, key) for key, (target, source) in ends.items())
    nodes = tuple(sorted({node for node, _, _ in placed}))
    expected = [(node, source) for node in range(max(1, shift), nodes[-1] + 1) for source in range(node)]
    if [(node, source) for node, source, _ in placed] != expected:
        raise unsupported(f"{path}.{attribute} does not have an edge from each node to all nodes behind it")
    return _Cell(path, cell, attribute, nodes, tuple((key, edges[key]) for _, _, key in placed), form)


def _find_nodes(path: str, edges: int) -> tuple[int, ...]:
    """Return the intermediate nodes of a cell from its number of edges: 2 edges are node 2, 14 are nodes 2 to 5."""
    for last in count(3):
        nodes = tuple(range(2, last))
        if len(darts.list_edges(nodes)) >= edges:
            break
    if len(darts.list_edges(nodes)) != edges:
        raise unsupported(
            f"{path} has {edges} edges, while nodes that read all nodes before them make 2, 5, 9, 14, 20, ..."
        )
    return nodes


def _find_operation_list(module: nn.Module) -> str:
    """Return the name of the list of candidates of a mixed operation; empty if it has none."""
    for name in _OPERATION_LISTS:
        operations = module._modules.get(name)
        if isinstance(operations, nn.ModuleList) and len(operations):
            return name
    return ""


def _list_mixers(cell: _Cell, owners: Owners, primitives: Primitives | None) -> list[Mixer]:
    """Return the mixers of a cell: one for each mixed operation, or the cell where it mixes lists of operations."""
    edges: list[MixedEdge] = []
    positions = [(node, source) for node in cell.nodes for source in range(node)]
    for index, ((key, module), (node, source)) in enumerate(zip(cell.edges, positions, strict=True)):
        path = cell.get_path(index)
        _refuse_compiled(path, module)
        container = getattr(cell.module, cell.attribute)
        holder, name = (container, key) if isinstance(module, nn.ModuleList) else (module, _find_operation_list(module))
        if not name or (holder is container and not isinstance(container, nn.ModuleDict)):
            raise unsupported(f"{path} ({type(module).__name__}) has no list '_ops' of modules")
        size = len(holder._modules[name])  # type: ignore[arg-type]  # a ModuleList
        kind, related = cell.kind, (module, cell.module, *owners)
        if cell.form == "darts":
            choices = darts.edge_name(kind, node, source), darts.inputs_name(kind, node)
        else:
            choices = nasbench201.edge_name(node, source), ""
        names = find_names(primitives, related, kind, index, size, path)
        edges.append(MixedEdge(path, *choices, source, names, holder, name))
    if all(isinstance(module, nn.ModuleList) for _, module in cell.edges):
        return [Mixer(cell.module, _get_mixing_method(cell.path, cell.module), tuple(edges), _find_rows(cell))]
    return [
        Mixer(module, _get_mixing_method(edge.path, module), (edge,), None)
        for edge, (_, module) in zip(edges, cell.edges, strict=True)
    ]


def _get_mixing_method(path: str, module: nn.Module) -> str:
    for name in _MIXING_METHODS:
        method = getattr(module, name, None)
        # Without a forward of its own a module has torch's, which raises.
        if callable(method) and getattr(method, "__func__", None) is not nn.Module.forward:
            kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
            if kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2:
                return name
            break
    raise unsupported(f"the forward of {path} ({type(module).__name__}) takes no weights")


def _find_rows(cell: _Cell) -> tuple[int, ...]:
    """Return the row of each edge in the weights of a cell that mixes the operations itself."""
    rows: Any = getattr(cell.module, "edge2index", None)
    keys: Sequence[str] = [key for key, _ in cell.edges]
    if isinstance(rows, dict) and set(rows) >= set(keys):
        return tuple(int(rows[key]) for key in keys)
    return tuple(range(len(keys)))


def _check_distinct(mixers: Sequence[Mixer]) -> None:
    # The adapter gives each mixer the weights of its edges, so no two cells may share one.
    def iterate() -> Iterator[tuple[nn.Module, str]]:
        for mixer in mixers:
            yield mixer.module, mixer.edges[0].path if mixer.rows is None else mixer.edges[0].path.rsplit(".", 2)[0]

    paths: dict[nn.Module, str] = {}
    for module, path in iterate():
        if paths.setdefault(module, path) != path:
            raise unsupported(f"{paths[module]} and {path} are one and the same mixed operation")
