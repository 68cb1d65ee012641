"""Flags that several commands share, and flags made from dataclasses of settings."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from train.data import ImageData, load_data
from zcpt.devices import resolve_device, select_local_gpu
from zcpt.options import format_flag


def add_options(parser: argparse.ArgumentParser, settings: type[Any], skip: Sequence[str] = ()) -> None:
    """Add a flag for every field of a dataclass of settings. What is not given is not set in the namespace."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        if field.name in skip:
            continue
        hint = hints[field.name]
        words: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        shown = field.metadata["shown"]
        words["help"] = (field.metadata["help"] + (f" (default: {shown})" if shown else "")).replace("%", "%%")
        if hint is bool:
            words["action"] = argparse.BooleanOptionalAction
        else:
            read = field.metadata["read"] or (str if get_args(hint) else hint)
            words["type"] = partial(_with_reason, read) if field.metadata["read"] else read
            names = {str: "NAME", int: "INT", float: "FLOAT"}
            words["metavar"] = "|".join(get_args(hint)) or names.get(read, read.__name__.upper())
        parser.add_argument(format_flag(field.name), **words)


def _with_reason(read: Callable[[str], Any], text: str) -> Any:
    """Read a value; argparse shows the reason of its own kind of error only."""
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def given(args: argparse.Namespace, settings: type[Any], skip: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass of settings that were given on the command line."""
    names = (field.name for field in fields(settings) if field.name not in skip)
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which images, and where they are computed on."""
    parser.add_argument("--dataset", metavar="NAME", help="digits, cifar10, cifar100, svhn or folder:PATH")
    parser.add_argument(
        "--data-dir", type=Path, metavar="PATH", help="where torchvision's data sets lie (default: data)"
    )
    parser.add_argument(
        "--download", action=argparse.BooleanOptionalAction, default=False, help="fetch the data set if it is not there"
    )
    parser.add_argument(
        "--device",
        help="torch device such as cpu, cuda or cuda:1 (default: cuda if there is one); to each process of torchrun "
        "cuda is a GPU of its own",
    )


def data_again(name: str, directory: str | None, args: argparse.Namespace) -> ImageData:
    """The data set that a run folder names, where the flags do not say that it lies elsewhere now."""
    return load_data(name, args.data_dir or (Path(directory) if directory else None), args.download)


def pick_device(name: str | None) -> torch.device:
    """The device of that name, else a GPU if there is one; ConfigError if it cannot be used.

    Of several processes on a machine each has a GPU of its own, which is what 'cuda' means to it.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        select_local_gpu()
    return resolve_device(name)


def new_folder(*parts: str) -> Path:
    """A folder below ``runs`` that is named after the time and after what runs."""
    names = [part.rstrip("/").rpartition("/")[2].rpartition(":")[2] for part in parts]
    return Path("runs", "-".join([datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), *names]))


def this_program() -> str:
    """How to call this program again."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return program.name
    python = shutil.which("python")
    same = python is not None and Path(python).absolute() == Path(sys.executable).absolute()
    # A file of the user's own may call zcpt's main, too.
    what = "-m zcpt" if program.name == "__main__.py" else shlex.quote(_short(sys.argv[0]))
    return f"{'python' if same else shlex.quote(_short(sys.executable))} {what}"


def _short(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
