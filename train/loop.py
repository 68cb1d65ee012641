"""Training loop of a discrete network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from timm.utils import distribute_bn
from torch import Tensor

from train.checkpoint import TrainedNetwork, load_checkpoint, load_weights, transfer_weights
from train.data import ImageData
from train.distributed import (
    MIN_IMAGES,
    BatchPart,
    Share,
    has_unused_weights,
    name_lost_processes,
    settle_buckets,
    share_random_layers,
    synchronize_norms,
)
from train.evaluation import Predictions, evaluate_network
from train.holdout import draw_samples, split_holdout
from train.images import ImageSet
from train.loaders import Batch, EpochLoader, build_test_loader, build_train_loader
from train.metrics import EpochMetrics, EpochSums, measure_memory, reset_memory
from train.optimisation import Schedule, Stepper, build_optimizer
from train.recipe import TrainConfig
from train.task import AuxiliaryTask
from zcpt.architecture import Architecture
from zcpt.devices import check_memory, move_images, move_network
from zcpt.errors import ConfigError, DataError
from zcpt.layers import remove_auxiliary_norm
from zcpt.options import pluralize
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import DiscreteNetwork, NetworkConfig, SearchSpace

_BYTES = 4
"""Bytes of a weight, of its gradient, of its momentum, and of its average."""


class DivergenceError(ConfigError):
    """The loss of a training is no finite number any more."""


@contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Restore the caller's random numbers at the end, on the CPU and on the device in use, and touch no other GPU."""
    # fork_rng passes a device to torch.mps.get_rng_state, which takes none.
    devices = [] if device.type in ("cpu", "mps") else [device]
    with torch.random.fork_rng(devices=devices, **({"device_type": device.type} if devices else {})):
        yield


class Trainer:
    """Training of the network of an architecture, epoch by epoch.

    Every batch seeds all generators from (seed, epoch, batch), so a resumed training equals the uninterrupted one, and
    one of several processes that of a single one but for rounding.

    Args:
        space: Space of the architecture.
        architecture: Architecture to build.
        data: Images to train on and to measure.
        config: Settings.
        device: Device to train on; with several processes, that of this one.
        processes: Processes that share the training.
        initial: Trained network that the training starts from, with its weights and its normalisation of images.
    """

    def __init__(
        self,
        space: SearchSpace,
        architecture: Architecture,
        data: ImageData,
        config: TrainConfig,
        device: torch.device,
        processes: ProcessGroup = SINGLE_PROCESS,
        initial: TrainedNetwork | None = None,
    ) -> None:
        self.space = space
        self.architecture = architecture
        # Initial weights expect images that are normalised as before.
        self.data = data if initial is None else replace(data, known_statistics=initial.statistics)
        self.config = config
        self.device = device
        self.processes = processes
        self.share = Share(processes.rank, processes.size)
        trained, self.holdout_images = split_holdout(self.data.train, config.holdout, config.seed)
        self.train_images = draw_samples(trained, config.samples, config.seed)
        self._check_batches()
        channels, height, width = self.data.image_shape
        self.network_config = NetworkConfig(
            config.channels, config.layers, len(data.classes), channels, (height, width)
        )
        self.part = BatchPart()
        self.network = self._build_network(initial)
        self.optimizer = build_optimizer(self.network, config)
        self.stepper = Stepper(self.network, self.optimizer, config, device)
        self.task = self._build_task()
        self.history: list[EpochMetrics] = []
        """Metrics of all finished epochs."""
        self.predictions: Predictions | None = None
        """Predictions for the test images in the last epoch that this process has run."""
        self.on_batch: Callable[[], object] = lambda: None
        """Function that is called after each training batch."""

    def _check_batches(self) -> None:
        """Raise an error unless there is a batch with enough images for each process."""
        images, least = len(self.train_images), MIN_IMAGES * self.share.world
        needed = f"{least} are needed{f' for {self.share.world} processes' if self.share.world > 1 else ''}"
        if images < least:
            raise DataError(f"{self.data.name} has {pluralize(images, 'training image')}: {needed}.")
        if self.config.batch_size < least:
            raise ConfigError(f"--batch-size {self.config.batch_size} is too small: {needed}.")

    def _build_network(self, initial: TrainedNetwork | None) -> DiscreteNetwork:
        config = self.config
        parameters = self.space.cost(self.architecture, self.network_config).params
        check_memory(_BYTES * (2 + _has_momentum(config) + config.ema) * parameters, self.device)
        with use_seed(derive_seed(config.seed, "weights")):
            network = self.space.build_network(
                self.architecture, self.network_config, auxiliary=config.auxiliary_weight > 0
            )
        if not config.auxiliary_norm:
            remove_auxiliary_norm(network)
        if initial is not None:
            transfer_weights(initial, network, self.data.classes)
        _set_drop_path(network, 0.0, config)  # an error that the network has none comes before there is a run folder
        if config.dropout:
            network.set_dropout(config.dropout)
        if config.grad_checkpointing:
            network.set_grad_checkpointing()
        network = move_network(network, self.device, config.channels_last)
        share_random_layers(network, self.part)
        if config.sync_bn and self.share.world > 1:
            synchronize_norms(network, self.device)
        return network

    def _build_task(self) -> AuxiliaryTask:
        task = AuxiliaryTask(self.network, self.config, self.device)
        if self.config.ema:
            # The decay rises to its value: the average would else hold on to the first, random weights for long.
            task.setup_ema(decay=self.config.ema_decay, use_warmup=True)
        if self.config.compile:
            task.compile()
        if self.share.world > 1:
            device_ids = [self.device] if self.device.type == "cuda" else None
            task.prepare_distributed(
                device_ids=device_ids,
                # The statistics of BatchNorm are averaged after each epoch instead of being sent before each batch.
                broadcast_buffers=False,
                find_unused_parameters=has_unused_weights(self.network, self.data.image_shape),
            )
            settle_buckets(task.trainable_module, self.data.image_shape)
        return task

    @property
    def epoch(self) -> int:
        """Number of the next epoch, from 0."""
        return len(self.history)

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the first with the highest accuracy on the training images kept back."""
        accuracies = [row["holdout_accuracy"] for row in self.history if "holdout_accuracy" in row]
        return bool(accuracies) and all(accuracies[-1] > other for other in accuracies[:-1])

    @property
    def measured_network(self) -> DiscreteNetwork:
        """Network that is measured and kept: the one with averaged weights, if there is one."""
        network: DiscreteNetwork = self.task.get_trainable_module(ema=True).module if self.config.ema else self.network
        return network

    @property
    def amp_dtype(self) -> torch.dtype | None:
        """Type of numbers under autocast; None without autocast."""
        dtype: torch.dtype = getattr(torch, self.config.amp_dtype)
        return dtype if self.config.amp else None

    @cached_property
    def train_loader(self) -> EpochLoader:
        """Loader of the training images, kept for all epochs so that its workers are started once."""
        size, classes = self.network_config.image_size, self.network_config.num_classes
        return build_train_loader(
            self.train_images, self.data.statistics, self.config, size, classes, self.device, self.share
        )

    @cached_property
    def test_loader(self) -> EpochLoader:
        """Loader of the test images, likewise."""
        return self._build_test_loader(self.data.test)

    @cached_property
    def holdout_loader(self) -> EpochLoader | None:
        """Loader of the training images that are kept back, without augmentation."""
        return None if self.holdout_images is None else self._build_test_loader(self.holdout_images)

    def _build_test_loader(self, images: ImageSet) -> EpochLoader:
        size = self.network_config.image_size
        return build_test_loader(images, self.data.statistics, self.config, size, self.device, self.share)

    @cached_property
    def schedule(self) -> Schedule:
        """Schedule of the learning rate."""
        return Schedule(self.optimizer, self.config, len(self.train_loader))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        ema, scaler = self.task.get_trainable_module(ema=True), self.stepper.scaler
        return {
            "architecture": self.architecture.to_json(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.history,
            "processes": self.share.world,
            **({} if ema is None else {"ema": ema.module.state_dict()}),
            **({"scaler": scaler.state_dict()} if scaler.is_enabled() else {}),
        }

    def load_checkpoint(self, path: Path) -> int:
        """Continue from a checkpoint, and return the number of processes that wrote it.

        Raises:
            ConfigError: It is damaged or of another network.
        """
        state = load_checkpoint(path, self.architecture)
        load_weights(self.network, state["network"], path)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            if self.stepper.scaler.is_enabled():
                self.stepper.scaler.load_state_dict(state["scaler"])
            ema = state["ema"] if self.config.ema else None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
            raise ConfigError(f"{path} is damaged: its 'optimizer' cannot be used ({error}).") from error
        if ema is not None:
            load_weights(self.measured_network, ema, path)
        self.history = state["rows"]
        return int(state.get("processes", 1))

    def run_epoch(self, measure: bool = True) -> EpochMetrics:
        """Train for one epoch, and add the metrics to ``history``.

        With ``measure``, evaluate on the test images and on those kept back.
        """
        epoch, config = self.epoch, self.config
        reset_memory(self.device)
        start, waited = time.perf_counter(), self.train_loader.wait_seconds
        drop_path = config.drop_path * (epoch / config.schedule_length if config.drop_path_schedule == "ramp" else 1)
        _set_drop_path(self.network, drop_path, config)
        trained = self._train_epoch()
        seconds = max(self.processes.gather(time.perf_counter() - start))
        waited = max(self.processes.gather(self.train_loader.wait_seconds - waited))
        rate = self.optimizer.param_groups[0]["lr"]
        self._average_norms()
        measured = self._measure() if measure else {}
        metrics = {
            "epoch": epoch,
            "train_loss": trained.loss,
            "train_accuracy": trained.accuracy,
            **measured,
            "lr": rate,
            "drop_path": drop_path,
            "gradient_norm": trained.gradient_norm,
            "seconds": seconds,
            "wait_seconds": waited,
            "images_per_second": trained.images / seconds,
            "memory_mb": max(self.processes.gather(measure_memory(self.device))),
        }
        self.history.append(metrics)
        return metrics

    def _measure(self) -> EpochMetrics:
        self.predictions = self.evaluate(self.test_loader)
        metrics = _describe(self.predictions, "test")
        if self.holdout_loader is not None:
            metrics |= _describe(self.evaluate(self.holdout_loader), "holdout")
        return metrics

    def evaluate(self, loader: EpochLoader) -> Predictions:
        """Evaluate the network that is kept."""
        return evaluate_network(
            self.measured_network,
            loader,
            self.device,
            amp_dtype=self.amp_dtype,
            channels_last=self.config.channels_last,
            processes=self.processes,
        )

    def load_train_batches(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch, shuffled, augmented and on the device."""
        yield from self.train_loader.load_epoch(self.epoch)

    def _train_epoch(self) -> EpochSums:
        self.task.train()
        sums = EpochSums()
        with name_lost_processes(self.processes):
            for index, batch in enumerate(self.load_train_batches()):
                self.schedule.set_rate(self.epoch, index)
                torch.manual_seed(derive_seed(self.config.seed, "batch", self.epoch, index))
                self._train_batch(batch, sums)
                self.task.update_ema(step=self.epoch * len(self.train_loader) + index + 1)
                self.on_batch()
            sums.close()
        self.part.size = self.part.start = 0
        sums = EpochSums.add(self.processes.gather(sums))
        if not math.isfinite(sums.loss):
            remedy = "a lower --lr, or --no-amp" if self.config.amp else "a lower --lr"
            raise DivergenceError(f"the loss is {sums.loss} in epoch {self.epoch}: try {remedy}.")
        return sums

    def _train_batch(self, batch: Batch, sums: EpochSums) -> None:
        """Compute the gradients of a batch, in several parts if the settings say so, and update the weights."""
        images = move_images(batch.images, self.device, self.config.channels_last)
        # As many parts in every process, and at least two images for each BatchNorm.
        count = max(1, min(self.config.accumulate, batch.size // self.share.world // MIN_IMAGES))
        pieces = list(zip(*(t.tensor_split(count) for t in (images, batch.targets, batch.labels)), strict=True))
        self.part.start, self.part.size = self.share.find_part(batch.size).start, batch.size
        for number, (images, targets, labels) in enumerate(pieces, 1):
            with nullcontext() if number == len(pieces) else self.task.no_sync():
                with torch.autocast(self.device.type, self.amp_dtype, enabled=self.config.amp):
                    result: dict[str, Tensor] = self.task(images, targets)
                self.stepper.backward(result["loss"] * self.share.compute_weight(len(labels), batch.size))
            self.part.start += len(labels)
            sums.add_part(result["main_loss"], result["output"], labels)
        sums.add_norm(self.stepper.step())

    def _average_norms(self) -> None:
        """Average the statistics of BatchNorm over the processes, unless they have the same ones."""
        if self.share.world > 1 and not self.config.sync_bn:
            for network in [self.network, *([self.measured_network] if self.config.ema else [])]:
                distribute_bn(network, self.share.world, reduce=True)


def _describe(predictions: Predictions, name: str) -> EpochMetrics:
    return {
        f"{name}_loss": predictions.loss,
        f"{name}_accuracy": predictions.accuracy,
        f"{name}_top5": predictions.top5,
    }


def _set_drop_path(network: DiscreteNetwork, probability: float, config: TrainConfig) -> None:
    if config.drop_path_schedule == "depth":
        network.set_rising_drop_path(probability)
    else:
        network.set_drop_path(probability)


def _has_momentum(config: TrainConfig) -> bool:
    return config.optimizer in ("sgd", "nesterov", "momentum") and config.momentum > 0
