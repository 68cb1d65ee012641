"""``zcpt train``."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from train.arguments import ARGUMENTS, make_config_from, read_arguments
from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.data import ImageData, choose_recipe
from train.images import IMAGE_OPTIONS
from train.recipe import TrainConfig, list_recipes, make_train_config, read_recipe
from train.reduced import limit_image_size, reduce_settings
from train.run import train_architecture
from train.sizing import Budget, find_width_depth
from zcpt.architecture import Architecture
from zcpt.architecture_files import find_training, read_architecture, read_run_architecture
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    format_program,
    get_given_options,
    is_same_data,
    load_given_data,
    make_run_path,
    pick_device,
    read_number,
    refuse_flags_of_resumed_run,
    reload_data,
)
from zcpt.errors import ConfigError
from zcpt.files import parse_json, read_run_file
from zcpt.folders import check_inside
from zcpt.options import format_count, format_flag, pluralize
from zcpt.printing import print_lines, quote_words
from zcpt.processes import ProcessGroup
from zcpt.search import read_run_data
from zcpt.space import NetworkConfig, SearchSpace

_log = logging.getLogger(__name__)
_SEPARATE_FLAGS = ["recipe"]  # chosen by the data set, before the other settings
_GROUPS = {
    "network": ("channels", "layers", "auxiliary_weight", "auxiliary_norm"),
    "optimisation": (
        "epochs", "samples", "batch_size", "optimizer", "optimizer_eps", "lr", "lr_base_size", "momentum",
        "weight_decay", "decay_all", "clip_grad", "ema", "ema_decay",
    ),
    "schedule of the learning rate": (
        "schedule", "schedule_per", "schedule_epochs", "min_lr", "warmup_epochs", "warmup_lr", "decay_epochs",
        "decay_rate", "slow_epochs",
    ),
    "augmentation": (
        "crop", "crop_padding", "crop_scale", "flip", "color_jitter", "hue_jitter", "auto_augment", "random_erase",
        "cutout", "interpolation",
    ),
    "regularisation": (
        "drop_path", "drop_path_schedule", "dropout", "label_smoothing", "mixup", "cutmix", "mixup_off_epochs",
    ),
    "measurement": ("test_crop", "holdout"),
    "computation": (
        "seed", "workers", "amp", "amp_dtype", "accumulate", "sync_bn", "grad_checkpointing", "channels_last",
        "compile",
    ),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--arch",
        metavar="ARCH",
        help="run folder of a search, architecture.json, or with --space a genotype as text or in a file (FILE:NAME "
        "names one of several in a Python file)",
    )
    parser.add_argument("--space", metavar="NAME", help="search space of the architecture")
    parser.add_argument(
        "--from",
        type=Path,
        metavar="RUN",
        help="start from the trained network of this run folder or model.safetensors, with its architecture, width, "
        "depth and image size; other classes get a new classifier",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help=f"values of the flags below, which show those of cifar: {', '.join(list_recipes())}, or a YAML file "
        "(default: finetune with --from, else that of the data set, else by the size of the images)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="new folder (default: train/RECIPE in the folder of the search)"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume this training, or the one in the folder of a search, with its own settings",
    )
    budgets = parser.add_argument_group("budgets, from which width and depth follow")
    for name, metavar, noun in (("max_params", "300k", "parameters"), ("max_macs", "600M", "MACs")):
        budgets.add_argument(
            format_flag(name), type=read_number, metavar=metavar, help=f"largest number of {noun} of the network"
        )
    add_data_arguments(parser)
    add_options(parser, TrainConfig, skip=_SEPARATE_FLAGS, groups=_GROUPS)


def run(args: argparse.Namespace) -> None:
    """Train, and print the test accuracy and the command that measures it again."""
    ranks: ProcessGroup = args.ranks
    with ranks.main_first():  # the first process downloads, the others then find the files
        folder, space, architecture, data, config = _load_run(args) if args.resume else _prepare_run(args)
    source = getattr(args, "from")  # 'args.from' is no Python
    initial = find_weights(source) if source else None
    # The default name contains the time, which differs between processes: all use that of the first one.
    args.run_folder = folder = ranks.gather(folder)[0]
    trained = train_architecture(
        space,
        architecture,
        data,
        config,
        folder,
        device=pick_device(args.device),
        resume=args.resume is not None,
        processes=ranks,
        initial=initial,
    )
    cost = space.cost(architecture, trained.network_config)
    epochs = pluralize(config.epochs, "epoch")
    quoted = quote_words([str(folder)])
    print_lines(
        f"test accuracy {trained.about['test_accuracy']:.2f} % after "
        f"{'the last of ' if config.epochs > 1 else ''}{epochs}{_format_top5(trained)}",
        f"size          {format_count(cost.params)} parameters, {format_count(cost.macs)} MACs",
        f"run folder    {folder} (tensorboard --logdir {quoted})",
        f"next          {format_program()} evaluate {quoted}",
    )


def _format_top5(trained: TrainedNetwork) -> str:
    """Return the top-5 accuracy; empty for so few classes that it tells little, and for files that lack it."""
    top5 = trained.about.get("test_top5")
    return "" if top5 is None or len(trained.classes) <= 10 else f", top-5 {top5:.2f} %"


def _prepare_run(
    args: argparse.Namespace,
) -> tuple[Path, SearchSpace, Architecture, ImageData, TrainConfig]:
    """Return folder, space, architecture, data and settings of a new training."""
    if getattr(args, "from"):
        return _prepare_finetuning(args, getattr(args, "from"))
    space, architecture, search_folder = read_architecture(args.arch, args.space)
    device = pick_device(args.device)
    data_of_search = _find_data_of_search(search_folder) if search_folder else None
    search_folder = None if data_of_search is None else search_folder
    data = _load_data(args, data_of_search)
    recipe = read_recipe(args.recipe or choose_recipe(data))
    reduced = reduce_settings(space, data, recipe)
    if args.image_size is None:
        data = limit_image_size(data, recipe)
    options = {
        "workers": _choose_workers(device),
        **reduced,
        **get_given_options(args, TrainConfig, skip=_SEPARATE_FLAGS),
    }
    config = make_train_config(space, recipe, data.name, data.image_shape[1:], **options)
    config = _fit_budget(space, architecture, data, config, args)
    folder = args.out or _make_default_path(search_folder, space, data, recipe.name)
    return folder, space, architecture, data, config


def _prepare_finetuning(
    args: argparse.Namespace, source: Path
) -> tuple[Path, SearchSpace, Architecture, ImageData, TrainConfig]:
    """Return folder, space, architecture, data and settings of a training that starts from a trained network."""
    given = get_given_options(args, TrainConfig, skip=_SEPARATE_FLAGS)
    of_network = ["arch", "space", "channels", "layers", "max_params", "max_macs"]
    refused = [name for name in of_network if getattr(args, name, None) is not None]
    if refused:
        raise ConfigError(
            f"{format_flag(refused[0])} cannot be given with --from: {source} says architecture, width and depth."
        )
    start = load_network(find_weights(source))
    args.image_size = args.image_size or start.network_config.image_size
    data = load_given_data(args)
    recipe = read_recipe(args.recipe or "finetune")
    size = {"channels": start.network_config.channels, "layers": start.network_config.layers}
    options = {"workers": _choose_workers(pick_device(args.device)), **given, **size}
    config = make_train_config(start.space, recipe, data.name, data.image_shape[1:], **options)
    classifier = "with its classifier" if data.classes == start.classes else "with a new classifier"
    _log.info(f"starting from {source}, {classifier} for {pluralize(len(data.classes), 'class', 'classes')}")
    folder = args.out or make_run_path(start.space.name, data.name)
    return folder, start.space, start.architecture, data, config


def _fit_budget(
    space: SearchSpace, architecture: Architecture, data: ImageData, config: TrainConfig, args: argparse.Namespace
) -> TrainConfig:
    """Return the settings with the width and depth for the budgets; what the user gives of the two stays."""
    budget = Budget(args.max_params, args.max_macs)
    if budget == Budget():
        return config
    channels, height, width = data.image_shape
    usual = NetworkConfig(config.channels, config.layers, len(data.classes), channels, (height, width))
    size = find_width_depth(
        space, architecture, usual, budget, getattr(args, "channels", None), getattr(args, "layers", None)
    )
    _log.info(f"{budget.describe()} gives C={size.channels}, {space.describe_layers(size.layers)}")
    return replace(config, channels=size.channels, layers=size.layers)


def _make_default_path(search_folder: Path | None, space: SearchSpace, data: ImageData, recipe: str) -> Path:
    """Return the folder of a new training: inside that of its search, else in runs/."""
    if search_folder is None:
        return make_run_path(space.name, data.name)
    return check_inside(search_folder / "train" / recipe, search_folder)


def _find_data_of_search(folder: Path) -> dict[str, Any] | None:
    """Read which images a search used from its run folder; return None if the folder is no run folder.

    Other programs write a config.json too: Hugging Face puts one beside every model. So only one with the entries of a
    search is taken. A damaged one is a search's if the search's journal lies beside it.
    """
    path = folder / "config.json"
    try:
        if not path.exists():
            return None
        document = parse_json(read_run_file(path), path)
    except (OSError, ConfigError):
        document = None
    is_search = (
        isinstance(document, dict)
        and "space" in document
        and all(isinstance(document.get(key), dict) for key in ("search", "data"))
    )
    return read_run_data(folder) if is_search or (folder / "journal").is_dir() else None


def _load_data(args: argparse.Namespace, data_of_search: dict[str, Any] | None) -> ImageData:
    """Load the data set of the flags, else that of the search, else the digits."""
    if data_of_search is None or not is_same_data(args.dataset, data_of_search):
        return load_given_data(args)
    if "dataset" not in data_of_search:
        raise ConfigError(f"the search of {args.arch} had no named data set: name the one to train on with --dataset.")
    return reload_data(data_of_search, args)


def _load_run(args: argparse.Namespace) -> tuple[Path, SearchSpace, Architecture, ImageData, TrainConfig]:
    """Return folder, space, architecture, data and settings of the training to be resumed."""
    given = get_given_options(args, TrainConfig, skip=_SEPARATE_FLAGS)
    epochs = {"epochs": given.pop("epochs")} if "epochs" in given else {}  # more of them extend the training
    fixed = ["arch", "space", "from", "recipe", "max_params", "max_macs", *IMAGE_OPTIONS, "out", *given]
    refuse_flags_of_resumed_run(args, fixed)
    folder = check_inside(find_training(args.resume, ARGUMENTS, "that was begun"), args.resume)
    arguments = read_arguments(folder)
    data_of_run, device = arguments.pop("data"), arguments.pop("device")
    args.device = args.device or device
    space, architecture = read_run_architecture(folder)
    data = reload_data(data_of_run, args)
    return folder, space, architecture, data, make_config_from(arguments, folder / ARGUMENTS, **epochs)


def _choose_workers(device: torch.device) -> int:
    """Return the default number of worker processes.

    A GPU needs several to prepare its images in time. On a CPU they would compete with the training for the cores.
    """
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
