"""``zcpt score``."""

from __future__ import annotations

import argparse
import time

import timm
import torch
from torch import nn

from train.data import ImageData, build_scoring_batches, choose_recipe
from train.recipe import make_train_config
from zcpt.architecture_files import read_architecture
from zcpt.batches import Batch, check_batch_sizes
from zcpt.cli._options import add_data_arguments, load_given_data, parse_integer, pick_device, split_names
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, ZcptError, describe_unknown_name
from zcpt.options import format_count, format_flag, pluralize
from zcpt.printing import print_lines, shorten
from zcpt.progress import show_progress
from zcpt.proxies import Proxy, get_proxy, list_aggregates, list_proxies
from zcpt.scoring import score
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--arch", metavar="RUN|FILE|TEXT", help="architecture: a run folder, a file, or with --space its text"
    )
    parser.add_argument("--space", metavar="NAME", help="search space of the architecture")
    parser.add_argument("--model", metavar="NAME", help="a network of timm instead, such as resnet18")
    help_proxies = (
        "proxies, or 'all': those that cannot score this network are listed with the reason (default: naswot)"
    )
    parser.add_argument("--proxies", type=split_names, metavar="NAME,...", default=["naswot"], help=help_proxies)
    help_batch = "images in the mini-batch (default: 64)"
    parser.add_argument("--batch-size", type=parse_integer, metavar="INT", default=64, help=help_batch)
    for name, measure in (("channels", "width"), ("layers", "depth")):
        help_size = f"{measure} of the network (default: that of 'zcpt train')"
        parser.add_argument(format_flag(name), type=parse_integer, metavar="INT", help=help_size)
    parser.add_argument(
        "--seed", type=parse_integer, metavar="INT", default=0, help="seed of weights and mini-batch (default: 0)"
    )
    add_data_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score one network with fresh weights by each proxy, and print the scores."""
    proxies = _find_proxies(args.proxies)
    for name, least in (("batch_size", 1), ("channels", 1), ("layers", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"{format_flag(name)} {value} is too small: it must be at least {least}.")
    data = load_given_data(args)
    with use_seed(derive_seed(args.seed, "weights")):
        network, described = _build_network(args, data)
    device = pick_device(args.device)
    batches = build_scoring_batches(data, args.seed)
    check_batch_sizes(batches, {"--batch-size": args.batch_size})
    # Seeds as in 'zcpt benchmark proxies', whose scores these are.
    batch = move_batch(batches.draw(args.batch_size, derive_seed(args.seed, "batch")), device)
    network = move_network(network, device)
    _check_network(network, batch, described)
    size = "x".join(map(str, data.image_shape))
    params = format_count(sum(parameter.numel() for parameter in network.parameters()))
    print_lines(
        f"network       {described}, {params} parameters, weights of seed {args.seed}",
        f"mini-batch    {pluralize(len(batch.images), 'image')} of {data.name} ({size})",
    )
    lines = [_score(network, batch, proxy) for proxy in show_progress(proxies, "proxies", leave=False)]
    print_lines(*lines)
    if all("  failed: " in line for line in lines):
        raise ConfigError(
            "no proxy can score this network on these images: give other --proxies ('zcpt list proxies')."
        )
    return 0


def _find_proxies(names: list[str]) -> list[Proxy]:
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--proxies must name different proxies, separated by commas, not '{','.join(names)}'.")
    for name in names:
        if name.partition(":")[0] in list_aggregates():
            raise ConfigError(f"'{name}' ranks several networks among each other, and this is one: give its proxies.")
    return [get_proxy(name) for name in (list_proxies() if names == ["all"] else names)]


def _build_network(args: argparse.Namespace, data: ImageData) -> tuple[nn.Module, str]:
    """Build the network that the flags name; return it with a description."""
    channels, *image_size = data.image_shape
    if args.model is None:
        space, architecture, _ = read_architecture(args.arch, args.space)
        default = make_train_config(space, choose_recipe(data), data.name)
        width, depth = args.channels or default.channels, args.layers or default.layers
        config = NetworkConfig(width, depth, len(data.classes), channels, (image_size[0], image_size[1]))
        space.check_network_config(config)
        text = f"{space.format(architecture)} (C={width}, {space.describe_layers(depth)})"
        return space.build_network(architecture, config), text
    for name in ("arch", "space", "channels", "layers"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--model names a network of timm: leave out {format_flag(name)}.")
    if args.model not in timm.list_models():
        raise ConfigError(describe_unknown_name("model of timm", args.model, timm.list_models()))
    try:
        return timm.create_model(args.model, num_classes=len(data.classes), in_chans=channels), f"{args.model} of timm"
    except Exception as error:  # timm's networks take different arguments
        raise ConfigError(
            f"--model {args.model} cannot be built for {channels}-channel images: {_trim(error)}."
        ) from error


def _check_network(network: nn.Module, batch: Batch, described: str) -> None:
    """Raise ConfigError if a network cannot process the images."""
    try:
        with torch.no_grad():
            network.eval()(batch.images)
    except Exception as error:  # timm's networks need images of a certain size
        size = "x".join(map(str, batch.images.shape[1:]))
        raise ConfigError(
            f"{described} cannot process images of {size}: {_trim(error)}. Give --image-size or another --dataset."
        ) from error
    finally:
        network.train()


def _trim(error: Exception) -> str:
    return shorten(str(error)).rstrip(".")


def _score(network: nn.Module, batch: Batch, proxy: Proxy) -> str:
    """Return the line of one proxy: its score and seconds, or why it failed."""
    started = time.perf_counter()
    try:
        value = score(network, batch, proxy)[proxy.name]
    except ZcptError as error:
        return f"{proxy.name:18}  failed: {error}"
    better = "higher" if proxy.higher_is_better else "lower"
    return f"{proxy.name:18}  {value:<14.8g} {better} is better, {time.perf_counter() - started:.2f} s"
