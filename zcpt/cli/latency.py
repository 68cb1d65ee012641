"""``zcpt latency``."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.export import FORMATS, Classify, check_packages, export_network, make_task
from zcpt.cli._options import format_program, parse_integer, pick_device, read_image_size
from zcpt.cost import Block
from zcpt.devices import get_device_name, move_images, move_network
from zcpt.errors import ConfigError
from zcpt.latency import (
    NANOSECONDS_PER_MILLISECOND,
    LatencyTable,
    average_quiet_rounds,
    measure_beside_blocks,
    measure_latency,
    measure_rounds,
)
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
    "repeats": "rounds of measurements; the faster half is averaged (default: 20)",
}
DEFAULTS = {"in_channels": 3, "classes": 10, "batch_size": 1, "repeats": 20, "space": "darts", "image_size": (32, 32)}
"""Settings of a table that are not given; the parser leaves them out, so that --network can refuse those that are."""
_OF_SPACES = ("space", "image_size", "channels", "layers", "in_channels", "classes", "out")
"""Settings that a trained network has, or that it does not need."""
_ROUNDS = 5
"""Rounds of a network for each round of a table: a network takes less time than all operations of its space."""
PROMISED = 5.0
"""Percent by which the sum over a table may differ from the network without a remark."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--space", metavar="NAME", help="search space (default: darts)")
    parser.add_argument("--device", help="torch device: cpu, cuda, cuda:1 ... (default: cuda if available)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    help_size = "pixels per side of its images, or height and width as 160x224 (default: 32)"
    parser.add_argument("--image-size", type=read_image_size, metavar="INT|HxW", help=help_size)
    for name, text in _NUMBERS.items():
        parser.add_argument(format_flag(name), type=parse_integer, metavar="INT", help=text)
    network = parser.add_argument_group("measure a trained network instead, beside the sum over its operations")
    network.add_argument(
        "--network", type=Path, metavar="RUN", help="folder of a training, or of a search with one training"
    )
    network.add_argument(
        "--latency-table", type=Path, metavar="FILE", help="table of the operations (default: they are measured now)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure all operations of a space, or one trained network."""
    for name in _NUMBERS:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ConfigError(f"{format_flag(name)} {getattr(args, name)} is too small: it must be at least 1.")
    if args.network is not None:
        for name in _OF_SPACES:
            if getattr(args, name) is not None:
                raise ConfigError(f"{format_flag(name)} is for tables: leave it out with --network.")
    elif args.latency_table is not None:
        raise ConfigError("--latency-table goes with --network RUN, the network that is compared with the table.")
    elif args.out is None:
        raise ConfigError("give --out FILE, the table to write, or --network RUN, a network to measure.")
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.network is None:
        _measure_space(args)
    else:
        _measure_network(args)


def _measure_space(args: argparse.Namespace) -> None:
    """Measure all operations, and print the search command that uses the table."""
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


def _measure_network(args: argparse.Namespace) -> None:
    """Measure a trained network as torch and ONNX Runtime run it, and print both beside the sum over its operations."""
    trained = load_network(find_weights(args.network))
    device, config = pick_device(args.device), trained.network_config
    blocks = list(trained.space.blocks(trained.architecture, config))
    table = None
    if args.latency_table is not None:
        table = LatencyTable.read(args.latency_table)
        table.check(trained.space, config, str(args.latency_table))
    images = torch.randn(args.batch_size, config.in_channels, *config.image_size)
    exported = _export_to_memory(trained) if device.type == "cpu" else None
    network = move_network(trained.network, device)
    on_device = move_images(images, device)
    found, measured = measure_beside_blocks(network, on_device, [] if table else blocks, _ROUNDS * args.repeats)
    expected = sum(map((table or measured).price, blocks)) / NANOSECONDS_PER_MILLISECOND
    where = f"{get_device_name(device)}, {pluralize(args.batch_size, 'image')} at a time"
    source = _describe_source(args, table, blocks)
    print_lines(
        f"table         {expected:.3g} ms: the sum of {len(blocks)} operations, {source}",
        f"network       {found:.3g} ms by torch on {where}: {_describe_difference(expected, found)}",
    )
    if exported is not None:
        times = measure_rounds([partial(exported, images)], device, _ROUNDS * args.repeats)
        found = float(average_quiet_rounds(times))
        print_lines(f"exported      {found:.3g} ms by ONNX Runtime: {_describe_difference(expected, found)}")


def _describe_source(args: argparse.Namespace, table: LatencyTable | None, blocks: Sequence[Block]) -> str:
    """Say where the latencies of the operations come from."""
    if table is None:
        return "each measured alone, in turn with the network"
    source = f"of {args.latency_table} (batches of {table.about.get('batch_size')} on {table.about.get('name')})"
    if not table.has_joins and any(block.inputs > 1 for block in blocks):
        source += "; version 0.1.0 made it, without additions and concatenations"
    return source


def _export_to_memory(trained: TrainedNetwork) -> Classify | None:
    """Return the network as ONNX Runtime runs it; None if it cannot be exported, which is said."""
    try:
        check_packages(FORMATS["onnx"].packages, "measuring the exported network")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network.onnx")
            export_network(make_task(trained), "onnx", path)
            return FORMATS["onnx"].load(path)
    except ConfigError as error:
        _log.warning(f"the exported network is not measured: {error}")
        return None


def _describe_difference(expected: float, found: float) -> str:
    """Say by how much the sum over the table misses a measured latency."""
    percent = 100 * (expected - found) / found
    if abs(percent) <= PROMISED:
        return f"the table is within {PROMISED:g} % of it"
    return f"the table is {abs(percent):.1f} % {'above' if percent > 0 else 'below'} it"
