"""``zcpt evaluate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from train.checkpoint import WEIGHTS, load_network
from train.data import load_data
from train.evaluation import measure
from train.images import count
from train.run import read_arguments
from zcpt.cli._options import add_data_arguments, data_again, pick_device
from zcpt.cli.train import read_architecture
from zcpt.errors import ConfigError, DataError
from zcpt.space_registry import get_space


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a training, or of a search with one")
    add_data_arguments(parser)
    parser.add_argument("--batch-size", type=int, metavar="INT", default=256, help="images at a time (default: 256)")


def run(args: argparse.Namespace) -> None:
    """Load the network, and say its test accuracy."""
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size} is too small: it must be at least 1.")
    folder = _training(args.folder)
    trained = load_network(folder / WEIGHTS)
    if trained.architecture != read_architecture(folder / "architecture.json", None):
        raise ConfigError(
            f"{folder / WEIGHTS} holds another architecture than {folder / 'architecture.json'}: "
            "one of the two files was replaced."
        )
    device, arguments = pick_device(args.device), read_arguments(folder)
    found = arguments["data"]
    if args.dataset and args.dataset != found["name"]:
        data = load_data(args.dataset, args.data_dir, args.download)
    else:
        data = data_again(found["name"], found["directory"], args)
    channels = len(data.test[0][0])
    if data.classes != trained.classes or channels != trained.network_config.in_channels:
        raise DataError(
            f"the network was trained for {len(trained.classes)} classes of "
            f"{trained.network_config.in_channels}-channel images, and "
            f"{data.name} has {len(data.classes)} of {channels}: give another --dataset."
        )
    loss, accuracy = measure(
        trained.network.to(device), data.test, trained.statistics, args.batch_size, device, amp=arguments["amp"]
    )
    space = get_space(trained.architecture.space)
    sys.stdout.write(
        f"test accuracy {accuracy:.2f} % on the {count(data.test)} test images of {data.name} (loss {loss:.4f})\n"
        f"architecture  {space.format(trained.architecture)}\n"
    )


def _training(folder: Path) -> Path:
    """The folder itself if it holds a training, else the one training below it."""
    if (folder / WEIGHTS).exists() or not (folder / "train").is_dir():
        return folder
    trainings = [path.parent for path in sorted(folder.glob(f"train/*/{WEIGHTS}"))]
    if len(trainings) != 1:
        found = ", ".join(map(str, trainings)) or "none that is finished"
        raise ConfigError(f"{folder} must hold one training, and it holds {found}: name the folder of one.")
    return trainings[0]
