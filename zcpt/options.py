"""Dataclasses of settings: their fields are the keyword arguments in Python and the flags on the command line."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any, get_args, get_type_hints

from zcpt.errors import ConfigError, unknown


def option(default: Any, help: str) -> Any:
    """A dataclass field with the sentence that documents it."""
    return field(default=default, metadata={"help": help})


def flag(name: str) -> str:
    """How a field is spelled on the command line."""
    return "--" + name.replace("_", "-")


def check_types(config: Any) -> None:
    """ConfigError unless every field of a dataclass has a value of the type, or among the words, it declares."""
    hints = get_type_hints(type(config))
    for f in fields(config):
        value, hint = getattr(config, f.name), hints[f.name]
        if get_args(hint):
            if value not in get_args(hint):
                raise ConfigError(unknown(f"value of {flag(f.name)}", str(value), map(str, get_args(hint))))
        elif type(value) is not hint and not (hint is float and type(value) is int):
            raise ConfigError(f"{flag(f.name)} takes a value of type {hint.__name__}, not {value!r}.")
        elif hint is float and not math.isfinite(value):
            raise ConfigError(f"{flag(f.name)} takes a finite number, not {value}.")
