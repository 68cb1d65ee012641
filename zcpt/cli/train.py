"""``zcpt train``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from train.data import ImageData, load_data, recipe_for
from train.recipe import RECIPES, TrainConfig, configure
from train.run import fit, read_arguments
from zcpt.architecture import Architecture
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    data_again,
    given,
    new_folder,
    pick_device,
    this_program,
)
from zcpt.errors import ConfigError, SpaceError
from zcpt.files import read_json, read_text
from zcpt.options import format_count, format_flag, pluralize
from zcpt.space_registry import get_space

_OWN = ["recipe"]  # chosen before the settings, and after the data set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--arch", type=Path, metavar="FILE", help="architecture.json, or with --space a genotype text")
    parser.add_argument("--space", metavar="NAME", help="the space that the architecture has to belong to")
    parser.add_argument(
        "--recipe",
        metavar="|".join(RECIPES),
        help="values of the flags below, which show those of cifar (default: digits for digits, else cifar)",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="a new folder (default: train/RECIPE in the run folder)"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with this training, with its own settings")
    add_options(parser, TrainConfig, skip=_OWN)


def run(args: argparse.Namespace) -> None:
    """Train, and say how well the network does and how to use it."""
    if args.resume:
        folder, architecture, data, config = _resumed(args)
        device = pick_device(args.device)
    else:
        architecture = read_architecture(args.arch, args.space)
        device = pick_device(args.device)
        data, searched = _data(args)
        recipe = args.recipe or recipe_for(data.name)
        options = {"workers": _workers(device), **given(args, TrainConfig, skip=_OWN)}
        config = configure(get_space(architecture.space), recipe, data.name, **options)
        folder = args.out or (searched / "train" / recipe if searched else new_folder(architecture.space, data.name))
    space = get_space(architecture.space)
    trained = fit(architecture, data, config, folder, device=device, resume=args.resume is not None)
    cost = space.cost(architecture, trained.network_config)
    sys.stdout.write(
        f"test accuracy {trained.about['test_accuracy']:.2f} % after {'the last of ' * (config.epochs > 1)}"
        f"{pluralize(config.epochs, 'epoch')}\n"
        f"size          {format_count(cost.params)} parameters, {format_count(cost.macs)} MACs\n"
        f"run folder    {folder} (tensorboard --logdir {folder})\n"
        f"next          {this_program()} evaluate {folder}\n"
    )


def read_architecture(path: Path | None, space_name: str | None) -> Architecture:
    """Read an architecture file, and check it against its space; SpaceError or ConfigError says what is wrong."""
    if path is None:
        raise ConfigError("what should be trained? Give --arch FILE, such as the architecture.json of a search.")
    text = read_text(path, "give --arch the architecture.json of a search")
    space = get_space(space_name) if space_name else None
    if space and '"choices"' not in text:
        return space.parse(text)
    architecture = Architecture.from_json(text, str(path))
    if space and architecture.space != space.name:
        raise SpaceError(
            f"{path} holds an architecture of space '{architecture.space}', and --space says '{space.name}'."
        )
    get_space(architecture.space).check(architecture)
    return architecture


def _data(args: argparse.Namespace) -> tuple[ImageData, Path | None]:
    """The data set asked for, else the one that the architecture was found on; and the run folder of that search."""
    config = args.arch.parent / "config.json"
    if not config.exists():
        return load_data(args.dataset or "digits", args.data_dir, args.download), None
    found = read_json(config, ("data",))["data"]
    if args.dataset and args.dataset != found.get("dataset"):
        return load_data(args.dataset, args.data_dir, args.download), args.arch.parent
    if "dataset" not in found:
        raise ConfigError(
            f"the search in {args.arch.parent} was begun from Python: say with --dataset what to train on."
        )
    return data_again(found["dataset"], found.get("directory"), args), args.arch.parent


def _resumed(args: argparse.Namespace) -> tuple[Path, Architecture, ImageData, TrainConfig]:
    fixed = ["arch", "space", "recipe", "dataset", "out", *given(args, TrainConfig, skip=_OWN)]
    extra = [name for name in fixed if getattr(args, name) is not None]
    if extra:
        raise ConfigError(f"--resume goes on with the settings of {args.resume}: leave out {format_flag(extra[0])}.")
    arguments = read_arguments(args.resume)
    found = arguments.pop("data")
    args.device = args.device or arguments["device"]
    architecture = read_architecture(args.resume / "architecture.json", None)
    arguments.pop("device", None)
    return args.resume, architecture, data_again(found["name"], found["directory"], args), TrainConfig(**arguments)


def _workers(device: torch.device) -> int:
    """A fast device needs others to prepare its images; on a CPU they would only take its cores."""
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
