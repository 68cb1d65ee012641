"""What the benchmarks of the engines share: spaces, random images, supernets, a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from zcpt.batches import Batch
from zcpt.devices import move_network
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Supernet

BATCHES = {"darts": 64, "nasbench201": 256, "proxyless": 64, "nasbench-macro": 256}
"""The spaces that are measured, and the images of a batch as their published searches have it."""
ENGINES = ("naive", "plain", "fast")


def make_random_batch(size: int, side: int = 32) -> Batch:
    """Return normal numbers for images."""
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(size, 3, side, side, generator=generator), torch.zeros(size, dtype=torch.int64))


def build_supernet(space: SearchSpace, device: torch.device, **size: Any) -> Supernet:
    """Return a supernet as a search has it."""
    network_config = NetworkConfig(space.search_size.channels, space.search_size.layers, 10, 3, (32, 32))
    torch.manual_seed(0)
    return move_network(space.build_supernet(replace(network_config, **size)), device).eval()


def measure_seconds(call: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
