"""``zcpt latency``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from zcpt.cli._options import pick_device
from zcpt.errors import ConfigError
from zcpt.latency import measure
from zcpt.options import flag
from zcpt.space import Shape
from zcpt.spaces import get_space

_log = logging.getLogger(__name__)
_SIZES = {
    "channels": "width of the network to be trained (default: the space's for CIFAR-10)",
    "layers": "depth of the network to be trained (default: the space's for CIFAR-10)",
    "image_size": "pixels a side of its images (default: 32)",
    "in_channels": "channels of its images (default: 3)",
    "classes": "classes that it tells apart (default: 10)",
    "batch_size": "images at a time (default: 1)",
    "repeats": "measurements of each operation, of which the median counts (default: 20)",
}
_DEFAULTS = {"image_size": 32, "in_channels": 3, "classes": 10, "batch_size": 1, "repeats": 20}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--space", metavar="NAME", default="darts", help="search space (default: darts)")
    parser.add_argument("--device", help="torch device such as cpu, cuda or cuda:1 (default: cuda if there is one)")
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="the table, as JSON")
    for name, text in _SIZES.items():
        parser.add_argument(flag(name), type=int, metavar="INT", default=_DEFAULTS.get(name), help=text)


def run(args: argparse.Namespace) -> None:
    """Measure, and say what to do with the table."""
    for name in _SIZES:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ConfigError(f"{flag(name)} {getattr(args, name)} is too small: it must be at least 1.")
    if args.out.exists():
        raise ConfigError(f"{args.out} exists already: give another file with --out.")
    if not args.out.absolute().parent.is_dir():
        raise ConfigError(f"{args.out} cannot be written: there is no folder {args.out.parent}.")
    space, device = get_space(args.space), pick_device(args.device)
    channels, layers = args.channels or space.train_size.channels, args.layers or space.train_size.layers
    shape = Shape(channels, layers, args.classes, args.in_channels, (args.image_size, args.image_size))
    space.check_shape(shape)
    _log.info(f"measuring the operations of {space.name} on {device}, {args.batch_size} images at a time")
    table = measure(space, shape, device, batch_size=args.batch_size, repeats=args.repeats)
    table.write(args.out)
    sys.stdout.write(
        f"table         {args.out}: {len(table.milliseconds)} operations on {table.about['name']}\n"
        f"use           zcpt search --space {space.name} --max-latency MS --latency-table {args.out} "
        f"--train-channels {channels} --train-layers {layers} --train-image-size {args.image_size} "
        f"--train-classes {args.classes}\n"
    )
