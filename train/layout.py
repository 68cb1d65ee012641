"""Layout of a folder of pictures: its parts, its classes, and the split of a folder without parts."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train.images import ImageOptions
from train.pictures import PICTURE_SUFFIXES
from zcpt.errors import ConfigError, DataError
from zcpt.options import pluralize
from zcpt.progress import show_progress

Samples = list[tuple[str, int]]
"""Path and label of each picture."""
_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "testing", "val", "valid", "validation")
_SYSTEM_NAMES = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN"})
"""Files and folders that operating systems put among pictures; so are all that begin with a dot."""
_SHOWN = 5
"""Names that a sentence lists at most."""


@dataclass
class Part:
    """Pictures of the classes in one folder."""

    folder: Path
    pictures: dict[str, list[str]] = field(default_factory=dict)
    """Class -> paths; the folders without pictures too."""
    loose: int = 0
    """Pictures beside the folders of the classes, which belong to no class."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Kind of file or folder -> number of those that are no pictures."""

    @property
    def classes(self) -> list[str]:
        """Names of the folders that hold pictures."""
        return [name for name, paths in self.pictures.items() if paths]

    def count(self) -> int:
        """Return the number of pictures."""
        return sum(map(len, self.pictures.values()))


@dataclass(frozen=True)
class Split:
    """Split of one part into training and test pictures."""

    share: float
    """Share of each class that is the test part."""
    seed: int


@dataclass(frozen=True)
class Layout:
    """Pictures of both parts, with the sentences that say how they were found."""

    classes: tuple[str, ...]
    train: Samples
    test: Samples
    split: Split | None
    """How the test part was drawn from the training part; None if it lies in a folder of its own."""
    notes: tuple[str, ...]


def read_layout(root: Path, options: ImageOptions) -> Layout:
    """Find the pictures below a folder: in PATH/train/CLASS and PATH/test/CLASS or PATH/val/CLASS, or in PATH/CLASS.

    Args:
        root: The folder.
        options: How a folder without test part is split: by default a fifth of each class is its test part.

    Raises:
        DataError: The folder is missing or cannot be read, has fewer than two classes, or its parts differ in them.
        ConfigError: A split is given, and the folder has a test part.
    """
    train, test_folders = _find_train_part(root)
    classes = _check_classes(train)
    notes = [_describe_part(train)]
    test = _find_test_part(test_folders, train, notes)
    if test and (options.validation_split, options.split_seed) != (None, None) and not options.is_optional:
        raise ConfigError(f"{test.folder} is the test part: leave out --validation-split and --split-seed.")
    if test:
        notes.append(_describe_part(test))
        return Layout(tuple(classes), _label(train, classes), _label(test, classes), None, tuple(notes))
    split = Split(0.2 if options.validation_split is None else options.validation_split, options.split_seed or 0)
    parts = _split_part(train, split)
    train_samples, test_samples = (_label(part, classes) for part in parts)
    notes.append(
        f"{pluralize(len(test_samples), 'picture')} of them are the test part: {100 * split.share:g} % of each class "
        f"(--validation-split), drawn by --split-seed {split.seed}"
    )
    return Layout(tuple(classes), train_samples, test_samples, split, tuple(notes))


def _find_train_part(root: Path) -> tuple[Part, list[Path]]:
    """Return the training part, which is the folder itself where it has no parts, and the folders for a test part."""
    folders = _list_folders(root)
    train_folders, test_folders = (_find_named(folders, names) for names in (_TRAIN_NAMES, _TEST_NAMES))
    others = [folder for folder in folders if folder not in train_folders + test_folders]
    if train_folders:
        train = read_part(train_folders[0])
        # A class may be called 'train', beside 'bus' and 'car'.
        if train.classes or not train.loose or sum(map(_has_pictures, others)) < 2:
            return train, test_folders
        others += train_folders
    if not any(map(_has_pictures, others)):
        raise _explain_missing_part(root)
    return read_part(root, [folder.name for folder in test_folders]), test_folders


def read_part(folder: Path, other_parts: Sequence[str] = ()) -> Part:
    """List the pictures in the subfolders of a folder, each of which is a class unless it is another part."""
    part = Part(folder)
    for entry in show_progress(_scan(folder), "listing pictures", leave=False, delay=1):
        if entry.name in other_parts:
            continue
        if _is_system_name(entry.name):
            part.left_out[_name_kind(entry)] += 1
        elif _is_folder(entry):
            part.pictures[entry.name] = list_pictures(entry.path, part.left_out)
        elif _is_picture(entry):
            part.loose += 1
        else:
            part.left_out[_name_kind(entry)] += 1
    return part


def list_pictures(folder: str, left_out: Counter[str]) -> list[str]:
    """List the pictures in a folder and all folders below it, in the order of torchvision's ``ImageFolder``."""
    found: list[tuple[str, list[str]]] = []
    # Of the absolute path, because the folder may be called '.' or end in a slash.
    own, home = os.path.realpath(folder), os.path.realpath(os.path.dirname(os.path.abspath(folder)))
    waiting, seen = [folder], set()
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        # Links may lead to each other, to another class, or to a folder above with all classes.
        is_other_class = os.path.dirname(real) == home and real != own
        if real in seen or is_other_class or own.startswith(f"{real.rstrip('/')}/"):
            left_out["link to a folder that is read otherwise"] += 1
            continue
        seen.add(real)
        names = []
        for entry in _scan(Path(path)):
            if _is_folder(entry):
                waiting.append(entry.path)
            elif _is_picture(entry):
                names.append(entry.name)
            else:
                left_out[_name_kind(entry)] += 1
        found.append((path, names))
    return [os.path.join(path, name) for path, names in sorted(found) for name in names]


def _list_folders(root: Path) -> list[Path]:
    """List the visible subfolders; DataError if the folder is missing or holds pictures without classes."""
    if not os.path.exists(root):
        raise DataError(f"there is no folder {root.absolute()}: give the folder of your pictures as folder:PATH.")
    if not os.path.isdir(root):
        raise DataError(f"{root.absolute()} is a file: give the folder of your pictures as folder:PATH.")
    return [root / entry.name for entry in _scan(root) if _is_folder(entry)]


def _find_named(folders: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Return the folders with one of these names, in the order of the names; case does not matter."""
    return [folder for name in names for folder in folders if folder.name.lower() == name]


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder.absolute()} holds no pictures that can be used: {error.strerror}.") from error


def _is_system_name(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_NAMES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return not _is_system_name(entry.name) and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file with a picture's name; reading a pipe or device could block."""
    return not _is_system_name(entry.name) and _get_suffix(entry) in PICTURE_SUFFIXES and _is_file(entry)


def _is_file(entry: os.DirEntry[str]) -> bool:
    # A link may lead to itself, at which the methods of an entry raise an error.
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _get_suffix(entry: os.DirEntry[str]) -> str:
    return os.path.splitext(entry.name)[1].lower()


def _name_kind(entry: os.DirEntry[str]) -> str:
    """Name the kind of a file or folder that holds no picture."""
    if entry.name.startswith("._"):
        return "._*"  # macOS writes one beside every file
    if _is_system_name(entry.name):
        return entry.name
    if entry.is_symlink() and not os.path.exists(entry.path):
        return "broken link"
    return (_get_suffix(entry) or "without an ending") if _is_file(entry) else "pipe or device"


def _has_pictures(folder: Path) -> bool:
    return bool(list_pictures(str(folder), Counter()))


def _normalise(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS writes accents as characters of their own


def _check_classes(train: Part) -> list[str]:
    """Return the classes of the training part; DataError if there are none, only one, or an empty one."""
    folder, classes = train.folder.absolute(), train.classes
    empty = [name for name, paths in train.pictures.items() if not paths]
    skipped = describe_left_out(train.left_out)
    if not classes and train.loose:
        raise DataError(
            f"{folder} holds {pluralize(train.loose, 'picture')} and no folders of classes: put the pictures of each "
            f"class into a folder of their own, {train.folder.name}/CLASS/."
        )
    if not classes:
        found = "" if skipped is None else f": only {skipped}"
        raise DataError(f"{folder} holds no pictures that can be used{found}.")
    if empty:
        beside = "" if skipped is None else f" ({skipped} left out)"
        raise DataError(
            f"the {'class' if len(empty) == 1 else 'classes'} {_list(empty)} of {folder} "
            f"{'has' if len(empty) == 1 else 'have'} no pictures{beside}: add some, or remove the empty folder."
        )
    if len(classes) < 2:
        inner = [path for path in _list_folders(train.folder / classes[0]) if _has_pictures(path)]
        is_root = len(inner) > 1 or _find_named(inner, _TRAIN_NAMES)
        hint = f" If its folders are the classes or parts, give folder:{inner[0].parent}." if is_root else ""
        raise DataError(f"{folder} has one class only, {classes[0]}: at least 2 are needed.{hint}")
    return classes


def _find_test_part(folders: Sequence[Path], train: Part, notes: list[str]) -> Part | None:
    """Return the first test part that has the classes of the training part; None if no folder has labels.

    Raises:
        DataError: A part has classes that the training part lacks, and no other part can be used.
    """
    refused: list[str] = []
    known = {_normalise(name): name for name in train.classes}
    for folder in folders:
        part = read_part(folder)
        names = {name: known.get(_normalise(name)) for name in part.classes}
        unknown = sorted(name for name, match in names.items() if match is None)
        if len(unknown) == len(names):
            notes.append(f"{folder} is not used: it has no folders of the classes with pictures")
            continue
        if unknown:
            refused += unknown
            notes.append(f"{folder} is not used: it has other classes, {_list(unknown)}")
            continue
        missing = sorted(set(train.classes) - {match for match in names.values() if match})
        if missing:
            notes.append(f"{folder} has no pictures of {_list(missing)}")
        part.pictures = {match: part.pictures[name] for name, match in names.items() if match}
        return part
    if refused:
        raise DataError(
            f"the training and test folders of {folders[0].parent.absolute()} must have the same classes; only one of "
            f"them has {_list(refused)}."
        )
    return None


def _label(part: Part, classes: Sequence[str]) -> Samples:
    labels = {name: label for label, name in enumerate(classes)}
    return [(path, labels[name]) for name, paths in part.pictures.items() for path in paths]


def _split_part(part: Part, split: Split) -> tuple[Part, Part]:
    """Split each class into training and test pictures; a class of two and more has at least one of both.

    A hash of seed and path below the folder decides, so that a folder that was moved, or has new pictures, keeps its
    test pictures.
    """
    train, test, prefix = Part(part.folder), Part(part.folder), os.path.join(part.folder, "")
    for name, paths in part.pictures.items():
        count = round(split.share * len(paths))
        if 0 < split.share < 1:
            count = min(max(count, 1), len(paths) - 1)
        chosen = set(sorted(paths, key=lambda path: _hash_path(path.removeprefix(prefix), split.seed))[:count])
        train.pictures[name] = [path for path in paths if path not in chosen]
        test.pictures[name] = [path for path in paths if path in chosen]
    return train, test


def _hash_path(relative: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{_normalise(relative)}".encode(errors="surrogateescape")).digest()


def _explain_missing_part(root: Path) -> DataError:
    """Explain that a folder has neither a training part nor classes."""
    wanted = f"{root.name}/train/CLASS/ and {root.name}/test/CLASS/, or in {root.name}/CLASS/"
    loose = read_part(root).loose
    found = f"{root.absolute()} holds {pluralize(loose, 'picture')}, and" if loose else f"{root.absolute()}"
    return DataError(f"{found} has no folder train and no folders of classes: pictures are expected in {wanted}.")


def _describe_part(part: Part) -> str:
    skipped = describe_left_out(part.left_out)
    loose = f"; {pluralize(part.loose, 'picture')} outside the classes left out" if part.loose else ""
    return (
        f"found {pluralize(part.count(), 'picture')} of {pluralize(len(part.classes), 'class', 'classes')} in "
        f"{part.folder}{f'; {skipped} left out' if skipped else ''}{loose}"
    )


def describe_left_out(left_out: Counter[str]) -> str | None:
    """Return '3 .txt, 1 Thumbs.db', the most frequent ones first; None if nothing was left out."""
    return _list([f"{count} {kind}" for kind, count in left_out.most_common()]) if left_out else None


def _list(names: Sequence[str]) -> str:
    """Return a list of names, the first five."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
