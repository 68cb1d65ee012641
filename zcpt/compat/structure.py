"""Cells of NAS-Bench-201's form, as its code bases write and read them."""

from __future__ import annotations

from collections.abc import Sequence

Node = tuple[tuple[str, int], ...]
"""(operation, input) of each edge of a node."""


class Structure:
    """A cell as in NAS-Bench-201 and AutoDL-Projects, which use ``tostr()`` and ``nodes``.

    Args:
        nodes: (operation, input) of each edge, for each node behind the input.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self.node_num = len(nodes) + 1
        """Number of nodes, with the input."""

    def tostr(self) -> str:
        """Return ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, the key of the benchmark's tables."""
        return "+".join("|" + "".join(f"{operation}~{source}|" for operation, source in node) for node in self.nodes)

    def __len__(self) -> int:
        return self.node_num

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.tostr())

    def __repr__(self) -> str:
        return f"Structure({self.node_num} nodes with {self.tostr()})"
