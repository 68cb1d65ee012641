"""Variants of a measurement in a YAML file: names, and the settings of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from zcpt.errors import ConfigError
from zcpt.files import describe_yaml_error, read_text


def read_variant_settings(path: Path, readers: Mapping[str, Callable[[str], Any] | None]) -> dict[str, dict[str, Any]]:
    """Read a YAML file that maps names of variants to settings.

    Args:
        path: The file.
        readers: Name of a setting -> reader of its text, as on the command line; None leaves a text as it is.

    Raises:
        ConfigError: The file is missing, is no YAML, or has another form; or a variant has a seed.
    """
    try:
        document = yaml.safe_load(read_text(path, "give --variants a YAML file"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {describe_yaml_error(error)}.") from None
    if not isinstance(document, dict) or not document:
        raise ConfigError(f"{path} must map names of variants to settings, such as 'fixed: {{order: fixed}}'.")
    variants: dict[str, dict[str, Any]] = {}
    for name, settings in document.items():
        if not re.fullmatch(r"\w[\w.+-]*", str(name)):
            # A variant's folder has its name.
            raise ConfigError(f"{path}: '{name}' is no name of a variant: use letters, digits, '.', '_', '+' and '-'.")
        if not isinstance(settings, dict | None):
            raise ConfigError(f"{path}: variant '{name}' must map settings to values, not be '{settings}'.")
        variants[str(name)] = {
            # As on the command line: 600M is a number.
            key: _read(readers.get(key), value) if isinstance(value, str) else value
            for key, value in (settings or {}).items()
        }
        if "seed" in variants[str(name)]:
            raise ConfigError(f"{path}: variant '{name}' must not have a seed: give --seeds.")
    return variants


def _read(reader: Callable[[str], Any] | None, text: str) -> Any:
    return reader(text) if reader else text
