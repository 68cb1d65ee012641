"""Training loop of a discrete network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn import functional as F

from train.checkpoint import load_checkpoint, load_weights
from train.data import ImageData
from train.evaluation import Predictions, evaluate_network
from train.loaders import Batch, EpochLoader, build_test_loader, build_train_loader
from train.recipe import TrainConfig
from zcpt.architecture import Architecture
from zcpt.devices import check_memory, move_images, move_network
from zcpt.errors import ConfigError, DataError, describe_unknown_name
from zcpt.options import pluralize
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace

EpochMetrics = dict[str, float]
"""Losses, accuracies, learning rate and speed of an epoch: a line of ``summary.csv``."""
_BYTES = 4
"""Bytes of a weight, of its gradient, and of its momentum."""


class Trainer:
    """Training of the network of an architecture, epoch by epoch.

    Every epoch seeds all generators from (seed, epoch), so a resumed training equals the uninterrupted one.

    Args:
        space: Space of the architecture.
        architecture: Architecture to build.
        data: Images to train on and to measure.
        config: Settings.
        device: Device to train on.
    """

    def __init__(
        self,
        space: SearchSpace,
        architecture: Architecture,
        data: ImageData,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.space = space
        self.architecture = architecture
        self.data = data.in_memory()
        self.config = config
        self.device = device
        if len(self.data.train) < 2:
            raise DataError(f"{data.name} has {pluralize(len(self.data.train), 'training image')}: 2 are needed.")
        channels, height, width = self.data.image_shape
        self.network_config = NetworkConfig(
            config.channels, config.layers, len(data.classes), channels, (height, width)
        )
        parameters = space.cost(architecture, self.network_config).params
        check_memory(_BYTES * (2 + _has_momentum(config)) * parameters, device)
        with use_seed(derive_seed(config.seed, "weights")):
            network = space.build_network(architecture, self.network_config, auxiliary=config.auxiliary_weight > 0)
        self.network = move_network(network, device, config.channels_last)
        # A compiled module shares the weights, but prefixes their names: checkpoints are of the plain one.
        self.compiled: nn.Module = torch.compile(network) if config.compile else network  # type: ignore[assignment]
        self.optimizer, self.schedule = _build_optimizer(network, config)
        self.history: list[EpochMetrics] = []
        """Metrics of all finished epochs."""
        self.predictions: Predictions | None = None
        """Predictions for the test images in the last epoch that this process has run."""
        self.on_batch: Callable[[], object] = lambda: None
        """Function that is called after each training batch."""

    @property
    def epoch(self) -> int:
        """Number of the next epoch, from 0."""
        return len(self.history)

    @cached_property
    def train_loader(self) -> EpochLoader:
        """Loader of the training images, kept for all epochs so that its workers are started once."""
        size, classes = self.network_config.image_size, self.network_config.num_classes
        return build_train_loader(self.data.train, self.data.statistics, self.config, size, classes, self.device)

    @cached_property
    def test_loader(self) -> EpochLoader:
        """Loader of the test images, likewise."""
        size = self.network_config.image_size
        return build_test_loader(self.data.test, self.data.statistics, self.config, size, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "architecture": self.architecture.to_json(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.history,
        }

    def load_checkpoint(self, path: Path) -> None:
        """Continue from a checkpoint; ConfigError if it is damaged or of another network."""
        state = load_checkpoint(path, self.architecture)
        load_weights(self.network, state["network"], path)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ConfigError(f"{path} is damaged: its 'optimizer' cannot be used ({error}).") from error
        self.history = state["rows"]

    def run_epoch(self) -> EpochMetrics:
        """Train for one epoch, evaluate on the test images, and add the metrics to ``history``."""
        epoch = self.epoch
        start = time.perf_counter()
        torch.manual_seed(derive_seed(self.config.seed, "epoch", epoch))
        if self.schedule is not None:
            self.schedule.step(epoch)
        drop_path = self.config.drop_path * epoch / self.config.epochs
        self.network.set_drop_path(drop_path)
        loss, accuracy = self._train_epoch()
        seconds = time.perf_counter() - start
        self.predictions = evaluate_network(
            self.network,
            self.test_loader,
            self.device,
            amp_dtype=torch.bfloat16 if self.config.amp else None,
            channels_last=self.config.channels_last,
        )
        metrics = {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "test_loss": self.predictions.loss,
            "test_accuracy": self.predictions.accuracy,
            "lr": self.optimizer.param_groups[0]["lr"],
            "drop_path": drop_path,
            "seconds": seconds,
            "images_per_second": len(self.data.train) / seconds,
        }
        self.history.append(metrics)
        return metrics

    def _train_epoch(self) -> tuple[float, float]:
        """Train on all batches; return the mean loss of the main head, and the accuracy in percent."""
        self.compiled.train()
        # Kept as tensors until the end: reading a number would make the host wait for the device in every batch.
        losses, hits, sizes = [], [], []
        for batch in self.load_train_batches():
            images, labels = move_images(batch.images, self.device, self.config.channels_last), batch.targets
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp):
                logits, loss, total = self._compute_loss(images, labels)
            self.optimizer.zero_grad()
            total.backward()
            if self.config.clip_grad:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_grad)
            self.optimizer.step()
            losses.append(loss.detach())
            hits.append((logits.argmax(1) == labels).sum())
            sizes.append(len(labels))
            self.on_batch()
        mean = float(torch.stack(losses).cpu().double() @ torch.tensor(sizes, dtype=torch.float64)) / sum(sizes)
        if not math.isfinite(mean):
            remedy = "a lower --lr, or --no-amp" if self.config.amp else "a lower --lr"
            raise ConfigError(f"the loss is {mean} in epoch {self.epoch}: try {remedy}.")
        return mean, 100 * int(torch.stack(hits).sum()) / sum(sizes)

    def load_train_batches(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch, shuffled, augmented and on the device."""
        yield from self.train_loader.load_epoch(self.epoch)

    def _compute_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits, the loss of the main head, and the loss to minimise."""
        smoothing = self.config.label_smoothing
        if not self.config.auxiliary_weight:
            logits = self.compiled(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            return logits, loss, loss
        logits, auxiliary = self.compiled(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        auxiliary_loss = F.cross_entropy(auxiliary, labels, label_smoothing=smoothing)
        return logits, loss, loss + self.config.auxiliary_weight * auxiliary_loss


def _has_momentum(config: TrainConfig) -> bool:
    return config.optimizer in ("sgd", "nesterov", "momentum") and config.momentum > 0


def _build_optimizer(network: nn.Module, config: TrainConfig) -> tuple[torch.optim.Optimizer, Scheduler | None]:
    """Build optimiser and learning-rate schedule with timm; ConfigError if the optimiser cannot be used."""
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            network,
            opt=config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            filter_bias_and_bn=False,  # DARTS decays all parameters; timm leaves out biases and BatchNorms
        )
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        if config.optimizer in list_optimizers():
            raise ConfigError(f"--optimizer {config.optimizer} cannot be used here: {error}") from None
        raise ConfigError(describe_unknown_name("optimiser", config.optimizer, list_optimizers())) from None
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"--optimizer {config.optimizer} needs second derivatives: choose another one.")
    schedule, _ = create_scheduler_v2(
        optimizer, sched=config.schedule, num_epochs=config.epochs, min_lr=config.min_lr, warmup_epochs=0
    )
    return optimizer, schedule
