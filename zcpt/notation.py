"""Texts of architectures: a grammar for literals as Python and JSON write them, and what may surround a notation.

Python's own parser is not used: it crashes on some deeply nested texts, prints warnings of its own, and reads more than
a notation needs. Nothing here is ever evaluated. The time to read a text is proportional to its length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from zcpt.errors import NotationError, SpaceError
from zcpt.printing import shorten

MAX_CHARACTERS = 1_000_000
"""Longest text that is read. A log of a search with a genotype after each of its epochs is shorter."""
_MAX_DEPTH = 20
_MAX_DIGITS = 18
_MAX_RANGE = 100
"""Largest bound of ``range(...)``: a damaged text with range(10**9) must not fill the memory."""
_SKIPPED = re.compile(r"(?:\s+|#[^\n]*)*")
_TOKEN = re.compile(
    r"""(?P<number>-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)
      | [uUbBrR]?(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<name>[A-Za-z_][\w.]*)
      | (?P<sign>[][(){},:=*])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_CONSTANTS: dict[str, Any] = {
    **{"None": None, "null": None, "True": True, "true": True, "False": False, "false": False},
    **{"NaN": float("nan"), "nan": float("nan"), "Infinity": float("inf"), "inf": float("inf")},
}
_CONVERSIONS = ("list", "tuple", "array", "asarray", "tensor", "str_", "int_", "int8", "int16", "int32", "int64")
"""Functions of Python, NumPy and PyTorch that stand for their first argument, such as ``np.str_('skip_connect')``."""
_ASSIGNED = r"[ \t]*(?::[^=\n]*)?=(?!=)"
"""What stands between a name and its value, in a regular expression."""
_RESULT_KEYS = ("genotype", "arch", "arch_str", "architecture")
"""Keys of result files that have the text of one network."""
T = TypeVar("T")


class _LiteralError(Exception):
    """A text that is no literal from ``position`` on."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass(frozen=True)
class Call:
    """A call in a text, such as ``DARTS_V2 = genotypes.Genotype(normal=[...], ...)``."""

    target: str
    """Name that the call is assigned to; empty if there is none."""
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]


class _Reader:
    """Reads values one after the other from ``position`` on."""

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position

    def fail(self) -> NoReturn:
        raise _LiteralError(self.position)

    def peek(self) -> re.Match[str] | None:
        """Return the next token, without taking it."""
        skipped = _SKIPPED.match(self.text, self.position)
        assert skipped, "it matches the empty text too"
        self.position = skipped.end()
        return _TOKEN.match(self.text, self.position)

    def take_sign(self, sign: str) -> bool:
        """Take the next token if it is this sign, and return whether it was."""
        token = self.peek()
        if token is None or token["sign"] != sign:
            return False
        self.position = token.end()
        return True

    def read_value(self, depth: int = 0) -> Any:
        """Read a literal: a number, a text, a list, a mapping, or one of the known functions of these."""
        token = self.peek()
        if token is None or depth > _MAX_DEPTH:
            self.fail()
        start, self.position = self.position, token.end()
        if token["number"] and len(token["number"].lstrip("-")) <= _MAX_DIGITS:
            return float(token["number"]) if re.search("[.eE]", token["number"]) else int(token["number"])
        if token["text"]:
            return _ESCAPE.sub(_replace_escape, token["text"][1:-1])
        if token["sign"] in ("[", "("):
            items, has_comma = self._read_items("]" if token["sign"] == "[" else ")", depth)
            return items[0] if token["sign"] == "(" and len(items) == 1 and not has_comma else items
        if token["sign"] == "{":
            return self._read_mapping(depth)
        if token["name"] and self.take_sign("("):
            value = _evaluate(token["name"].rpartition(".")[2], *self.read_arguments(depth))
            if value is not _UNKNOWN:
                return value
        elif token["name"] in _CONSTANTS:
            return _CONSTANTS[token["name"]]
        raise _LiteralError(start)

    def _read_items(self, end: str, depth: int) -> tuple[list[Any], bool]:
        """Read values up to the closing bracket; return also whether there was a comma."""
        items: list[Any] = []
        has_comma = False
        while not self.take_sign(end):
            if items and not has_comma:
                self.fail()
            if self.take_sign("*"):
                several = self.read_value(depth + 1)
                items += several if isinstance(several, list) else self.fail()
            else:
                items.append(self.read_value(depth + 1))
            has_comma = self.take_sign(",")
        return items, has_comma

    def _read_mapping(self, depth: int) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        has_comma = True
        while not self.take_sign("}"):
            key = self.read_value(depth + 1) if has_comma else self.fail()
            if not isinstance(key, str | int) or not self.take_sign(":"):
                self.fail()
            mapping[key] = self.read_value(depth + 1)
            has_comma = self.take_sign(",")
        return mapping

    def read_arguments(self, depth: int = 0) -> tuple[list[Any], dict[str, Any]]:
        """Read the arguments of a call after its opening bracket, up to the closing one."""
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        has_comma = True
        while not self.take_sign(")"):
            token = self.peek() if has_comma else self.fail()
            keyword = ""
            if token and token["name"]:
                self.position = token.end()
                keyword = token["name"] if self.take_sign("=") else ""
                self.position = self.position if keyword else token.start()
                value = self.peek()
                if keyword == "dtype" and value and value["name"]:  # np.int64: it changes no value
                    self.position = value.end()
                    has_comma = self.take_sign(",")
                    continue
            if keyword in keywords or (keywords and not keyword):
                self.fail()
            if keyword:
                keywords[keyword] = self.read_value(depth + 1)
            else:
                arguments.append(self.read_value(depth + 1))
            has_comma = self.take_sign(",")
        return arguments, keywords


_UNKNOWN = object()


def _evaluate(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Return the value of a call of a known function, else ``_UNKNOWN``."""
    if name == "range" and 1 <= len(arguments) <= 3 and not keywords:
        if all(type(bound) is int and abs(bound) < _MAX_RANGE for bound in arguments) and arguments[2:] != [0]:
            return list(range(*arguments))
    elif name in _CONVERSIONS and len(arguments) <= 1:
        return arguments[0] if arguments else []  # keywords such as dtype change no value
    elif name == "dict" and not arguments:
        return dict(keywords)
    return _UNKNOWN


def _replace_escape(match: re.Match[str]) -> str:
    escaped = match[1]
    return chr(int(escaped[1:], 16)) if len(escaped) > 1 else _ESCAPED.get(escaped, escaped)


def read_literal(text: str) -> Any:
    """Read a text that is one literal; tuples become lists.

    Raises:
        NotationError: The text is something else.
    """
    reader = _Reader(text)
    try:
        value = reader.read_value()
        if reader.peek() or reader.position < len(text):
            reader.fail()
    except _LiteralError as error:
        place = f"character {error.position + 1}"
        raise NotationError(f"'{shorten(text)}' cannot be read from {place} on.") from None
    return value


def find_literal(text: str, start: str) -> Any:
    """Read the literal at the first match of a regular expression; None if there is no match, or no literal there."""
    match = re.search(start, text)
    try:
        return _Reader(text, match.start()).read_value() if match else None
    except _LiteralError:
        return None


def find_calls(text: str, name: str) -> list[Call]:
    """Find all complete calls of a name in a text of any kind, such as a log or a Python file."""
    calls = []
    start, position = re.compile(rf"\b{name}\s*\("), 0
    while match := start.search(text, position):
        reader = _Reader(text, match.end())
        try:
            arguments, keywords = reader.read_arguments()
            calls.append(Call(_find_target(text[max(0, match.start() - 200) : match.start()]), arguments, keywords))
            position = reader.position
        except _LiteralError as error:
            position = max(error.position, match.end())
    return calls


def _find_target(before: str) -> str:
    """Return the name to which a call is assigned, from the text before it."""
    match = re.search(r"([A-Za-z_]\w*)[ \t]*(?::[^=\n]*)?=\s*(?:\w+\.)*$", before)
    return match[1] if match else ""


def extract_assignment(text: str, name: str) -> str:
    """Return the right-hand side of ``name = ...`` in a Python file, as text.

    Raises:
        SpaceError: The file has no such assignment.
    """
    for _ in range(10):  # DARTS = DARTS_V2: the name of another name
        match = re.search(rf"^{re.escape(name)}{_ASSIGNED}", text, re.MULTILINE)
        if match is None:
            break
        reader = _Reader(text, match.end())
        token = reader.peek()
        start = reader.position
        try:
            if token and token["name"] and token["name"] not in _CONSTANTS:
                reader.position = token.end()
                if not reader.take_sign("("):
                    name = token["name"]
                    continue
                reader.read_arguments()
            else:
                reader.read_value()
        except _LiteralError:
            break
        return text[start : reader.position]
    names = re.findall(rf"^([A-Za-z_]\w*){_ASSIGNED}", text, re.MULTILINE)
    listed = ", ".join(shorten(given, 40) for given in names[:20]) or "nothing"
    raise SpaceError(f"there is no '{shorten(name)}': the file has {listed}{', ...' if len(names) > 20 else ''}.")


def pick_single(found: Sequence[tuple[str, T]], what: str) -> T:
    """Return the value if all that were found are equal.

    Args:
        found: Name and value of each one that was found, at least one; a name may be empty.
        what: What they are, in the plural, for the message.

    Raises:
        SpaceError: The values differ.
    """
    distinct: list[tuple[str, T]] = []
    seen = set()
    for name, value in found:
        if repr(value) not in seen:
            seen.add(repr(value))
            distinct.append((name, value))
    if len(distinct) == 1:
        return distinct[0][1]
    names = [shorten(name, 40) for name, _ in distinct if name]
    if len(set(names)) == len(distinct):
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        hint = f"give the name of one of them, {listed}, as --arch FILE:NAME, or its text"
    else:
        hint = "give the text of one of them"
    raise SpaceError(f"the text has {len(distinct)} different {what}: {hint}.")


def clean_text(given: object) -> str:
    """Return the text of an architecture without what commonly surrounds it.

    This is a byte order mark, white space, quotation marks, ``NAME = '...'``, or a result file of the published
    Zero-Cost-PT code with one network. A named tuple, list or mapping stands for the text that Python prints for it.

    Raises:
        SpaceError: What was given is no text, is too long, or is a result file of several networks.
    """
    if isinstance(given, bytes):
        given = given.decode(errors="replace")
    elif isinstance(given, Mapping | list | tuple):
        given = repr(given)
    elif callable(tostr := getattr(given, "tostr", None)):  # the Structure of NAS-Bench-201's code, and zcpt.select's
        given = tostr()
    if not isinstance(given, str):
        raise SpaceError(f"an architecture is read from its text, not from a value of type {type(given).__name__}.")
    if len(given) > MAX_CHARACTERS:
        raise SpaceError(
            f"a text of {len(given)} characters is too long for an architecture: at most {MAX_CHARACTERS} are read."
        )
    text = given.replace("\ufeff", "").strip()
    quoted = re.fullmatch(r"(?:[A-Za-z_]\w*\s*=\s*)?(['\"`])(.*)\1", text, re.DOTALL)
    if quoted and quoted[1] not in quoted[2]:
        text = quoted[2].strip()
    return _extract_result(text) if text.startswith("{") else text


def _extract_result(text: str) -> str:
    """Return the network's text if a text is a result file of one network, else the text itself."""
    document = find_literal(text, r"\{")
    if not isinstance(document, dict):
        return text
    networks = document.get("networks")
    if not isinstance(networks, list) or not networks:
        networks = [document]
    found = []
    for network in networks:
        if isinstance(network, dict):
            network = next((network[key] for key in _RESULT_KEYS if isinstance(network.get(key), str)), None)
        if not isinstance(network, str):
            return text
        found.append(("", network))
    return pick_single(found, "networks").strip()
