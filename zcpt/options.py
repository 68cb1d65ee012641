"""Options: dataclass fields that are keyword arguments in Python and flags on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field, fields
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any, get_args, get_type_hints

from zcpt.errors import ConfigError, describe_unknown_name


def option(default: Any, help: str, read: Callable[[str], Any] | None = None, shown: str = "") -> Any:
    """Return a dataclass field that is an option.

    Args:
        default: Default value.
        help: Sentence that documents the option.
        read: Parses the value given on the command line; None parses it by the type of the field.
        shown: Default that the help shows, if it is not ``default``.
    """
    return field(default=default, metadata={"help": help, "read": read, "shown": shown or str(default)})


_UNITS = {"k": 3, "M": 6, "G": 9}
"""Decimal exponents of the unit suffixes."""


def parse_number(text: str) -> float:
    """Read 600M, 3.3M, 600e6 or 600000000; ValueError with a sentence for the user if it is not a number."""
    exponent = _UNITS.get(text[-1:], 0)
    try:
        return float(f"{text[:-1]}e{exponent}") if exponent else float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number: write it like 600M, 3.3M, 70k, 1.5G, 600e6 or 600000000") from None


def format_count(value: float, up: bool = False) -> str:
    """Format a number with four significant digits and a unit, as ``parse_number`` reads it; ``up`` rounds up."""
    unit, exponent = next((u for u in reversed(_UNITS.items()) if value >= 10 ** u[1]), ("", 0))
    scaled = Decimal(value).scaleb(-exponent)
    digits = Decimal(1).scaleb(scaled.adjusted() - 3)
    rounded = scaled.quantize(digits, ROUND_CEILING if up else ROUND_HALF_EVEN)
    return f"{rounded.normalize():f}{unit}"


def format_exact(value: float) -> str:
    """Format a number exactly, with a unit if that is exact: ``parse_number`` reads back the same value."""
    text = format_count(value)
    return text if parse_number(text) == value else f"{value:.15g}"


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: '1 cell', '2 cells', '2 batches'. Without ``plural`` the noun takes an 's'."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def format_flag(name: str) -> str:
    """Return the command-line flag of a field: ``max_params`` -> ``--max-params``."""
    return "--" + name.replace("_", "-")


def read_type_hints(settings: type[Any]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, which stand there as text and take long to evaluate."""
    if settings not in _TYPE_HINTS:
        _TYPE_HINTS[settings] = get_type_hints(settings)
    return _TYPE_HINTS[settings]


_TYPE_HINTS: dict[type[Any], dict[str, Any]] = {}
"""Dataclass -> the types of its fields."""


def check_types(config: Any) -> None:
    """Raise ConfigError unless every field of a dataclass has its declared type, or one of its declared words."""
    hints = read_type_hints(type(config))
    for f in fields(config):
        value, hint = getattr(config, f.name), hints[f.name]
        if get_args(hint):
            if value not in get_args(hint):
                raise ConfigError(
                    describe_unknown_name(f"value of {format_flag(f.name)}", str(value), map(str, get_args(hint)))
                )
        # The type itself, because True is an int; an int may stand for a float.
        elif type(value) is not hint and not (hint is float and type(value) is int):
            raise ConfigError(f"{format_flag(f.name)} takes a value of type {hint.__name__}, not {value!r}.")
        elif hint is float and not math.isfinite(value):
            raise ConfigError(f"{format_flag(f.name)} takes a finite number, not {value}.")
