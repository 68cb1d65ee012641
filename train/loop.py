"""The training of a discrete network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from train.augment import training_transform
from train.checkpoint import load_state, load_weights
from train.data import ImageData
from train.evaluation import measure
from train.images import Transformed, count
from train.recipe import TrainConfig
from zcpt.architecture import Architecture
from zcpt.devices import move_images, move_network
from zcpt.errors import ConfigError, DataError, describe_unknown_name
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig
from zcpt.space_registry import get_space

Row = dict[str, float]


class Training:
    """One training: made from its settings, or gone on with from a checkpoint, epoch by epoch.

    Every epoch seeds all generators from (seed, epoch), so a resumed run is the uninterrupted one.
    """

    def __init__(self, architecture: Architecture, data: ImageData, config: TrainConfig, device: torch.device) -> None:
        data = data.in_memory()
        channels, height, width = data.image_shape
        if count(data.train) < 2:
            raise DataError(f"{data.name} has {count(data.train)} training image: at least 2 are needed.")
        self.architecture, self.data, self.config, self.device = architecture, data, config, device
        self.network_config = NetworkConfig(
            config.channels, config.layers, len(data.classes), channels, (height, width)
        )
        with use_seed(derive_seed(config.seed, "weights")):
            space = get_space(architecture.space)
            network = space.build_network(architecture, self.network_config, auxiliary=config.auxiliary_weight > 0)
        self.network = move_network(network, device, config.channels_last)
        self.runs: nn.Module = torch.compile(network) if config.compile else network  # type: ignore[assignment]
        self.optimizer, self.schedule = _optimizer(network, config)
        self.rows: list[Row] = []
        self.on_batch: Callable[[], object] = lambda: None

    @property
    def epoch(self) -> int:
        """The epoch that comes next, counted from 0."""
        return len(self.rows)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "architecture": self.architecture.to_json(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows,
        }

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; ConfigError if it is damaged or of another network."""
        state = load_state(path, self.architecture)
        load_weights(self.network, state["network"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = state["rows"]

    def run_epoch(self) -> Row:
        """Train for one epoch, measure the test images, and add a row to ``rows``."""
        epoch, started = self.epoch, time.perf_counter()
        torch.manual_seed(derive_seed(self.config.seed, "epoch", epoch))
        if self.schedule is not None:
            self.schedule.step(epoch)
        drop_path = self.config.drop_path * epoch / self.config.epochs
        self.network.set_drop_path(drop_path)
        loss, accuracy = self._train()
        seconds = time.perf_counter() - started
        test_loss, test_accuracy = measure(
            self.network,
            self.data.test,
            self.data.statistics,
            self.config.batch_size,
            self.device,
            amp=self.config.amp,
        )
        row = {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "lr": self.optimizer.param_groups[0]["lr"],
            "drop_path": drop_path,
            "seconds": seconds,
            "images_per_second": count(self.data.train) / seconds,
        }
        self.rows.append(row)
        return row

    def _train(self) -> tuple[float, float]:
        """Mean loss of the network's own logits, and accuracy in percent, over the epoch."""
        self.runs.train()
        # Tensors until the epoch is over: asking for a number makes the host wait for the device.
        losses, hits, sizes = [], [], []
        for images, labels in self._batches():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp):
                logits, loss, total = self._loss(images, labels)
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

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        smoothing, weight = self.config.label_smoothing, self.config.auxiliary_weight
        if not weight:
            logits = self.runs(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            return logits, loss, loss
        logits, auxiliary = self.runs(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return logits, loss, loss + weight * F.cross_entropy(auxiliary, labels, label_smoothing=smoothing)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loader():
            yield move_images(images, self.device, self.config.channels_last), labels.to(self.device)

    def loader(self) -> DataLoader[Any]:
        """The training images of the next epoch, shuffled and augmented."""
        size = self.data.image_shape[1:]
        transform = training_transform(self.config, size, self.data.statistics)
        images = count(self.data.train)
        return DataLoader(
            Transformed(self.data.train, transform),
            self.config.batch_size,
            shuffle=True,
            num_workers=self.config.workers,
            # A last batch of one image would have no variance for the BatchNorms on 1x1 maps.
            drop_last=images % self.config.batch_size == 1 and images > 1,
            generator=torch.Generator().manual_seed(derive_seed(self.config.seed, "order", self.epoch)),
            pin_memory=self.device.type == "cuda",
        )


def _optimizer(network: nn.Module, config: TrainConfig) -> tuple[torch.optim.Optimizer, Scheduler | None]:
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            network,
            opt=config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            filter_bias_and_bn=False,  # the recipe decays all parameters; timm would spare some
        )
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        if config.optimizer in list_optimizers():
            raise ConfigError(f"--optimizer {config.optimizer} cannot be used here: {error}") from None
        raise ConfigError(describe_unknown_name("optimiser", config.optimizer, list_optimizers())) from None
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"--optimizer {config.optimizer} needs second derivatives: choose one that does not.")
    schedule, _ = create_scheduler_v2(
        optimizer, sched=config.schedule, num_epochs=config.epochs, min_lr=config.min_lr, warmup_epochs=0
    )
    return optimizer, schedule
