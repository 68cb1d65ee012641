"""Records of a journal, checked before anything is decided by them: the file may be damaged, or of another search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from zcpt.errors import ConfigError
from zcpt.journal import REMEDY, Record
from zcpt.printing import shorten

_PURPOSES = ("decide", "survey", "settle")


class Kind(NamedTuple):
    """Kind of value that a field holds."""

    name: str
    """What the field should be, for messages."""
    has: Callable[[Any], bool]
    """Returns whether a value is of this kind."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)  # the type itself, because True is an int


def _is_list_of(value: Any, has: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(has(item) for item in value)


TEXT = Kind("a text", lambda value: isinstance(value, str))
COUNT = Kind("a number from 0", lambda value: type(value) is int and value >= 0)
NUMBER = Kind("a number", _is_number)
PURPOSE = Kind(f"one of {', '.join(_PURPOSES)}", lambda value: value in _PURPOSES)
INTEGER = Kind("an integer", lambda value: type(value) is int)
MAPPING = Kind("a mapping", lambda value: isinstance(value, dict))
TEXTS = Kind("a list of texts", lambda value: _is_list_of(value, TEXT.has))
NUMBERS = Kind("a list of numbers", lambda value: _is_list_of(value, _is_number))
PARTS = Kind(
    "a mapping of proxies to lists of numbers",
    lambda value: isinstance(value, dict) and all(NUMBERS.has(scores) for scores in value.values()),
)
DECISION_FIELDS = {
    "step": COUNT,
    "choice": TEXT,
    "candidates": TEXTS,
    "scores": NUMBERS,
    "importance": NUMBERS,
    "kept": TEXTS,
    "seconds": NUMBER,
    "purpose": PURPOSE,
    "excluded": TEXTS,
}
_OPTIONAL_FIELDS = {"parts": PARTS, "first": COUNT}
FINALIST_FIELDS = {
    "architecture": TEXT,
    "by": MAPPING,
    "value": NUMBER,
    "report": MAPPING,
    "seconds": NUMBER,
    "failure": TEXT,
}
VALIDATION_FIELDS = {"init": COUNT, "batch": COUNT, "scores": NUMBERS, "seconds": NUMBER}


def check_decision_record(record: Record, place: str, keep: int | None = None) -> None:
    """Raise ConfigError unless a record holds a whole decision.

    That it keeps the most important candidates is not checked: a version may rank equal ones in another order.

    Args:
        record: The record.
        place: File and line, for messages.
        keep: Number of candidates that the decision keeps, if any has a finite score; None if it is not known.
    """
    _check_fields(record, DECISION_FIELDS, place)
    count = len(record["candidates"])
    if any(len(record[name]) != count for name in ("scores", "importance")):
        _refuse(place, f"it has {len(record['scores'])} scores and {len(record['importance'])} importances for {count}")
    kept = list(record["kept"])
    if keep is None:
        keep = len(kept)
    if kept and (len(kept) != keep or kept != [name for name in record["candidates"] if name in kept]):
        _refuse(place, f"its 'kept' must be {keep} of its candidates, and is {shorten(repr(kept))}")
    importance = dict(zip(record["candidates"], record["importance"], strict=True))
    if not kept and any(v > -math.inf for name, v in importance.items() if name not in record["excluded"]):
        _refuse(place, "it keeps no candidate, although some have a score")
    if any(len(scores) != count for scores in record.get("parts", {}).values()):
        _refuse(place, f"its 'parts' are not {count} scores by each proxy")


def check_validation_record(record: Record, place: str) -> None:
    """Raise ConfigError unless a record holds the scores of a validation batch; the arguments are as above."""
    _check_fields(record, VALIDATION_FIELDS, place)
    count = len(record["scores"])
    if any(len(scores) != count for scores in record.get("parts", {}).values()):
        _refuse(place, f"its 'parts' are not {count} scores by each proxy")


def check_finalist_record(record: Record, place: str) -> None:
    """Raise ConfigError unless a record holds the measurement of a finalist; the arguments are as above."""
    _check_fields(record, FINALIST_FIELDS, place)


def check_expected(record: Record, expected: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError unless a record is the one that a search has reached."""
    for name, value in expected.items():
        if record[name] != value:
            raise ConfigError(
                f"{place} belongs to another search: it has {name} {shorten(repr(record[name]))} where this search has "
                f"{value!r}. Start a new search with another --out; or, if the file was changed, {REMEDY}."
            )


def _check_fields(record: Record, kinds: Mapping[str, Kind], place: str) -> None:
    optional = {name: kind for name, kind in _OPTIONAL_FIELDS.items() if name in record}
    for name, kind in {**kinds, **optional}.items():
        if name not in record:
            _refuse(place, f"it has no '{name}'")
        value = record[name]
        if not kind.has(value):
            _refuse(place, f"its '{name}' must be {kind.name}, and is {shorten(repr(value))}")


def _refuse(place: str, reason: str) -> NoReturn:
    raise ConfigError(f"{place} is damaged: {reason}: {REMEDY}.")
