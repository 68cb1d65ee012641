"""``zcpt latency``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from zcpt.cli._options import format_program, parse_integer, pick_device, read_image_size
from zcpt.errors import ConfigError
from zcpt.latency import measure_latency
from zcpt.options import format_flag, pluralize
from zcpt.printing import print_lines, quote_words
from zcpt.space import NetworkConfig
from zcpt.space_registry import get_space

_log = logging.getLogger(__name__)
_NUMBERS = {
    "channels": "width of the network to be trained (default: the space's for CIFAR-10)",
    "layers": "depth of the network to be trained (default: the space's for CIFAR-10)",
    "in_channels": "channels of its images (default: 3)",
    "classes": "number of classes (default: 10)",
    "batch_size": "images at a time (default: 1)",
    "repeats": "measurements of each operation; the median is kept (default: 20)",
}
_DEFAULTS = {"in_channels": 3, "classes": 10, "batch_size": 1, "repeats": 20}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--space", metavar="NAME", default="darts", help="search space (default: darts)")
    parser.add_argument("--device", help="torch device: cpu, cuda, cuda:1 ... (default: cuda if available)")
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="JSON file to write")
    help_size = "pixels per side of its images, or height and width as 160x224 (default: 32)"
    parser.add_argument("--image-size", type=read_image_size, metavar="INT|HxW", default=(32, 32), help=help_size)
    for name, text in _NUMBERS.items():
        parser.add_argument(
            format_flag(name), type=parse_integer, metavar="INT", default=_DEFAULTS.get(name), help=text
        )


def run(args: argparse.Namespace) -> None:
    """Measure all operations, and print the search command that uses the table."""
    for name in _NUMBERS:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ConfigError(f"{format_flag(name)} {getattr(args, name)} is too small: it must be at least 1.")
    if args.out.exists():
        raise ConfigError(f"{args.out} exists already: give another file with --out.")
    if not args.out.absolute().parent.is_dir():
        raise ConfigError(f"{args.out} cannot be written: there is no folder {args.out.parent}.")
    space, device = get_space(args.space), pick_device(args.device)
    channels, layers = args.channels or space.train_size.channels, args.layers or space.train_size.layers
    network_config = NetworkConfig(channels, layers, args.classes, args.in_channels, args.image_size)
    space.check_network_config(network_config)
    _log.info(f"measuring the operations of {space.name} on {device}, {pluralize(args.batch_size, 'image')} at a time")
    table = measure_latency(space, network_config, device, batch_size=args.batch_size, repeats=args.repeats)
    table.write(args.out)
    height, width = args.image_size
    # --train-image-size takes one number. Images that are not square are those of the search, which need no flag.
    square = f"--train-image-size {height} " if height == width else ""
    print_lines(
        f"table         {args.out}: {len(table.milliseconds)} operations on {table.about['name']}",
        f"use           {format_program()} search --space {space.name} --max-latency MS "
        f"--latency-table {quote_words([str(args.out)])} --train-channels {channels} --train-layers {layers} {square}"
        f"--train-classes {args.classes}",
    )
