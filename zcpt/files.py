"""Files and folders that are written completely or not at all, and readers that explain what is wrong."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from zcpt.errors import ConfigError, StorageError, ZcptError

LOCK = ".lock"
"""File that a process locks while it works in a folder. It stays there; the lock itself ends with the process."""
PARTIAL = ".partial"
"""Ending of the name of a file while it is written."""
MAX_TEXT = 2**26
"""Bytes of the longest text that is read: a hundred times those of the largest table of latencies or scores."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8. A kill at any moment leaves the old content or the new one, never a part.

    Raises:
        StorageError: The file cannot be written; its old content, if any, is still there.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)  # left by a kill
        with open_file(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):  # the first error is the one that matters
            partial.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {describe_os_error(error)}.") from error


def open_file(path: Path, flags: int) -> BinaryIO:
    """Open a regular file as bytes, by the flags of ``os.open``.

    Raises:
        OSError: The file cannot be opened, is a symbolic link, or is no regular file.
    """
    # O_NONBLOCK: a named pipe must not wait for a reader.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "wb" if flags & os.O_WRONLY else "rb")


def describe_os_error(error: OSError) -> str:
    """Return the reason of an error of the operating system, with what to do where it is known."""
    remedies = {
        errno.ENOSPC: "the disk is full: free space on it",
        errno.EDQUOT: "the disk quota is used up: free space",
        errno.ENOENT: "it, or its folder, is missing",
        errno.ELOOP: "it is a symbolic link, and zcpt writes only inside its run folder",
        errno.EIO: "the disk reports an error: check it, or use another one",
    }
    return remedies.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)


def to_json_text(document: Any) -> str:
    """Return a document as indented JSON with a newline at its end."""
    return json.dumps(document, indent=2) + "\n"


def read_text(path: Path, hint: str = "", limit: int = MAX_TEXT) -> str:
    """Read a UTF-8 text file.

    Args:
        path: The file.
        hint: What to give instead, for the message where it is missing.
        limit: Most bytes that are read.

    Raises:
        ConfigError: The file is missing (with the hint), is too long, or cannot be read as text.
    """
    try:
        if path.is_char_device() or path.is_block_device():  # /dev/zero has no end
            raise ConfigError(f"{path} cannot be read: it is a device, not a file.")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:  # also of a pipe, such as that of 'yes', which may have no end
            raise ConfigError(f"{path} cannot be read: it has more than {limit // 2**20} MiB.")
        # Line ends as in text mode; a byte order mark stays.
        return content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} is missing{hint and f': {hint}'}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {describe_os_error(error)}.") from None
    except ValueError as error:  # no UTF-8, or a name with a null character
        raise ConfigError(f"{path} cannot be read: {error}.") from None


def read_run_file(path: Path) -> str:
    """Read a text file of a run folder; ConfigError if it is missing, no regular file, or cannot be read."""
    if path.exists() and not path.is_file():  # reading a named pipe would wait for ever
        raise ConfigError(f"{path} cannot be read: it is no regular file.")
    is_unfinished = path.parent.is_dir() and {LOCK} <= set(os.listdir(path.parent)) <= {LOCK, path.name + PARTIAL}
    if is_unfinished:
        raise ConfigError(
            f"{path} is missing: the command that made {path.parent} was killed before it wrote its settings, so start "
            f"it again with --out {path.parent}."
        )
    hint = f"{path.parent} is no run folder"
    if (path.parent / "config.json").is_file() or (path.parent / "args.yaml").is_file():
        hint = f"the run of {path.parent} is of another kind or not finished (see 'zcpt show')"
    return read_text(path, hint)


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


def parse_yaml(text: str, source: object) -> Any:
    """Parse a YAML document; ConfigError if it is damaged, nested too deeply, or has a number or date that is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = describe_yaml_error(error)
    except RecursionError:
        reason = "its lists and mappings are nested too deeply"
    except (ValueError, OverflowError) as error:  # such as a date of month 13, or an integer of thousands of digits
        reason = str(error)
    raise ConfigError(f"{source} is damaged: {reason}.")


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """Return the problem and its place in a YAML text, in one line."""
    mark: yaml.Mark | None = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or ' '.join(str(error).split())}{where}"


def describe_difference(key: str, before: Any, now: Any) -> str:
    """Return the first difference between two values of a run folder's document: 'seed is 0, not 1'."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return f"{name} is {before.get(name)!r}, not {now.get(name)!r}"
    return f"{key} is {before!r}, not {now!r}"
