"""The spaces that search networks of other code bases span: their cells with operations and nodes of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from darts_space import nasbench201
from darts_space.darts import Darts, darts_choices
from darts_space.darts_network import KEPT_INPUTS, NODES
from darts_space.nasbench201 import NasBench201
from darts_space.operations import OPERATIONS
from zcpt.architecture import Architecture, Choice
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import SearchNetworkStructure
from zcpt.compat.structure import Structure
from zcpt.errors import ConfigError
from zcpt.space import CellGraph, SearchSpace

Available = Mapping[str, tuple[str, ...]]
"""Name of an edge's choice -> operations that the network itself does not weigh with 0."""


class SearchNetworkSpace(SearchSpace):
    """A space that a search network spans."""

    base_name: str
    """Name of the space of zcpt with cells of the same form."""

    @abstractmethod
    def to_genotype(self, architecture: Architecture) -> Any:
        """Convert an architecture to the form that the code bases read."""

    @property
    @abstractmethod
    def build_obstacle(self) -> str:
        """Reason why space ``base_name`` can neither build nor price these cells; empty if it can."""

    @abstractmethod
    def count_layers(self) -> int:
        """Return the number of layers of the network, in the space's unit."""

    def format(self, architecture: Architecture) -> str:
        # The writers of the spaces have a fixed number of nodes.
        return repr(self.to_genotype(architecture))

    def _find_foreign_operation(self, own: Mapping[str, object]) -> str:
        operations = {name for choice in self.choices if choice.phase == 0 for name in choice.selectable}
        foreign = sorted(operations - {*own})
        return f"it has no operation '{foreign[0]}'" if foreign else ""


class DartsNetworkSpace(SearchNetworkSpace, Darts):
    """Cells of DARTS' form."""

    base_name = "darts"

    def __init__(self, structure: SearchNetworkStructure, available: Available) -> None:
        self.nodes = structure.nodes
        self.concatenated = structure.joined
        self._is_nested = structure.is_nested
        self._layers = len(structure.kinds)
        self.choices = tuple(_list_darts_choices(structure, available))

    def to_genotype(self, architecture: Architecture) -> Genotype:
        """Convert an architecture to the named tuple that DARTS code bases read; pt.darts has a list for each node."""
        last = 2 + len(self.nodes)
        concat = range(last - self.concatenated, last)
        cells: dict[str, Any] = {kind: list(pairs) for kind, pairs in self._list_pairs(architecture).items()}
        if self._is_nested:
            starts = range(0, KEPT_INPUTS * len(self.nodes), KEPT_INPUTS)
            cells = {kind: [pairs[i : i + KEPT_INPUTS] for i in starts] for kind, pairs in cells.items()}
        return Genotype(cells["normal"], concat, cells["reduce"], concat)

    def count_layers(self) -> int:
        return self._layers

    @property
    def build_obstacle(self) -> str:
        if foreign := self._find_foreign_operation(OPERATIONS):
            return foreign
        if self.nodes != NODES or self.concatenated != len(NODES):
            return f"its cells concatenate 4 nodes, and these concatenate {self.concatenated} of {len(self.nodes)}"
        return ""


def _list_darts_choices(structure: SearchNetworkStructure, available: Available) -> Iterator[Choice]:
    """Yield the choices of DARTS' cells without operations and inputs that the network has struck."""
    candidates = structure.candidates
    # A genotype of DARTS has no 'none': the operation takes part in every mixture and is never kept.
    has_none = any("none" in names for edges in candidates.values() for names in edges)
    not_selectable = ("none",) if has_none else ()
    sources: dict[str, list[str]] = {}
    for choice in darts_choices(lambda kind, edge: candidates[kind][edge], not_selectable, structure.nodes):
        if choice.phase:
            yield replace(choice, candidates=tuple(sources[choice.name]))
            continue
        kind, node, edge = choice.name.split("/")
        inputs = sources.setdefault(f"{kind}/{node}/inputs", [])
        names = available.get(choice.name, choice.candidates)
        if {*names} - {"none"}:
            inputs.append(edge.removeprefix("edge"))
            yield replace(choice, candidates=names)
        if int(edge.removeprefix("edge")) == int(node.removeprefix("node")) - 1 and len(inputs) < KEPT_INPUTS:
            raise ConfigError(
                f"{type(structure.network).__name__} itself weighs too many operations with 0: {node} of its {kind} "
                f"cells needs {KEPT_INPUTS} inputs with an operation, and has {len(inputs)}. Pass the network before "
                "these operations are pruned."
            )


class NasBench201NetworkSpace(SearchNetworkSpace, NasBench201):
    """Cells of NAS-Bench-201's form."""

    base_name = "nasbench201"

    def __init__(self, structure: SearchNetworkStructure, available: Available) -> None:
        self.nodes = structure.nodes
        self._kinds = structure.kinds
        self.choices = tuple(
            Choice(name, available.get(name, names))
            for (node, source), names in zip(structure.positions, structure.candidates["cell"], strict=True)
            for name in [nasbench201.edge_name(node, source)]
        )
        for choice in self.choices:
            if not choice.candidates:
                raise ConfigError(
                    f"{type(structure.network).__name__} itself weighs all operations of {choice.name} with 0: pass "
                    "the network before these operations are pruned."
                )

    def to_genotype(self, architecture: Architecture) -> Structure:
        """Convert an architecture to the object that code bases of NAS-Bench-201 read."""
        self.check(architecture)
        return Structure(
            [
                tuple((architecture[nasbench201.edge_name(node, source)], source) for source in range(node))
                for node in self.nodes
            ]
        )

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        names = ("input", *map(str, self.nodes[:-1]), "output")
        arrows = [
            (names[source], names[node], operation)
            for node, edges in zip(self.nodes, self.to_genotype(architecture).nodes, strict=True)
            for operation, source in edges
            if operation != "none"
        ]
        return (CellGraph("cell", names, tuple(arrows)),)

    def count_layers(self) -> int:
        return self._kinds.index("") if "" in self._kinds else len(self._kinds)

    @property
    def build_obstacle(self) -> str:
        if foreign := self._find_foreign_operation(dict.fromkeys(nasbench201.CANDIDATES)):
            return foreign
        if self.nodes != (1, 2, 3):
            return f"its cells have 4 nodes, and these have {len(self.nodes) + 1}"
        stage = ["cell"] * self.count_layers()
        if list(self._kinds) != [*stage, "", *stage, "", *stage]:
            return "its networks have three stages of equally many cells with a block between them"
        return ""


def make_space(structure: SearchNetworkStructure, available: Available | None = None) -> SearchNetworkSpace:
    """Make the space of a search network, named after the network's class.

    Args:
        structure: The network.
        available: Operations that the network itself does not weigh with 0; None stands for all.

    Raises:
        ConfigError: Too few operations are left.
    """
    base = NasBench201NetworkSpace if structure.form == "nasbench201" else DartsNetworkSpace
    # Architectures and callbacks carry the space's name, which ``SearchSpace`` declares once for each class.
    space = type("Space", (base,), {"name": type(structure.network).__name__})
    made: SearchNetworkSpace = space(structure, available or {})
    return made
