"""``zcpt evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.arguments import read_arguments
from train.checkpoint import WEIGHTS, load_network
from train.data import load_data
from train.evaluation import evaluate_network
from train.loaders import build_test_loader
from zcpt.architecture import Architecture
from zcpt.cli._architecture import find_training
from zcpt.cli._options import add_data_arguments, parse_integer, pick_device, reload_data
from zcpt.devices import move_network
from zcpt.errors import ConfigError, DataError
from zcpt.files import read_run_file
from zcpt.printing import print_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="folder of a training, or of a search with one training"
    )
    add_data_arguments(parser)
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
    data_of_run = arguments["data"]
    if args.dataset and args.dataset != data_of_run["name"]:
        data = load_data(args.dataset, args.data_dir, args.download)
    else:
        data = reload_data(data_of_run["name"], data_of_run["directory"], args)
    channels = len(data.test[0][0])
    if data.classes != trained.classes or channels != trained.network_config.in_channels:
        raise DataError(
            f"the network was trained for {len(trained.classes)} classes of "
            f"{trained.network_config.in_channels}-channel images, and "
            f"{data.name} has {len(data.classes)} of {channels}: give another --dataset."
        )
    channels_last = arguments["channels_last"]
    network = move_network(trained.network, device, channels_last)
    loader = build_test_loader(data.test, trained.statistics, args.batch_size, device, arguments["workers"])
    loss, accuracy = evaluate_network(network, loader, device, amp=arguments["amp"], channels_last=channels_last)
    print_lines(
        f"test accuracy {accuracy:.2f} % on the {len(data.test)} test images of {data.name} (loss {loss:.4f})",
        f"architecture  {trained.space.format(trained.architecture)}",
    )
