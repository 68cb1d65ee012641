"""The text notation of DARTS cells: ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcpt.errors import NotationError, SpaceError
from zcpt.notation import Call, clean_text, find_calls, find_literal, pick_single
from zcpt.options import pluralize
from zcpt.printing import shorten

Pairs = tuple[tuple[str, int], ...]
"""(operation, input) pairs of a cell, two for each node."""
KINDS = ("normal", "reduce")
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_FORM = "Genotype(normal=[('op', input), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
_NODES = (2, 3, 4, 5)


def read_genotype(given: object) -> dict[str, Pairs]:
    """Read the (operation, input) pairs of both cells, two for each of the nodes 2 to 5.

    The text may be a line of a log or a Python file, and ``Genotype`` may be a name in a module, with or without names
    of its fields. Lists and tuples are equivalent, the pairs of a node may be a list of their own, and a mapping with
    the four fields is read too, because the published Zero-Cost-PT code writes that. Nothing is evaluated.

    Raises:
        NotationError: There is no genotype in the text.
        SpaceError: The cells have another form, or the text has several genotypes.
    """
    text = clean_text(given)
    calls = find_calls(text, "Genotype")
    found = [(call.target, _name_fields(call)) for call in calls]
    if not found:
        fields = find_literal(text, r"\{\s*[uU]?['\"](?:normal|reduce)")
        if not isinstance(fields, dict):
            raise NotationError(f"'{shorten(text)}' is not of the form {_FORM}.")
        found = [("", fields)]
    fields = pick_single(found, "genotypes")
    if tuple(sorted(map(str, fields))) != _FIELDS:
        names = shorten(", ".join(sorted(map(str, fields))))
        raise SpaceError(f"a genotype has the fields {', '.join(_FIELDS)}, not {names}.")
    cells = {kind: _read_pairs(kind, fields[kind]) for kind in KINDS}
    for kind in KINDS:
        concat = fields[f"{kind}_concat"]
        if concat != list(_NODES):
            raise SpaceError(
                f"{kind}_concat must be range(2, 6), because the output concatenates all four nodes, not "
                f"{shorten(concat)}."
            )
    return cells


def write_genotype(cells: Mapping[str, Pairs]) -> str:
    """Return the text of both cells, as Python prints DARTS' namedtuple."""
    # Two pairs for each node, and nodes are numbered from 2: the inputs of the cell are 0 and 1.
    nodes = {kind: range(2, 2 + len(cells[kind]) // 2) for kind in KINDS}
    parts = (f"{kind}={list(cells[kind])}, {kind}_concat={nodes[kind]}" for kind in KINDS)
    return f"Genotype({', '.join(parts)})"


def _name_fields(call: Call) -> dict[str, Any]:
    """Return the fields of a call by name; None stands for a field that the genotype does not have."""
    if len(call.arguments) > len(_FIELDS):
        raise SpaceError(f"a genotype has the fields {', '.join(_FIELDS)}, not {len(call.arguments)} of them.")
    fields = dict(zip(_FIELDS, call.arguments, strict=False))
    if set(fields) & set(call.keywords):
        raise SpaceError(f"the genotype gives {min(set(fields) & set(call.keywords))} twice.")
    # Genotypes of AutoDL-Projects have the fields connectN and connects too, both None.
    return fields | {name: value for name, value in call.keywords.items() if name in _FIELDS or value is not None}


def _read_pairs(kind: str, value: Any) -> Pairs:
    nodes = _split_nodes(kind, value)
    if len(nodes) != len(_NODES):
        raise SpaceError(
            f"the {kind} cell of the genotype has {pluralize(len(nodes), 'node')}, and a cell of this space has four."
        )
    for node, pairs in zip(_NODES, nodes, strict=True):
        if len(pairs) != 2:
            inputs = pluralize(len(pairs), "input")
            raise SpaceError(f"node {node} of the {kind} cell has {inputs}, and a node of this space has two.")
        sources = [source for _, source in pairs]
        for source in sources:
            if not 0 <= source < node:
                raise SpaceError(f"node {node} of the {kind} cell has input {source}: it can be 0 to {node - 1}.")
        if sources[0] == sources[1]:
            raise SpaceError(
                f"node {node} of the {kind} cell has input {sources[0]} twice, and in this space the two inputs of a "
                "node differ."
            )
    return tuple(pair for pairs in nodes for pair in pairs)


def _split_nodes(kind: str, value: Any) -> list[list[tuple[str, int]]]:
    """Return the (operation, input) pairs of each node."""
    if not isinstance(value, list):
        raise SpaceError(f"the {kind} cell of a genotype is a list of (operation, input) pairs, not {shorten(value)}.")
    if value and all(isinstance(item, list) and item and isinstance(item[0], list) for item in value):
        return [[_read_pair(kind, pair) for pair in pairs] for pairs in value]
    if value and all(_has_types(item, str, int, int) for item in value):
        # FairDARTS writes (operation, node, input).
        by_node: dict[int, list[tuple[str, int]]] = {node: [] for node in _NODES}
        for operation, node, source in value:
            by_node.setdefault(node, []).append((operation, source))
        return [by_node[node] for node in sorted(by_node)]
    pairs = [_read_pair(kind, item) for item in value]
    if len(pairs) % 2:
        raise SpaceError(
            f"the {kind} cell of the genotype has {len(pairs)} (operation, input) pairs, and a cell of this space has "
            "eight: two for each of four nodes."
        )
    return [pairs[i : i + 2] for i in range(0, len(pairs), 2)]


def _read_pair(kind: str, item: Any) -> tuple[str, int]:
    if not _has_types(item, str, int):
        raise SpaceError(f"{shorten(item)} in the {kind} cell is not a pair (operation, input).")
    return item[0], item[1]


def _has_types(item: Any, *types: type) -> bool:
    # The type itself, because True is an int.
    return isinstance(item, list) and [type(part) for part in item] == list(types)
