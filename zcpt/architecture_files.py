"""Architectures and trainings that a user names: by a file, a run folder, or the text itself."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, NotationError, SpaceError, ZcptError
from zcpt.files import read_run_file
from zcpt.notation import MAX_CHARACTERS, extract_assignment
from zcpt.printing import shorten
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space, list_spaces

ARCHITECTURE = "architecture.json"
_HINT = "give --arch the run folder of a search, a file with an architecture, or with --space NAME its text"


def read_architecture(given: str | None, space_name: str | None) -> tuple[SearchSpace, Architecture, Path | None]:
    """Read the architecture that ``--arch`` names.

    Args:
        given: A run folder; a file: an ``architecture.json``, or a text in the notation of the space; ``FILE:NAME`` for
            one of several in a Python file; or the text itself.
        space_name: Name of the space. An ``architecture.json`` has it, a text needs it.

    Returns:
        Space, architecture, and the folder that the architecture lies in; None for a text.

    Raises:
        ConfigError: Nothing can be read.
        SpaceError: The architecture is not one of its space, or of another space than the named one.
    """
    if not given:
        raise ConfigError(f"no architecture is given: {_HINT}.")
    space = get_space(space_name) if space_name else None
    path, name = _find_file(given)
    if path is None:
        return *_read_text(given, space), None
    text = _read_file(path)
    try:
        text = extract_assignment(text, name) if name else text
        return *_parse(text, space, str(path)), path.parent
    except NotationError:
        # The message of the space quotes the text, and a file may hold anything, also secrets.
        wanted = f"in the notation of space '{space.name}'" if space else "that any space can read"
        raise SpaceError(f"{path} has no architecture {wanted}: {_HINT}.") from None
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def read_notation(given: str) -> str:
    """Return the text of an architecture that a user gives: itself, in a file, or as FILE:NAME in a Python file.

    Raises:
        ConfigError: The file cannot be read.
        NotationError: It has nothing of that name.
    """
    path, name = _find_file(given)
    text = given if path is None else _read_file(path)
    return extract_assignment(text, name) if name else text


def _find_file(given: str) -> tuple[Path | None, str]:
    """Return the file that is meant, and the name in it that is wanted; None if there is no such file.

    Raises:
        ConfigError: There is something of this name that cannot be read.
    """
    path, name = Path(given), ""
    mode = _get_mode(path)
    file, colon, last = given.rpartition(":")
    if mode is None and colon and last.isidentifier() and _get_mode(Path(file)) is not None:
        path, name = Path(file), last
        mode = _get_mode(path)
    if mode is None:
        return None, ""
    if stat.S_ISDIR(mode):
        path, mode = path / ARCHITECTURE, _get_mode(path / ARCHITECTURE)
        if mode is None:
            raise ConfigError(
                f"{path} is missing: {path.parent} is no run folder, or its search is not finished "
                "(zcpt search --resume RUN finishes it)."
            )
    if not stat.S_ISREG(mode):
        # Opening a pipe would wait for ever.
        raise ConfigError(f"{path} is no file that can be read as a whole: {_HINT}.")
    return path, name


def _get_mode(path: Path) -> int | None:
    """Return the mode of a file or folder; None if there is none."""
    try:
        return path.stat().st_mode
    except ValueError:  # a zero byte in the name
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise ConfigError(f"{shorten(path)} cannot be read: {error.strerror}.") from None


def _read_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(4 * MAX_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > 4 * MAX_CHARACTERS:
        raise ConfigError(f"{path} is too large for an architecture: {_HINT}.")
    # The shell of Windows writes UTF-16.
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        beside = path.parent / ARCHITECTURE
        raise ConfigError(
            f"{path} is no text file: " + (f"give --arch {beside}." if beside.is_file() else f"{_HINT}.")
        ) from None


def _read_text(text: str, space: SearchSpace | None) -> tuple[SearchSpace, Architecture]:
    """Read an architecture from the text given as ``--arch``, which is not the name of a file."""
    try:
        return _parse(text, space, "--arch")
    except NotationError as error:
        # A word such as runs/a/architecture.json or DARTS_V2 is meant as the name of a file.
        is_name = len(text) <= 255 and not re.search(r"[\s(|{\[,]", text)
        reason = f"{shorten(text)} is missing" if is_name else str(error).rstrip(".")
        raise ConfigError(f"{reason}: {_HINT}.") from None


def _parse(text: str, space: SearchSpace | None, source: str) -> tuple[SearchSpace, Architecture]:
    """Read the content of an ``architecture.json``, or a text in the notation of the space."""
    if re.search(r'"(choices|schema)"', text):
        return _parse_document(text, space, source)
    if space is not None:
        return space, parse_notation(space, text)
    fitting = [name for name in list_spaces() if _can_parse(name, text)]
    if not fitting:
        raise NotationError(f"'{shorten(text)}' is no architecture of any space")
    choice = fitting[0] if len(fitting) == 1 else f"NAME (one of {', '.join(fitting)})"
    raise SpaceError(
        f"{source} has the text of an architecture, which needs the name of its space: add --space {choice}."
    )


def _parse_document(text: str, space: SearchSpace | None, source: str) -> tuple[SearchSpace, Architecture]:
    architecture = Architecture.from_json(text, source)
    if space is None:
        space = get_space(architecture.space)
    elif architecture.space != space.name:
        raise SpaceError(
            f"{source} holds an architecture of space '{shorten(architecture.space)}', and --space is '{space.name}'."
        )
    space.check(architecture)
    return space, architecture


def read_run_architecture(folder: Path) -> tuple[SearchSpace, Architecture]:
    """Read the ``architecture.json`` of a run folder; ConfigError or SpaceError if it is missing or damaged."""
    path = folder / ARCHITECTURE
    return _parse_document(read_run_file(path), None, str(path))


def parse_notation(space: SearchSpace, text: str) -> Architecture:
    """Read a text in the notation of a space; SpaceError also if a space of a third party fails in another way."""
    try:
        return space.parse(text)
    except ZcptError:
        raise
    except Exception as error:  # a third party's parser may raise anything
        raise SpaceError(
            f"space '{space.name}' cannot read the text ({type(error).__name__}: {shorten(error)})."
        ) from error


def _can_parse(name: str, text: str) -> bool:
    try:
        parse_notation(get_space(name), text)
    except ZcptError:
        return False
    return True


def find_training(folder: Path, file: str, kind: str) -> Path:
    """Return the folder itself if it is one of a training, else the only training below it.

    Args:
        folder: Folder of a training, or of a search.
        file: File that the wanted training has.
        kind: Which trainings have it, for the message: 'that is finished'.

    Raises:
        ConfigError: There are several, or none.
    """
    if (folder / file).exists() or not (folder / "train").is_dir():
        return folder
    trainings = [path.parent for path in sorted(folder.glob(f"train/*/{file}"))]
    if len(trainings) != 1:
        names = ", ".join(map(str, trainings)) or f"none {kind}"
        raise ConfigError(f"{folder} must contain one training, and it contains {names}: give the folder of one.")
    return trainings[0]
