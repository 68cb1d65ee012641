"""Run folders: claimed by one process at a time, and never a way out of themselves by symbolic links."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from zcpt.errors import ConfigError
from zcpt.files import LOCK, PARTIAL, describe_os_error, write_atomically

_ATTEMPTS = 5
"""Attempts to claim a folder that another process removes at the same moment."""


@dataclass(frozen=True)
class NewFolder:
    """A run folder that this process has just claimed."""

    path: Path
    is_new: bool
    """False if the folder was there and empty: then it stays, whatever happens."""
    files: tuple[str, ...]
    """Names of its first files."""

    def withdraw(self) -> None:
        """Remove the first files, and the folder if it is new and nothing else is in it."""
        for name in (*self.files, LOCK):
            (self.path / name).unlink(missing_ok=True)
        if self.is_new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder against other processes.

    The operating system releases the lock when the process ends, also when it is killed.

    Raises:
        ConfigError: Another process holds the lock, the folder cannot be locked, or a folder in it is a symbolic link.
    """
    with ExitStack() as stack:
        try:
            _lock(folder, stack)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be locked: {describe_os_error(error)}.") from error
        yield


def _lock(folder: Path, stack: ExitStack) -> None:
    """Lock a folder for the duration of ``stack``."""
    _refuse_links(folder)
    try:
        stack.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        raise ConfigError(f"another process is at work in {folder}: wait for it, or stop it first.") from None


def _refuse_links(folder: Path) -> None:
    """Raise ConfigError if the lock file, or a folder in a run folder, is a symbolic link.

    A run folder may come from a stranger: files written through such a link would end up anywhere.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and (entry.name == LOCK or entry.is_dir()):
                raise _make_link_error(folder / entry.name)


def check_inside(path: Path, folder: Path) -> Path:
    """Return a path below a run folder, which zcpt and not the user has chosen.

    Raises:
        ConfigError: A symbolic link lies between the two, so that files would be written elsewhere.
    """
    for part in (path, *path.parents):
        if part == folder:
            break
        if part.is_symlink():
            raise _make_link_error(part)
    return path


def _make_link_error(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is a symbolic link, and zcpt writes only inside its run folder: replace the link by what it points to."
    )


@contextmanager
def create_folder(path: Path, files: Mapping[str, str | bytes], taken: str = "") -> Iterator[NewFolder]:
    """Claim a run folder, write its first files, and hold its lock.

    Of several processes that want the same folder one gets it, because the lock comes first. A kill leaves a folder
    that has all files, or one without the last file, which the next process can claim.

    Args:
        path: A path where nothing is, or an empty folder.
        files: Name -> content; the last one marks a complete folder.
        taken: Message if something is there; by default it says to resume.

    Raises:
        ConfigError: The path is taken, or the folder cannot be created.
        StorageError: A file cannot be written; then no new folder is left.
    """
    taken = taken or f"{path} exists already: give another folder with --out, or continue it with --resume {path}."
    with ExitStack() as stack:
        is_new = _claim(path, files, taken, stack)
        folder = NewFolder(path.absolute(), is_new, tuple(files))
        try:
            for name, content in files.items():
                write_atomically(path / name, content)
        except BaseException:
            folder.withdraw()
            raise
        yield folder


def _claim(path: Path, files: Mapping[str, str | bytes], taken: str, stack: ExitStack) -> bool:
    """Make a folder if there is none, and lock it for the duration of ``stack``; return whether it is new."""
    for _ in range(_ATTEMPTS):
        try:
            is_new = _make_folder(path)
            _check_unclaimed(path, files, taken)  # before a lock file appears in a folder that is none of ours
            _lock(path, stack)
            _check_unclaimed(path, files, taken)
            return is_new
        except FileNotFoundError as error:
            problem: Exception = error  # another process that had claimed the folder failed, and has just removed it
        except (OSError, ValueError) as error:
            problem = error
            break
    reason = (
        describe_os_error(problem) if isinstance(problem, OSError) else str(problem)
    )  # a name with a null character
    raise ConfigError(f"{path} cannot be made ({reason}): give another folder with --out.") from problem


def _make_folder(path: Path) -> bool:
    """Make a folder, and its parents; return False if it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _check_unclaimed(path: Path, files: Mapping[str, str | bytes], taken: str) -> None:
    """Raise ConfigError unless a folder is empty, or was left by a process that was killed while it made the folder."""
    *first, last = files
    # A killed process leaves its lock file, perhaps some of the files, but not yet the last one.
    partial = {name + PARTIAL for name in files}
    names = set(os.listdir(path)) if path.is_dir() else {last}
    if names and (LOCK not in names or not names <= {LOCK, *first, *partial}):
        raise ConfigError(taken)
