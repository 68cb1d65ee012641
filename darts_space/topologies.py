"""All graphs of a NAS-Bench-1Shot1 space in arrays, so that the cheapest cell is found in a millisecond.

In these spaces the price of a candidate depends on other choices: the nodes that feed the output share its channels,
and all other widths follow from theirs. But a space has only some hundred or thousand graphs. In a given graph all
widths are fixed, so each node can take its cheapest operation independently of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from darts_space.nasbench101 import (
    INPUT,
    OPERATIONS,
    OUTPUT,
    CellSpec,
    fixed_blocks,
    join_blocks,
    list_widths_by_cell,
    operation_blocks,
    projection_blocks,
)
from zcpt.cost import Block, BlockPrice
from zcpt.space import NetworkConfig

Graph = Mapping[int, tuple[int, ...]]
"""Parents of each vertex that influences the output; 0 is the input, and the largest vertex is the output."""
_ABSENT = -1
"""Id of a vertex that a graph does not have."""


class Topologies:
    """Graphs of a space, with the parents and widths of their vertices at one config.

    Args:
        graphs: All graphs, each of them once.
        config: Config of the networks.
    """

    def __init__(self, graphs: Sequence[Graph], config: NetworkConfig) -> None:
        self.graphs = graphs
        self.config = config
        self.output = max(graphs[0])
        self._ids_by_widths: dict[tuple[int, ...], int] = {}
        self._ids_by_joins: dict[tuple[tuple[int, ...], tuple[int, ...], bool], int] = {}
        # One row for each graph: the parents of each vertex as a bit mask, the id of its widths in all cells, and that
        # of its widths and parents. Vertices have few different ones, so prices are computed once for each id.
        self.parents = np.zeros((len(graphs), self.output + 1), dtype=np.int64)
        self.width_ids = np.full((len(graphs), self.output + 1), _ABSENT)
        self.join_ids = np.full((len(graphs), self.output + 1), _ABSENT)
        for row, graph in enumerate(graphs):
            for vertex, widths in zip(sorted(graph), self._list_widths(graph), strict=True):
                self.width_ids[row, vertex] = self._ids_by_widths.setdefault(widths, len(self._ids_by_widths))
                self.parents[row, vertex] = sum(1 << source for source in graph[vertex])
                join = widths, graph[vertex], vertex == self.output
                self.join_ids[row, vertex] = self._ids_by_joins.setdefault(join, len(self._ids_by_joins))
        self.reads_input = (self.parents & 1) == 1  # bit 0 is the input, whose projection is a block of its own

    def _list_widths(self, graph: Graph) -> list[tuple[int, ...]]:
        vertices = [0, *sorted(graph)]
        matrix = [[int(source in graph.get(target, ())) for target in vertices] for source in vertices]
        ops = [INPUT, *[OPERATIONS[0]] * (len(graph) - 1), OUTPUT]
        return list_widths_by_cell(CellSpec.from_arrays(matrix, ops), self.config)[1:]

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all networks of the config."""
        yield from fixed_blocks(self.config)
        for widths in self._ids_by_widths:
            yield from projection_blocks(widths, self.config)
            for name in OPERATIONS:
                yield from operation_blocks(name, widths, self.config)
        for widths, parents, is_output in self._ids_by_joins:
            yield from join_blocks(widths, parents, self.config, is_output=is_output)

    def compute_prices(self, price: BlockPrice) -> PricedTopologies:
        """Return the graphs with the prices of their operations, projections and joins."""
        operations = [
            [sum(map(price, operation_blocks(n, w, self.config))) for n in OPERATIONS] for w in self._ids_by_widths
        ]
        projections = [sum(map(price, projection_blocks(w, self.config))) for w in self._ids_by_widths]
        joins = [sum(map(price, join_blocks(w, p, self.config, is_output=o))) for w, p, o in self._ids_by_joins]
        base = np.where(self.reads_input, np.array(projections)[self.width_ids], 0.0).sum(axis=1)
        base += np.where(self.join_ids == _ABSENT, 0.0, np.array(joins)[self.join_ids]).sum(axis=1)
        return PricedTopologies(self, np.array(operations, dtype=float), base)


class PricedTopologies:
    """Graphs with prices, to find the cheapest allowed one.

    Args:
        topologies: The graphs.
        operations: Prices of operations [widths, operations].
        base: Prices of projections, additions and concatenations [graphs]. Blocks that all networks share
            are left out: they change no order.
    """

    def __init__(self, topologies: Topologies, operations: np.ndarray[Any, Any], base: np.ndarray[Any, Any]) -> None:
        self.topologies = topologies
        self.operations = operations
        self.base = base

    def find_cheapest(
        self, parents: Mapping[int, int], operations: Mapping[int, Sequence[str]], mask: np.ndarray[Any, Any] | None
    ) -> tuple[Graph, dict[int, str]] | None:
        """Return the cheapest graph and the operations of its nodes; None if no graph is allowed.

        Args:
            parents: Allowed parents, as a bit mask, of each vertex with a choice of parents.
            operations: Allowed operations of each node.
            mask: True for the graphs to consider [graphs]; None considers all.
        """
        topologies, width_ids = self.topologies, self.topologies.width_ids
        allowed = np.ones(len(topologies.graphs), dtype=bool) if mask is None else mask.copy()
        for vertex, sources in parents.items():
            allowed &= (topologies.parents[:, vertex] & ~sources) == 0
        if not allowed.any():
            return None
        prices, choice = self.base.copy(), {}
        for node, names in operations.items():
            columns = [OPERATIONS.index(name) for name in names]
            rows = self.operations[:, columns]
            choice[node] = [columns[i] for i in rows.argmin(axis=1)]
            # Rows of absent nodes read index -1, the last id; np.where discards that value.
            prices += np.where(width_ids[:, node] == _ABSENT, 0.0, rows.min(axis=1)[width_ids[:, node]])
        best = int(np.where(allowed, prices, np.inf).argmin())
        graph = topologies.graphs[best]
        return graph, {n: OPERATIONS[choice[n][width_ids[best, n]]] for n in graph if n != topologies.output}
