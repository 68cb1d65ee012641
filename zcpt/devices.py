"""Devices, and networks and batches on them in the fastest memory layout."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from zcpt.batches import Batch
from zcpt.errors import ConfigError

Net = TypeVar("Net", bound=nn.Module)


@contextmanager
def leave_autocast() -> Iterator[None]:
    """Turn off an autocast of the caller for a block: zcpt computes in the precision that it was asked for."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def use_standard_settings() -> Iterator[None]:
    """Use torch's own defaults for a block: float32, the CPU, no autocast and no inference mode.

    Under other settings of the caller a search would draw other weights and images, without a word.
    """
    default_type = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(leave_autocast())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if default_type != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, default_type)
        yield


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device of a name after a trial allocation; ConfigError if it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:
        # Without the package of a vendor torch has a name for its device, such as hpu, and no module.
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise ConfigError(f"--device {name} cannot be used ({reason}): try --device cpu.") from None
    return torch.device("cpu") if device.type == "cpu" else device  # torch keeps any number, and 1000 as -24


def select_local_gpu() -> None:
    """Let 'cuda' denote the GPU of this process: the one whose index is torchrun's LOCAL_RANK.

    Raises:
        ConfigError: torchrun started more processes on this machine than it has GPUs.
    """
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count > 0:
        raise ConfigError(
            f"process {number} of this machine has no GPU of its own, as there are {count}: give torchrun "
            f"--nproc-per-node {count}, or let processes share a device by --device cuda:0 or --device cpu."
        )
    if count:
        torch.cuda.set_device(number)


def get_device_name(device: torch.device) -> str:
    """Return the model of the GPU or of the processor."""
    module = getattr(torch, device.type)
    if hasattr(module, "get_device_name"):
        return str(module.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def check_memory(size: int, device: torch.device) -> None:
    """Raise MemoryError if a processor's memory, or a limit of it, is less than this number of bytes.

    Building a network that does not fit takes long: its weights are drawn one layer after another until memory ends.
    """
    if device.type == "cpu":
        np.empty(min(size, sys.maxsize), np.uint8)  # takes addresses alone, as long as nothing is written to it


def move_network(net: Net, device: torch.device, channels_last: bool = True) -> Net:
    """Move a network to a device in place, and return it.

    With channels last, depthwise convolutions and pooling run several times faster on CPUs; no value changes.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch declares no memory_format
    return net


def move_images(images: Tensor, device: torch.device, channels_last: bool = True) -> Tensor:
    """Return images [B, C, H, W] on a device, in the memory layout of ``move_network``."""
    return images.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device, in the memory layout of ``move_network``."""
    return Batch(move_images(batch.images, device), batch.labels.to(device), batch.seed)
