"""Files and folders that are either all there or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zcpt.errors import ConfigError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file; a kill at any moment leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def as_json(document: Any) -> str:
    """A document as our files hold it."""
    return json.dumps(document, indent=2) + "\n"


def read_text(path: Path) -> str:
    """Read a text file; ConfigError when it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} is missing: is {path.parent} a run folder?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None


def read_json(path: Path) -> Any:
    """Read a JSON document; ConfigError when it is missing or damaged."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is damaged: {error}.") from None


def make_folder(path: Path, files: Mapping[str, str]) -> None:
    """Make a new folder together with its first files.

    Raises:
        ConfigError: There is something already, or the folder cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            f"{path} exists already: give another folder with --out, or continue it with --resume {path}."
        )
    partial = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, text in files.items():
            write_atomically(partial / name, text)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made ({error.strerror}): give another folder with --out.") from None
