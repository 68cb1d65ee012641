"""``zcpt evaluate``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from train.arguments import read_arguments
from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.data import ImageData
from train.evaluation import Predictions, evaluate_network
from train.loaders import RelabelledLoader, TestOptions, build_test_loader
from zcpt.architecture import Architecture
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
        "folder",
        type=Path,
        metavar="RUN",
        help="folder of a training, or of a search with one training, or with --dataset a model.safetensors",
    )
    add_data_arguments(parser, ("validation_split", "split_seed"))
    parser.add_argument(
        "--batch-size", type=parse_integer, metavar="INT", default=256, help="images per mini-batch (default: 256)"
    )
    parser.add_argument(
        "--by-class",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="print the accuracy of each class too (default: --no-by-class)",
    )


def run(args: argparse.Namespace) -> None:
    """Measure a trained network on the test images, and print its accuracy."""
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size} is too small: it must be at least 1.")
    weights = find_weights(args.folder)
    trained = load_network(weights)
    device, arguments = pick_device(args.device), _read_arguments(weights, trained, args)
    data = _load_data(args, arguments["data"], trained)
    channels_last = arguments["channels_last"]
    network = move_network(trained.network, device, channels_last)
    cut = trained.preprocessing
    options = TestOptions(min(args.batch_size, len(data.test)), arguments["workers"], cut.test_crop, cut.interpolation)
    loader = build_test_loader(data.test, trained.statistics, options, trained.network_config.image_size, device)
    found = evaluate_network(
        network,
        RelabelledLoader(loader, [trained.classes.index(name) for name in data.classes]),
        device,
        amp_dtype=getattr(torch, arguments["amp_dtype"]) if arguments["amp"] else None,
        channels_last=channels_last,
    )
    print_lines(
        f"test accuracy {found.accuracy:.2f} % on the {len(data.test)} test images of {data.name} "
        f"({_format_top5(found.top5, len(trained.classes))}loss {found.loss:.4f})",
        f"architecture  {trained.space.format(trained.architecture)}",
        *(_format_classes(found, trained.classes) if args.by_class else ()),
    )


def _read_arguments(weights: Path, trained: TrainedNetwork, args: argparse.Namespace) -> dict[str, Any]:
    """Read the settings of the training beside the weights; a file alone has none."""
    if args.folder.is_file():
        if args.dataset is None:
            raise ConfigError(f"{args.folder} does not say on which images to measure: add --dataset.")
        about: dict[str, Any] = {"channels_last": False, "workers": 0, "amp": False, "amp_dtype": "bfloat16"}
        return {**about, "data": {}}
    path = weights.parent / "architecture.json"
    if trained.architecture != Architecture.from_json(read_run_file(path), str(path)):
        raise ConfigError(f"{weights} holds another architecture than {path}: one of the two files was replaced.")
    return read_arguments(weights.parent)


def _format_classes(found: Predictions, classes: tuple[str, ...]) -> list[str]:
    """Return a line for each class that has images."""
    rows = [row for row in found.measure_classes(classes) if row["images"]]
    width = max(len(str(row["class"])) for row in rows)
    return [
        f"{row['class']:<{width}}  {row['accuracy']:6.2f} %  {row['correct']} of {row['images']}"
        + (f", most often taken for {row['mistaken_for']}" if row["mistaken_for"] else "")
        for row in rows
    ]


def _format_top5(top5: float, classes: int) -> str:
    """Return the top-5 accuracy with a comma behind it; empty for so few classes that it tells little."""
    return f"top-5 {top5:.2f} %, " if classes > 10 else ""


def _load_data(args: argparse.Namespace, about: dict[str, Any], trained: TrainedNetwork) -> ImageData:
    """Load the test images, at the size of the images that the network was trained on.

    Raises:
        DataError: They have classes that the network does not know, or other channels, or there are none.
    """
    data = reload_data(about, args)
    if not len(data.test):
        raise DataError(f"{data.name} has no test images: give another --dataset.")
    size, (channels, *found) = trained.network_config.image_size, data.test[0][0].shape
    unknown = [name for name in data.classes if name not in trained.classes]
    if unknown or channels != trained.network_config.in_channels:
        raise DataError(
            f"the network was trained for {len(trained.classes)} classes of "
            f"{trained.network_config.in_channels}-channel images, and "
            f"{data.name} has {len(data.classes)} of {channels}"
            f"{f', of which it does not know {unknown[0]}' if unknown else ''}: give another --dataset."
        )
    if tuple(found) != size:
        _log.info(f"the images of {found[0]}x{found[1]} pixels are brought to the {size[0]}x{size[1]} of the training")
        data = data.resize(size)
    return data
