"""All graphs of a NAS-Bench-1Shot1 space in arrays, so that the cheapest cell is a matter of a millisecond.

The choices of that space depend on each other: who feeds the output decides how wide every node is. But there are
only some hundred or thousand graphs, and given the graph each node is free to take its cheapest operation.
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
    operation_blocks,
    projection_blocks,
    widths_by_cell,
)
from zcpt.cost import Block, BlockPrice
from zcpt.space import NetworkConfig

Graph = Mapping[int, tuple[int, ...]]
"""The parents of each vertex that counts; 0 is the input, and the largest vertex is the output."""
_NOWHERE = -1
"""In the place of the widths of a vertex that a graph has not."""


class Topologies:
    """The graphs of a space, and what their vertices are at one config.

    Args:
        graphs: All graphs, each of them once.
        config: Of the networks.
    """

    def __init__(self, graphs: Sequence[Graph], config: NetworkConfig) -> None:
        self.graphs, self.config = graphs, config
        self.output = max(graphs[0])
        self._widths: dict[tuple[int, ...], int] = {}
        # Row by row, what each vertex reads (a bit for each parent) and which of the widths it has.
        self.parents = np.zeros((len(graphs), self.output + 1), dtype=np.int64)
        self.kinds = np.full((len(graphs), self.output + 1), _NOWHERE)
        for row, graph in enumerate(graphs):
            for vertex, widths in zip(sorted(graph), self._vertex_widths(graph), strict=True):
                self.kinds[row, vertex] = self._widths.setdefault(widths, len(self._widths))
                self.parents[row, vertex] = sum(1 << source for source in graph[vertex])
        self.projected = (self.parents & 1) == 1

    def _vertex_widths(self, graph: Graph) -> list[tuple[int, ...]]:
        vertices = [0, *sorted(graph)]
        matrix = [[int(source in graph.get(target, ())) for target in vertices] for source in vertices]
        ops = [INPUT, *[OPERATIONS[0]] * (len(graph) - 1), OUTPUT]
        return widths_by_cell(CellSpec.of(matrix, ops), self.config)[1:]

    def blocks(self) -> Iterator[Block]:
        """Everything that a network may consist of."""
        yield from fixed_blocks(self.config)
        for widths in self._widths:
            yield from projection_blocks(widths, self.config)
            for name in OPERATIONS:
                yield from operation_blocks(name, widths, self.config)

    def priced(self, price: BlockPrice) -> PricedTopologies:
        """The graphs with a price for every part."""
        operations = [[sum(map(price, operation_blocks(n, w, self.config))) for n in OPERATIONS] for w in self._widths]
        projections = [sum(map(price, projection_blocks(w, self.config))) for w in self._widths]
        base = np.where(self.projected, np.array(projections)[self.kinds], 0.0).sum(axis=1)
        return PricedTopologies(self, np.array(operations, dtype=float), base)


class PricedTopologies:
    """Finds the cheapest of the graphs that are allowed.

    Args:
        topologies: The graphs.
        operations: Price [widths, operations].
        base: Price of the projections of each graph [graphs]; what all networks have in common does not matter.
    """

    def __init__(self, topologies: Topologies, operations: np.ndarray[Any, Any], base: np.ndarray[Any, Any]) -> None:
        self.topologies, self.operations, self.base = topologies, operations, base

    def cheapest(
        self, parents: Mapping[int, int], operations: Mapping[int, Sequence[str]], among: np.ndarray[Any, Any] | None
    ) -> tuple[Graph, dict[int, str]] | None:
        """The cheapest graph and the operations of its nodes; None if no graph is allowed.

        Args:
            parents: For vertices that choose, what they may read: a bit for each parent.
            operations: For each node, its operations.
            among: Which graphs count [graphs]; None: all.
        """
        found, kinds = self.topologies, self.topologies.kinds
        allowed = np.ones(len(found.graphs), dtype=bool) if among is None else among.copy()
        for vertex, sources in parents.items():
            allowed &= (found.parents[:, vertex] & ~sources) == 0
        if not allowed.any():
            return None
        prices, choice = self.base.copy(), {}
        for node, names in operations.items():
            columns = [OPERATIONS.index(name) for name in names]
            rows = self.operations[:, columns]
            choice[node] = [columns[i] for i in rows.argmin(axis=1)]
            prices += np.where(kinds[:, node] == _NOWHERE, 0.0, rows.min(axis=1)[kinds[:, node]])
        best = int(np.where(allowed, prices, np.inf).argmin())
        graph = found.graphs[best]
        return graph, {n: OPERATIONS[choice[n][kinds[best, n]]] for n in graph if n != found.output}
