"""Files and folders that are written completely or not at all, and readers that explain what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from zcpt.errors import ConfigError, ZcptError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8. A kill at any moment leaves the old content or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def to_json_text(document: Any) -> str:
    """Return a document as indented JSON with a newline at its end."""
    return json.dumps(document, indent=2) + "\n"


def read_text(path: Path, hint: str = "") -> str:
    """Read a UTF-8 text file.

    Raises:
        ConfigError: The file is missing (with the hint), or cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} is missing{hint and f': {hint}'}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None


def read_run_file(path: Path) -> str:
    """Read a text file of a run folder; ConfigError if it is missing or cannot be read."""
    return read_text(path, f"{path.parent} is no run folder")


def parse_json(text: str | bytes, source: object, *, hint: str = "", error: type[ZcptError] = ConfigError) -> Any:
    """Parse a JSON document of any origin.

    Args:
        text: The document; bytes are UTF-8.
        source: Where it comes from, for the message.
        hint: What to give instead, for the message.
        error: Class of the error.

    Raises:
        error: The document is damaged, nested too deeply, or has an integer of thousands of digits.
    """
    try:
        document = text.decode() if isinstance(text, bytes) else text
        return json.loads(document.removeprefix("\ufeff"))
    except json.JSONDecodeError as problem:
        reason = f"{problem.msg}, line {problem.lineno}, column {problem.colno}"
    except UnicodeDecodeError as problem:
        reason = f"byte {problem.start} is no UTF-8 text"
    except RecursionError:
        reason = "its lists and mappings are nested too deeply"
    except ValueError:  # Python converts no text of more than some thousand digits
        reason = "it has an integer of thousands of digits"
    raise error(f"{source} is damaged: it is not a complete JSON document ({reason}){hint and f': {hint}'}.")


def read_json(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read a JSON object of a run folder; ConfigError if it is missing, damaged, or lacks one of the keys."""
    return require_keys(parse_json(read_run_file(path), path), keys, path)


def require_keys(document: Any, keys: Iterable[str], source: object) -> dict[str, Any]:
    """Return a document if it is a mapping with these keys, else raise ConfigError. ``a.b`` is key b of mapping a."""
    for key in keys:
        part = document
        for name in key.split("."):
            if not isinstance(part, dict) or name not in part:
                raise ConfigError(f"{source} is damaged: it has no '{key}'.")
            part = part[name]
    if not isinstance(document, dict):
        raise ConfigError(f"{source} is damaged: it holds no mapping.")
    return document


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """Return the problem and its place in a YAML text, in one line."""
    mark: yaml.Mark | None = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or ' '.join(str(error).split())}{where}"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder against other processes.

    The operating system releases the lock when the process ends, also when it is killed.

    Raises:
        ConfigError: Another process holds the lock.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"another process is at work in {folder}: wait for it, or stop it first.") from None


def create_folder(path: Path, files: Mapping[str, str]) -> bool:
    """Create a run folder together with its first files. An empty folder of the user is filled.

    Returns:
        True if the folder is new, False if it was there and empty. A caller that cleans up after a failure removes
        only a folder that is new.

    Raises:
        ConfigError: The path is taken, or the folder cannot be created.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"{path} exists already: give another folder with --out, or continue it with --resume {path}."
            )
        is_new = not path.exists()
        # A new folder is filled under another name first, so that a kill never leaves one that lacks a file.
        partial = path.with_name(f".{path.name}.partial") if is_new else path
        if is_new:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        for name, text in files.items():
            write_atomically(partial / name, text)
        if is_new:
            partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made ({error.strerror}): give another folder with --out.") from None
    return is_new


def describe_difference(key: str, before: Any, now: Any) -> str:
    """Return the first difference between two values of a run folder's document: 'seed is 0, not 1'."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return f"{name} is {before.get(name)!r}, not {now.get(name)!r}"
    return f"{key} is {before!r}, not {now!r}"
