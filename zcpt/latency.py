"""Latency of a network as the sum over its blocks, each measured alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from zcpt.cost import Block
from zcpt.devices import get_device_name, move_images, move_network
from zcpt.errors import ConfigError
from zcpt.files import parse_json, read_text, require_keys, to_json_text, write_atomically
from zcpt.progress import show_progress
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.versions import get_versions

_WARM_UP = 3
"""Measurements of each block that are discarded."""
_FORWARD_PASSES = 10
"""Forward passes of one measurement, so that the time to synchronise the device is small in comparison."""
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

    def price(self, block: Block) -> int:
        """Return the nanoseconds of a block, as an integer: the sum of integers does not depend on their order."""
        return round(self.milliseconds[block.key] * NANOSECONDS_PER_MILLISECOND)

    def check(self, space: SearchSpace, network_config: NetworkConfig, path: str) -> None:
        """Raise ConfigError unless the table has every block of the networks of ``network_config``."""
        for block in space.all_blocks(network_config):
            if block.key not in self.milliseconds:
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
        repeats: Measurements of each block; the table has their median.
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
    return LatencyTable(about, measure_blocks(space.all_blocks(network_config), device, batch_size, repeats))


def measure_blocks(blocks: Iterable[Block], device: torch.device, batch_size: int, repeats: int) -> dict[str, float]:
    """Measure each distinct block alone, and return its milliseconds by ``Block.key``."""
    times = {}
    for key, block in show_progress({block.key: block for block in blocks}.items(), "blocks"):
        module = move_network(block.build(), device).eval()
        images = torch.randn(batch_size, block.in_channels, *block.input_size)
        times[key] = measure_milliseconds(module, move_images(images, device), repeats)
    return times


def measure_milliseconds(
    function: Callable[[Tensor], Any], images: Tensor, repeats: int, passes: int = _FORWARD_PASSES
) -> float:
    """Measure a module or function on a batch, without gradients.

    Args:
        function: The module or function.
        images: Its input, on the device.
        repeats: Measurements.
        passes: Forward passes of one measurement. One suffices for a whole network, and then fewer measurements are
            disturbed by other programs.

    Returns:
        Median of the measurements, in milliseconds for one pass.
    """
    # Devices compute asynchronously: without waiting, the clock would measure the launches only.
    synchronize = _get_synchronize(images.device)
    times = []
    with torch.inference_mode():
        for repeat in range(_WARM_UP + repeats):
            synchronize()
            started = time.perf_counter()
            for _ in range(passes):
                function(images)
            synchronize()
            if repeat >= _WARM_UP:
                times.append((time.perf_counter() - started) / passes * 1e3)
    return median(times)


def _get_synchronize(device: torch.device) -> Callable[[], None]:
    """Return the function that waits until a device has finished all its work."""
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    synchronize: Callable[[], None] = getattr(torch, device.type).synchronize  # torch.cpu, torch.mps, ...
    return synchronize
