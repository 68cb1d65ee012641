"""The text notation of DARTS cells: ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)``."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from zcpt.errors import SpaceError

Pairs = tuple[tuple[str, int], ...]
"""(operation, input) pairs of a cell, two for each node."""
KINDS = ("normal", "reduce")
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_FORM = "Genotype(normal=[('op', input), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"


def read_genotype(text: str) -> dict[str, Pairs]:
    """Read the eight (operation, input) pairs of both cells.

    Lists and tuples are equivalent, and a JSON object with the four fields is read too, because the published
    Zero-Cost-PT code writes that. The text is parsed by Python's grammar and never evaluated.

    Raises:
        SpaceError: The text has another form, or concatenates other nodes than 2 to 5.
    """
    text = text.strip()
    fields = _read_json_fields(text) if text.startswith("{") else _read_call_fields(text)
    if tuple(sorted(fields)) != _FIELDS:
        raise SpaceError(f"a genotype has the fields {', '.join(_FIELDS)}, not {', '.join(sorted(fields))}.")
    for kind in KINDS:
        concat = fields[f"{kind}_concat"]
        if not isinstance(concat, list | tuple) or list(concat) != [2, 3, 4, 5]:
            raise SpaceError(f"{kind}_concat must be range(2, 6), for nodes 2 to 5, not {concat!r}.")
    return {kind: _check_pairs(kind, fields[kind]) for kind in KINDS}


def write_genotype(cells: Mapping[str, Pairs]) -> str:
    """Return the text of both cells, as Python prints DARTS' namedtuple."""
    # Two pairs for each node, and nodes are numbered from 2: the inputs of the cell are 0 and 1.
    nodes = {kind: range(2, 2 + len(cells[kind]) // 2) for kind in KINDS}
    parts = (f"{kind}={list(cells[kind])}, {kind}_concat={nodes[kind]}" for kind in KINDS)
    return f"Genotype({', '.join(parts)})"


def _read_json_fields(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpaceError(f"the genotype is not a complete JSON object: {error}.") from None
    return dict(document)


def _read_call_fields(text: str) -> dict[str, Any]:
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        raise SpaceError(f"'{_shorten(text)}' is not of the form {_FORM}.") from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "Genotype" or node.args:
        raise SpaceError(f"'{_shorten(text)}' is not of the form {_FORM}.")
    return {str(keyword.arg): _read_literal(keyword.value) for keyword in node.keywords}


def _read_literal(node: ast.expr) -> Any:
    if isinstance(node, ast.List | ast.Tuple):
        return [_read_literal(item) for item in node.elts]
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_read_literal(argument) for argument in node.args]
        # The limit keeps range(10**9) in a damaged file from filling the memory.
        if len(bounds) in (1, 2) and all(isinstance(bound, int) and abs(bound) < 100 for bound in bounds):
            return list(range(*bounds))
    raise SpaceError(f"a genotype holds lists, names, numbers and range(2, 6), not '{_shorten(ast.unparse(node))}'.")


def _check_pairs(kind: str, value: Any) -> Pairs:
    if not isinstance(value, list | tuple) or len(value) != 8:
        raise SpaceError(
            f"the {kind} cell of a genotype has eight (operation, input) pairs, not {_shorten(str(value))}."
        )
    for pair in value:
        if not isinstance(pair, list | tuple) or [type(part) for part in pair] != [str, int]:
            raise SpaceError(f"{pair!r} in the {kind} cell is not a pair (operation, input).")
    return tuple((operation, source) for operation, source in value)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
