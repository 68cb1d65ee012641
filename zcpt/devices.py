"""Moving networks and batches to a device, in the layout that suits them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ConfigError

Net = TypeVar("Net", bound=nn.Module)


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of that name, after trying it; ConfigError if it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"--device {name} cannot be used ({reason}): try --device cpu.") from None
    return device


def select_local_gpu() -> None:
    """Let 'cuda' mean the GPU with the number of this process among those that torchrun started on this machine."""
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count > 0:
        raise ConfigError(
            f"process {number} of this machine has no GPU of its own, of which there are {count}: give torchrun "
            f"--nproc-per-node {count}, or several processes one device, such as --device cuda:0 or --device cpu."
        )
    if count:
        torch.cuda.set_device(number)


def get_device_name(device: torch.device) -> str:
    """What hardware it is, such as the model of the GPU or of the processor."""
    module = getattr(torch, device.type)
    if hasattr(module, "get_device_name"):
        return str(module.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def move_network(net: Net, device: torch.device, channels_last: bool = True) -> Net:
    """Move a network in place, and return it.

    With channels last, depthwise convolutions and pooling run several times faster on CPUs; no value changes.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch declares no memory_format
    return net


def move_images(images: Tensor, device: torch.device, channels_last: bool = True) -> Tensor:
    """Move images [B, C, H, W], in the layout of ``move_network``."""
    return images.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Move a batch, in the layout of ``move_network``."""
    return Batch(move_images(batch.images, device), batch.labels.to(device), batch.seed)
