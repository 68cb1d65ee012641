"""Latency of a network as the sum over its blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.cost import Block
from zcpt.devices import get_device_name, move_images, move_network
from zcpt.errors import ConfigError
from zcpt.files import parse_json, read_text, require_keys, to_json_text, write_atomically
from zcpt.progress import show_progress
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.versions import get_versions

_WARM_UP = 3
"""Rounds that are discarded."""
_FORWARD_PASSES = 10
"""Forward passes of one measurement of a device beside the processor, so that waiting for it is small in comparison."""
_MAX_MILLISECONDS = 1e12
"""Largest latency accepted in a table, about thirty years."""
NANOSECONDS_PER_MILLISECOND = 1_000_000
"""Nanoseconds of a millisecond."""


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of blocks on one device."""

    about: Mapping[str, Any]
    """Device, its name, date, versions, batch size, space and network config."""
    milliseconds: Mapping[str, float]
    """Latency of a whole batch by ``Block.key``."""

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read a table from its JSON file; raise ConfigError if the file is missing or damaged."""
        document = parse_json(read_text(path, "'zcpt latency --out FILE' measures one"), path)
        table = require_keys(document, ("about", "milliseconds"), path)
        times = table["milliseconds"]
        # Not isinstance, because True is an int. A range, because Python's JSON reader accepts Infinity and NaN.
        if not isinstance(times, dict) or not all(
            type(v) in (int, float) and 0 <= v < _MAX_MILLISECONDS for v in times.values()
        ):
            raise ConfigError(
                f"{path} is damaged: 'milliseconds' must map blocks to numbers from 0 to {_MAX_MILLISECONDS:g}."
            )
        return cls(table["about"], times)

    def write(self, path: Path) -> None:
        """Write the table as JSON."""
        write_atomically(path, to_json_text(asdict(self)))

    @cached_property
    def has_joins(self) -> bool:
        """Whether the table has additions and concatenations, which version 0.1.0 did not measure."""
        return any(key.startswith(("add ", "concat")) for key in self.milliseconds)

    def price(self, block: Block) -> int:
        """Return the nanoseconds of a block, as an integer: the sum of integers does not depend on their order."""
        if block.inputs > 1 and not self.has_joins:
            return 0
        return round(self.milliseconds[block.key] * NANOSECONDS_PER_MILLISECOND)

    def check(self, space: SearchSpace, network_config: NetworkConfig, path: str) -> None:
        """Raise ConfigError unless the table has every block of the networks of ``network_config``."""
        for block in space.all_blocks(network_config):
            if block.key not in self.milliseconds and (block.inputs == 1 or self.has_joins):
                raise ConfigError(
                    f"{path} lacks '{block.key}': measure it by 'zcpt latency --space {space.name} "
                    f"--channels {network_config.channels} --layers {network_config.layers} "
                    f"--image-size {_format_size(network_config)} "
                    f"--in-channels {network_config.in_channels} --classes {network_config.num_classes} --out FILE'."
                )


def _format_size(network_config: NetworkConfig) -> str:
    height, width = network_config.image_size
    return str(height) if height == width else f"{height}x{width}"


def measure_latency(
    space: SearchSpace, network_config: NetworkConfig, device: torch.device, *, batch_size: int = 1, repeats: int = 20
) -> LatencyTable:
    """Measure every block of the networks of a config.

    Args:
        space: The space.
        network_config: Config of the networks.
        device: Device to measure.
        batch_size: Images of a batch.
        repeats: Rounds of measurements.
    """
    about = {
        "device": str(device),
        "name": get_device_name(device),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": get_versions(),
        "batch_size": batch_size,
        "repeats": repeats,
        "space": space.name,
        "shape": asdict(network_config),
    }
    blocks = {block.key: block for block in space.all_blocks(network_config)}
    runs = [_prepare_block(block, device, batch_size) for block in blocks.values()]
    times = average_quiet_rounds(measure_rounds(runs, device, repeats))
    return LatencyTable(about, dict(zip(blocks, times.tolist(), strict=True)))


def measure_beside_blocks(
    network: nn.Module, images: Tensor, blocks: Sequence[Block], repeats: int
) -> tuple[float, LatencyTable]:
    """Measure a network and each of its blocks, in turn, so that both meet the same conditions.

    Args:
        network: The network, on the device.
        images: Its batch [B, C, H, W], on the device.
        blocks: Its blocks; one that occurs twice is measured twice, as its second copy finds other data in the caches.
        repeats: Rounds of measurements.

    Returns:
        Milliseconds of the network, and the table of its blocks.
    """
    device = images.device
    runs = [_prepare_block(block, device, len(images)) for block in blocks]
    times = measure_rounds([partial(network, images), *runs], device, repeats)
    of_network, *of_blocks = average_quiet_rounds(times).tolist()
    by_key: dict[str, list[float]] = {}
    for block, of_block in zip(blocks, of_blocks, strict=True):
        by_key.setdefault(block.key, []).append(of_block)
    return of_network, LatencyTable({}, {key: fmean(found) for key, found in by_key.items()})


def _prepare_block(block: Block, device: torch.device, batch_size: int) -> Callable[[], Any]:
    """Return a function that runs a block on random feature maps of its own."""
    module = move_network(block.build(), device).eval()
    shape = batch_size, block.in_channels, *block.input_size
    return partial(module, *(move_images(torch.randn(shape), device) for _ in range(block.inputs)))


def measure_rounds(functions: Sequence[Callable[[], Any]], device: torch.device, rounds: int) -> Tensor:
    """Measure functions in rounds, without gradients; each round runs all of them, one after the other.

    Run again and again, a block would find its weights in the caches of the processor, where the blocks of a whole
    network have replaced them.

    Returns:
        Milliseconds of one call [rounds, functions], float64.
    """
    # Devices compute asynchronously: without waiting, the clock would measure the launches only. Waiting takes time
    # too, so that devices other than the processor run each function several times in between.
    synchronize, passes = _get_synchronize(device), 1 if device.type == "cpu" else _FORWARD_PASSES
    # A single thread's own time leaves out that of other programs, which would stretch a network more than its blocks.
    is_single = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if is_single else time.perf_counter
    times = []
    with torch.inference_mode():
        for _ in show_progress(range(_WARM_UP + rounds), "rounds"):
            row = []
            for function in functions:
                synchronize()
                started = clock()
                for _ in range(passes):
                    function()
                synchronize()
                row.append((clock() - started) / passes * 1e3)
            times.append(row)
    return torch.tensor(times[_WARM_UP:], dtype=torch.float64)


def average_quiet_rounds(times: Tensor) -> Tensor:
    """Return the mean time of each function over the faster half of the rounds.

    A mean, because the mean of a sum is the sum of the means, which is not so for a median. Half of the rounds, because
    other programs disturb some.

    Args:
        times: [rounds, functions].
    """
    order = times.sum(dim=1).argsort()
    return times[order[: (len(times) + 1) // 2]].mean(dim=0)


def _get_synchronize(device: torch.device) -> Callable[[], None]:
    """Return the function that waits until a device has finished all its work."""
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    synchronize: Callable[[], None] = getattr(torch, device.type).synchronize  # torch.cpu, torch.mps, ...
    return synchronize
