"""``zcpt train-supernet``."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.data import ImageData
from train.images import IMAGE_OPTIONS
from train.supernet import SupernetConfig, make_supernet_config, train_supernet
from train.supernet.checkpoint import read_supernet_config
from train.supernet.run import CONFIG, read_supernet_run
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    format_program,
    get_given_options,
    load_given_data,
    make_run_path,
    pick_device,
    read_number,
    refuse_flags_of_resumed_run,
    reload_data,
)
from zcpt.errors import ConfigError
from zcpt.options import pluralize
from zcpt.printing import print_lines, quote_words
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space

_GROUPS = {
    "supernet": ("channels", "layers"),
    "weights": ("epochs", "samples", "batch_size", "lr", "min_lr", "momentum", "weight_decay", "clip_grad"),
    "architecture parameters": ("alpha_lr", "alpha_weight_decay", "alpha_noise", "alpha_order"),
    "augmentation": ("crop_padding", "flip"),
    "computation": ("save_every", "seed", "workers"),
}
_MIN_SIDE = 8
"""Smallest height and width to which --resolution reduces images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--space", metavar="NAME", help="search space, one of 'zcpt list spaces' (default: darts)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="new run folder (default: a folder in runs/)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="resume this training with its own settings")
    parser.add_argument(
        "--resolution",
        type=read_number,
        metavar="FLOAT",
        help="share of the height and width of the images to which they are brought, such as 0.5 (default: all pixels)",
    )
    add_data_arguments(parser)
    add_options(parser, SupernetConfig, groups=_GROUPS)


def run(args: argparse.Namespace) -> None:
    """Train a supernet, and print what its architecture parameters prefer."""
    folder, space, data, config = _load_run(args) if args.resume else _prepare_run(args)
    args.run_folder = folder
    device = pick_device(args.device)
    trained = train_supernet(space, data, config, folder, device=device, resume=args.resume is not None)
    mixture = trained.mixture
    leaders: dict[str, int] = {}
    for name in trained.alphas.alphas:
        choice, row = mixture.choices[name], mixture.weights[name]
        if choice.phase == 0:
            leader = choice.candidates[row.index(max(row))]
            leaders[leader] = leaders.get(leader, 0) + 1
    ranking = sorted(leaders.items(), key=lambda item: -item[1])
    print_lines(
        f"supernet      of {space.name} after {pluralize(config.epochs, 'epoch')}, C={config.channels}, "
        f"{space.describe_layers(config.layers)}",
        f"largest alpha {', '.join(f'{name} on {count}' for name, count in ranking)} of "
        f"{pluralize(sum(leaders.values()), 'choice')}",
        f"run folder    {folder} (tensorboard --logdir {quote_words([str(folder)])})",
        f"next          {format_program()} show {quote_words([str(folder)])}",
    )


def _prepare_run(args: argparse.Namespace) -> tuple[Path, SearchSpace, ImageData, SupernetConfig]:
    """Return folder, space, data and settings of a new training."""
    space = get_space(args.space or "darts")
    options = get_given_options(args, SupernetConfig)
    SupernetConfig(**options)  # reports a wrong option before the data are read
    data = _reduce_resolution(load_given_data(args), args.resolution)
    config = make_supernet_config(space, data, **options)
    return args.out or make_run_path(space.name, data.name, "supernet"), space, data, config


def _reduce_resolution(data: ImageData, share: float | None) -> ImageData:
    if share is None:
        return data
    if not 0 < share <= 1:
        raise ConfigError(f"--resolution {share} must be above 0 and at most 1.")
    height, width = (round(share * side) for side in data.image_shape[1:])
    if min(height, width) < min(_MIN_SIDE, *data.image_shape[1:]):
        raise ConfigError(
            f"--resolution {share} leaves images of {height}x{width} pixels: they must have at least {_MIN_SIDE}."
        )
    return data.resize((height, width))


def _load_run(args: argparse.Namespace) -> tuple[Path, SearchSpace, ImageData, SupernetConfig]:
    """Return folder, space, data and settings of the training to be resumed."""
    given = get_given_options(args, SupernetConfig)
    refuse_flags_of_resumed_run(args, ["space", "out", "resolution", *IMAGE_OPTIONS, *given])
    document = read_supernet_run(args.resume)
    args.device = args.device or document["device"]
    data = reload_data(document["data"], args)
    config = read_supernet_config(document["supernet"], args.resume / CONFIG)
    return args.resume, get_space(document["space"]), data, config
