"""Optimiser, learning-rate schedule and step of a training."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from train.recipe import TrainConfig
from zcpt.errors import ConfigError, describe_unknown_name


def scale_learning_rate(rate: float, config: TrainConfig) -> float:
    """Return a learning rate of the settings, scaled to the global batch if they say so."""
    return rate * (config.batch_size / config.lr_base_size if config.lr_base_size else 1)


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimiser with timm; ConfigError if it cannot be used."""
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            network,
            opt=config.optimizer,
            lr=scale_learning_rate(config.lr, config),
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            filter_bias_and_bn=not config.decay_all,
            **({"eps": config.optimizer_eps} if config.optimizer_eps else {}),
        )
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        if config.optimizer in list_optimizers():
            raise ConfigError(f"--optimizer {config.optimizer} cannot be used here: {error}") from None
        raise ConfigError(describe_unknown_name("optimiser", config.optimizer, list_optimizers())) from None
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"--optimizer {config.optimizer} needs second derivatives: choose another one.")
    return optimizer


class Schedule:
    """Learning rates of all updates, by timm's schedules. The rate of an update depends on its number alone.

    Args:
        optimizer: Optimiser whose rates are set.
        config: Settings.
        batches: Updates of an epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, batches: int) -> None:
        self.config = config
        self.batches = batches
        self.per_batch = config.schedule_per == "batch"
        self.slow = self.count_steps(config.slow_epochs) if config.schedule == "linear" else 0
        self.total = self.count_steps(config.schedule_length)
        shapes: dict[str, dict[str, Any]] = {
            "cosine": {"sched": "cosine"},
            "linear": {"sched": "poly", "decay_rate": 1.0},
            "step": {"sched": "step", "decay_epochs": config.decay_epochs, "decay_rate": config.decay_rate},
            "none": {"sched": "step", "decay_epochs": 1, "decay_rate": 1.0},  # timm's 'none' has no warm-up
        }
        self.timm: Scheduler
        self.timm, _ = create_scheduler_v2(
            optimizer,
            **shapes[config.schedule],
            num_epochs=config.schedule_length - (config.slow_epochs if self.slow else 0),
            min_lr=scale_learning_rate(config.min_lr, config),
            warmup_epochs=config.warmup_epochs,
            warmup_lr=scale_learning_rate(config.warmup_lr, config),
            step_on_epochs=not self.per_batch,
            updates_per_epoch=batches,
        )

    def count_steps(self, epochs: int) -> int:
        """Return the number of steps of the schedule in so many epochs."""
        return epochs * self.batches if self.per_batch else epochs

    def set_rate(self, epoch: int, batch: int) -> None:
        """Set the learning rate of an update, given its epoch and its number in that epoch."""
        if batch and not self.per_batch:
            return
        step = epoch * self.batches + batch if self.per_batch else epoch
        left = self.total - step
        if self.slow and left <= self.slow:
            self.timm.update_groups([rate * left / self.slow for rate in self._get_rates(self.total - self.slow - 1)])
        elif self.per_batch:
            self.timm.step_update(step)
        else:
            self.timm.step(step)

    def _get_rates(self, step: int) -> list[float]:
        return [float(rate) for rate in self.timm._get_lr(step)]


class Stepper:
    """Backward passes and steps of the optimiser, with scaled losses under float16 and clipped gradients.

    Args:
        network: Network whose gradients are clipped.
        optimizer: Optimiser.
        config: Settings.
        device: Device of the network.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, device: torch.device
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.max_norm = config.clip_grad or math.inf
        # Gradients of float16 would underflow. timm's NativeScaler does the same, and does not return the norm.
        self.scaler = GradScaler(device.type, enabled=config.amp and config.amp_dtype == "float16")

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the weights."""
        self.scaler.scale(loss).backward()

    def step(self) -> Tensor:
        """Update the weights, clear the gradients, and return their norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return norm
