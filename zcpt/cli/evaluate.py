"""``zcpt evaluate``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from train.arguments import read_arguments
from train.checkpoint import WEIGHTS, TrainedNetwork, load_network
from train.data import ImageData
from train.evaluation import evaluate_network
from train.loaders import TestOptions, build_test_loader
from zcpt.architecture import Architecture
from zcpt.architecture_files import find_training
from zcpt.cli._options import (
    add_data_arguments,
    parse_integer,
    pick_device,
    reload_data,
)
from zcpt.devices import move_network
from zcpt.errors import ConfigError, DataError
from zcpt.files import read_run_file
from zcpt.printing import print_lines

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="folder of a training, or of a search with one training"
    )
    add_data_arguments(parser, ("validation_split", "split_seed"))
    parser.add_argument(
        "--batch-size", type=parse_integer, metavar="INT", default=256, help="images per mini-batch (default: 256)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure a trained network on the test images, and print its accuracy."""
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size} is too small: it must be at least 1.")
    folder = find_training(args.folder, WEIGHTS, "that is finished")
    trained = load_network(folder / WEIGHTS)
    path = folder / "architecture.json"
    if trained.architecture != Architecture.from_json(read_run_file(path), str(path)):
        raise ConfigError(
            f"{folder / WEIGHTS} holds another architecture than {path}: one of the two files was replaced."
        )
    device, arguments = pick_device(args.device), read_arguments(folder)
    data = _load_data(args, arguments["data"], trained)
    channels_last = arguments["channels_last"]
    network = move_network(trained.network, device, channels_last)
    options = TestOptions(
        min(args.batch_size, len(data.test)),
        arguments["workers"],
        arguments["test_crop"],
        arguments["interpolation"],
    )
    loader = build_test_loader(data.test, trained.statistics, options, trained.network_config.image_size, device)
    amp_dtype = getattr(torch, arguments["amp_dtype"]) if arguments["amp"] else None
    found = evaluate_network(network, loader, device, amp_dtype=amp_dtype, channels_last=channels_last)
    print_lines(
        f"test accuracy {found.accuracy:.2f} % on the {len(data.test)} test images of {data.name} "
        f"({_format_top5(found.top5, len(trained.classes))}loss {found.loss:.4f})",
        f"architecture  {trained.space.format(trained.architecture)}",
    )


def _format_top5(top5: float, classes: int) -> str:
    """Return the top-5 accuracy with a comma behind it; empty for so few classes that it tells little."""
    return f"top-5 {top5:.2f} %, " if classes > 10 else ""


def _load_data(args: argparse.Namespace, about: dict[str, Any], trained: TrainedNetwork) -> ImageData:
    """Load the test images, at the size of the images that the network was trained on.

    Raises:
        DataError: They have other classes or channels, or there are none.
    """
    data = reload_data(about, args)
    if not len(data.test):
        raise DataError(f"{data.name} has no test images: give another --dataset.")
    size, (channels, *found) = trained.network_config.image_size, data.test[0][0].shape
    if data.classes != trained.classes or channels != trained.network_config.in_channels:
        raise DataError(
            f"the network was trained for {len(trained.classes)} classes of "
            f"{trained.network_config.in_channels}-channel images, and "
            f"{data.name} has {len(data.classes)} of {channels}: give another --dataset."
        )
    if tuple(found) != size:
        _log.info(f"the images of {found[0]}x{found[1]} pixels are brought to the {size[0]}x{size[1]} of the training")
        data = data.resize(size)
    return data
