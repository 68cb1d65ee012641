"""Dataclasses of settings: their fields are the keyword arguments in Python and the flags on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field, fields
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any, get_args, get_type_hints

from zcpt.errors import ConfigError, describe_unknown_name


def option(default: Any, help: str, read: Callable[[str], Any] | None = None, shown: str = "") -> Any:
    """A dataclass field as a setting.

    Args:
        default: Its value where nothing else gives one.
        help: The sentence that documents it.
        read: How its value is read from a command line.
        shown: What a command takes where it is not given, if that is not ``default``.
    """
    return field(default=default, metadata={"help": help, "read": read, "shown": shown or str(default)})


_UNITS = {"k": 3, "M": 6, "G": 9}


def parse_number(text: str) -> float:
    """Read 600M, 3.3M, 600e6 or 600000000; ValueError with a sentence for the user if it is no number."""
    exponent = _UNITS.get(text[-1:], 0)
    try:
        return float(f"{text[:-1]}e{exponent}") if exponent else float(text)
    except ValueError:
        raise ValueError(f"'{text}' is no number: write it like 600M, 3.3M, 70k, 1.5G, 600e6 or 600000000") from None


def format_count(value: float, up: bool = False) -> str:
    """A number with four digits, so that ``parse_number`` can read it; with ``up`` never less than it is."""
    unit, exponent = next((u for u in reversed(_UNITS.items()) if value >= 10 ** u[1]), ("", 0))
    scaled = Decimal(value).scaleb(-exponent)
    digits = Decimal(1).scaleb(scaled.adjusted() - 3)
    rounded = scaled.quantize(digits, ROUND_CEILING if up else ROUND_HALF_EVEN)
    return f"{rounded.normalize():f}{unit}"


def format_exact(value: float) -> str:
    """A number that ``parse_number`` reads as the same, in the shorter way of writing it."""
    text = format_count(value)
    return text if parse_number(text) == value else f"{value:.15g}"


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: '1 cell', '2 cells', '2 batches'. Without ``plural`` the noun takes an 's'."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def format_flag(name: str) -> str:
    """How a field is spelled on the command line."""
    return "--" + name.replace("_", "-")


def check_types(config: Any) -> None:
    """ConfigError unless every field of a dataclass has a value of the type, or among the words, it declares."""
    hints = get_type_hints(type(config))
    for f in fields(config):
        value, hint = getattr(config, f.name), hints[f.name]
        if get_args(hint):
            if value not in get_args(hint):
                raise ConfigError(
                    describe_unknown_name(f"value of {format_flag(f.name)}", str(value), map(str, get_args(hint)))
                )
        elif type(value) is not hint and not (hint is float and type(value) is int):
            raise ConfigError(f"{format_flag(f.name)} takes a value of type {hint.__name__}, not {value!r}.")
        elif hint is float and not math.isfinite(value):
            raise ConfigError(f"{format_flag(f.name)} takes a finite number, not {value}.")
