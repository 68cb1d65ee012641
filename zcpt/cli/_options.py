"""Flags shared by several commands, and flags generated from dataclasses of settings."""

from __future__ import annotations

import argparse
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from train.data import ImageData, load_data, name_dataset
from train.images import DEFAULT_OPTIONS, IMAGE_OPTIONS, ImageOptions, parse_image_size
from zcpt.devices import resolve_device, select_local_gpu
from zcpt.errors import ConfigError, DataError
from zcpt.options import format_flag, parse_number, read_type_hints

_METAVARS: dict[Any, str] = {str: "NAME", int: "INT", float: "FLOAT", parse_number: "NUMBER"}


Groups = Mapping[str, Sequence[str]]
"""Title of a group of flags in the help -> the fields whose flags it has."""


def add_options(
    parser: argparse.ArgumentParser, settings: type[Any], skip: Sequence[str] = (), groups: Groups | None = None
) -> Mapping[str, argparse._ArgumentGroup]:
    """Add a flag for every field of a dataclass of settings.

    A flag that is not typed leaves no attribute in the namespace, so that presets, recipes and spaces can supply the
    default.

    Args:
        parser: Parser of the command.
        settings: The dataclass.
        skip: Fields without a flag.
        groups: Groups of the help, in this order; fields of no group follow under 'further settings'.

    Returns:
        The groups, for further flags.
    """
    groups = groups or {}
    grouped = {name: title for title, names in groups.items() for name in names}
    names = [field.name for field in fields(settings) if field.name not in skip]
    titles = [title for title in groups if any(grouped.get(name) == title for name in names)]
    containers = {title: parser.add_argument_group(title) for title in titles}
    for name in names:
        if name not in grouped and "" not in containers:
            containers[""] = parser.add_argument_group("further settings")
        _add_option(containers[grouped.get(name, "")], settings, name)
    return containers


def _add_option(container: argparse._ArgumentGroup, settings: type[Any], name: str) -> None:
    """Add the flag of one field."""
    hint, metadata = read_type_hints(settings)[name], settings.__dataclass_fields__[name].metadata
    arguments: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    shown = metadata["shown"]
    if hint is bool:
        arguments["action"] = argparse.BooleanOptionalAction
        shown = {"True": format_flag(name), "False": format_flag(f"no_{name}")}.get(shown, shown)
    else:
        read = metadata["read"] or (str if get_args(hint) else hint)
        arguments["type"] = partial(_read_value, _READERS.get(read, read))
        arguments["metavar"] = "|".join(get_args(hint)) or _METAVARS[read]
    arguments["help"] = (metadata["help"] + (f" (default: {shown})" if shown else "")).replace("%", "%%")
    container.add_argument(format_flag(name), **arguments)


def read_integer(text: str) -> int:
    """Read a whole number; ValueError with a sentence for the user if it is none."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{_shorten_value(text)}' is no whole number: write it like 10") from None


def read_float(text: str) -> float:
    """Read a number; ValueError with a sentence for the user if it is none."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{_shorten_value(text)}' is no number: write it like 0.025 or 3e-4") from None


_READERS: dict[Any, Callable[[str], Any]] = {int: read_integer, float: read_float}


def parse_integer(text: str) -> int:
    """Parse the value of a flag as a whole number."""
    number: int = _read_value(read_integer, text)
    return number


def read_number(text: str) -> float:
    """Read the value of a flag as a number with a unit, such as 300k."""
    number: float = _read_value(parse_number, text)
    return number


def split_names(text: str) -> list[str]:
    """Split a,b,c."""
    return [name for name in text.split(",") if name]


def _shorten_value(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _read_value(read: Callable[[str], Any], text: str) -> Any:
    """Read the value of a flag.

    argparse shows the text of an ArgumentTypeError, but hides that of a ValueError.
    """
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def get_given_options(args: argparse.Namespace, settings: type[Any], skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values of the flags of ``add_options`` that were given on the command line."""
    names = (field.name for field in fields(settings) if field.name not in skip)
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def refuse_flags_of_resumed_run(args: argparse.Namespace, names: Iterable[str]) -> None:
    """Raise ConfigError if one of these flags is given beside ``--resume``, which takes their values from the run."""
    for name in names:
        if getattr(args, name, None) is not None:
            raise ConfigError(f"--resume uses the settings of {args.resume}: leave out {format_flag(name)}.")


read_image_size = partial(_read_value, parse_image_size)
"""Reader of a flag: 224, or 160x224."""


def add_data_arguments(
    command: argparse.ArgumentParser, image_flags: Sequence[str] = IMAGE_OPTIONS, *, has_device: bool = True
) -> None:
    """Add the flags for the data set, its images, and the device unless the command has none."""
    parser = command.add_argument_group("images and device" if has_device else "images")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="digits, cifar10, cifar100, svhn, the folder of your pictures, or a name of 'zcpt list datasets'",
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="PATH", help="folder of the files of named data sets (default: data)"
    )
    parser.add_argument(
        "--download",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="download a missing data set",
    )
    helps: dict[str, tuple[Any, str, str]] = {
        "image_size": (
            read_image_size,
            "INT|HxW",
            "pixels per side to which images are brought, or height and width as 160x224 (default: chosen from the "
            "data, and said)",
        ),
        "validation_split": (
            float, "FLOAT", "share of the pictures that are the test part, for a folder without one (default: 0.2)"
        ),
        "split_seed": (parse_integer, "INT", "seed of that split (default: 0)"),
    }  # fmt: skip
    for name in image_flags:
        read, metavar, text = helps[name]
        parser.add_argument(format_flag(name), type=read, metavar=metavar, help=text)
    if not has_device:
        return
    parser.add_argument(
        "--device",
        help="torch device: cpu, cuda, cuda:1 ... (default: cuda if available); with torchrun, cuda is another GPU for "
        "each process",
    )


def read_image_options(args: argparse.Namespace, stored: ImageOptions = DEFAULT_OPTIONS) -> ImageOptions:
    """Return how images are read: as the flags say, else as a run folder says."""
    given = {name: getattr(args, name, None) for name in IMAGE_OPTIONS}
    return replace(stored, **{name: value for name, value in given.items() if value is not None})


def add_trained_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a trained network."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN",
        help="folder of a training, or of a search with one training, or a model.safetensors",
    )


def load_given_data(args: argparse.Namespace) -> ImageData:
    """Load the data set of the flags, by default the digits."""
    return load_data(
        "digits" if args.dataset is None else args.dataset, args.data_dir, args.download, read_image_options(args)
    )


def reload_data(about: Mapping[str, Any], args: argparse.Namespace) -> ImageData:
    """Load the data set of a run folder again, or the one of ``--dataset`` and ``--data-dir``, in the same way."""
    stored = ImageOptions.from_document(about)
    options = read_image_options(args, stored)
    if not is_same_data(args.dataset, about):
        # Pictures that were moved are split as in the run; others may have a test part.
        options = replace(options, is_optional=options == stored)
        return load_data(args.dataset, args.data_dir, args.download, options)
    name, directory = about["dataset" if "dataset" in about else "name"], about.get("directory")
    try:
        return load_data(name, args.data_dir or (Path(directory) if directory else None), args.download, options)
    except DataError as error:
        raise DataError(
            f"{error} If the images of the run have moved, say where with --dataset or --data-dir."
        ) from None


def is_same_data(given: str | None, about: Mapping[str, Any]) -> bool:
    """Return whether ``--dataset`` is missing or names the data set of a run folder."""
    known = about.get("dataset", about.get("name"))
    return given is None or (isinstance(known, str) and name_dataset(given) == name_dataset(known))


def add_workers_arguments(parser: argparse.ArgumentParser, action: str, default: int | None, shown: str) -> None:
    """Add the flags of processes on this machine and on a Ray cluster.

    Args:
        parser: Parser of the command.
        action: What the processes do, for the help.
        default: Value of ``--workers`` where it is not given.
        shown: Default on this machine, for the help.
    """
    help_workers = f"processes that {action} (default: {shown}; with --ray the CPUs, or GPUs, of the cluster)"
    parser.add_argument("--workers", type=parse_integer, metavar="INT", default=default, help=help_workers)
    help_ray = "share the work among the machines of a Ray cluster: its address, or 'auto' for that of this machine"
    parser.add_argument("--ray", metavar="ADDRESS", help=help_ray)


def pick_device(name: str | None) -> torch.device:
    """Return the named device, or by default a GPU if available.

    'cuda' is another GPU for each process of torchrun.

    Raises:
        ConfigError: The device cannot be used.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        select_local_gpu()
    return resolve_device(name)


def make_run_path(*parts: str) -> Path:
    """Return the path ``runs/TIME-PART-PART-RANDOM``; of a part that is a path, the last component is taken."""
    names = [part.rstrip("/").rpartition("/")[2].rpartition(":")[2] for part in parts]
    # The last part, because several runs may start in one second.
    return Path("runs", "-".join([datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), *names, secrets.token_hex(2)]))


def format_program() -> str:
    """Return the words that call this program again in the same shell: ``zcpt`` or ``python -m zcpt``."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return program.name
    python = shutil.which("python")
    same = python is not None and Path(python).absolute() == Path(sys.executable).absolute()
    # Any other file is a script of the user's own that calls zcpt.cli.main.
    program_words = "-m zcpt" if program.name == "__main__.py" else shlex.quote(_shorten(sys.argv[0]))
    return f"{'python' if same else shlex.quote(_shorten(sys.executable))} {program_words}"


def _shorten(path: str) -> str:
    """Return a path relative to the current folder if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
