"""Training loop of a supernet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.data import ImageData
from train.holdout import draw_samples, split_holdout
from train.images import ImageSet
from train.loaders import Batch, EpochLoader, build_train_loader
from train.loop import DivergenceError
from train.metrics import EpochMetrics, EpochSums, measure_memory, reset_memory
from train.optimisation import Schedule, Stepper, build_optimizer
from train.recipe import check_augmentation
from train.supernet.alphas import ArchitectureParameters
from train.supernet.architect import Architect, LabelledBatch
from train.supernet.checkpoint import TrainedSupernet
from train.supernet.config import SupernetConfig, make_train_config
from zcpt.devices import move_images, move_network
from zcpt.errors import ConfigError, DataError
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace

_BETAS = (0.5, 0.999)
"""Adam's averages of the architecture parameters, as published."""
Shares = dict[str, list[float]]
"""Share of each candidate, by the choice's name."""


def split_images(images: ImageSet, config: SupernetConfig) -> tuple[ImageSet, ImageSet]:
    """Return the half of the images that trains the weights, and the half that trains the architecture parameters."""
    used = draw_samples(images, config.samples, config.seed)
    train, valid = split_holdout(used, 0.5, config.seed)
    assert valid is not None
    return train, valid


class SupernetTrainer:
    """Training of a supernet, epoch by epoch: in each step the architecture parameters, then the weights.

    Every step seeds all generators from (seed, epoch, step), so a resumed training equals the uninterrupted one.

    Args:
        space: Search space.
        data: Images; test images are never read.
        config: Settings.
        device: Device to train on.
    """

    def __init__(self, space: SearchSpace, data: ImageData, config: SupernetConfig, device: torch.device) -> None:
        self.space = space
        self.data = data
        self.config = config
        self.device = device
        channels, height, width = data.image_shape
        self.network_config = NetworkConfig(
            config.channels, config.layers, len(data.classes), channels, (height, width)
        )
        self.train_config = make_train_config(config, config.seed)
        self._purpose = ""
        check_augmentation(self.train_config, (height, width))
        space.check_network_config(self.network_config)
        self.train_images, self.valid_images = split_images(data.train, config)
        self._check_images()
        with use_seed(derive_seed(config.seed, "weights")):
            net = space.build_supernet(self.network_config)
        self.net = move_network(net, device)
        self.alphas = ArchitectureParameters.draw(space.choices, config.alpha_noise, config.seed, device)
        self.mixture = self.net.initial_mixture()
        """Decisions made so far: candidates of weight 0 are left out of the training."""
        self.optimizer = build_optimizer(self.net, self.train_config)
        self.stepper = Stepper(self.net, self.optimizer, self.train_config, device)
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas.list_tensors(), lr=config.alpha_lr, betas=_BETAS, weight_decay=config.alpha_weight_decay
        )
        self.architect = Architect(self.net, self.alphas, config.momentum, config.weight_decay)
        self.history: list[EpochMetrics] = []
        """Metrics of all finished epochs."""
        self.shares: list[Shares] = [self.compute_shares()]
        """Shares of the candidates before the first epoch, and after each."""
        self.on_step: Callable[[], object] = lambda: None
        """Function that is called after each step."""

    @classmethod
    def continue_from(
        cls, trained: TrainedSupernet, data: ImageData, epochs: int, rate_share: float, device: torch.device
    ) -> SupernetTrainer:
        """Return a training that starts from a copy of a trained supernet, with fresh optimisers.

        Args:
            trained: Trained supernet, which stays as it is.
            data: The images that it was trained on.
            epochs: Number of epochs.
            rate_share: Share of the first learning rate, which stays constant.
            device: Device to train on.
        """
        rate = rate_share * trained.config.lr
        config = replace(trained.config, epochs=epochs, lr=rate, min_lr=min(rate, trained.config.min_lr))
        trainer = cls(trained.space, replace(data, known_statistics=trained.statistics), config, device)
        trainer.train_config = replace(trainer.train_config, schedule="none")
        trainer._purpose = "tuning"  # other orders of the images than those of the first epochs
        trainer.net.load_state_dict(trained.net.state_dict())
        trainer.alphas.load_state_dict(trained.alphas.state_dict(), "the supernet")
        return trainer

    def _check_images(self) -> None:
        least = min(len(self.train_images), len(self.valid_images))
        if least < 2:
            raise DataError(
                f"{self.data.name} has too few training images: each of the two halves needs at least 2, and one has "
                f"{least}. Add images, or raise --samples."
            )

    @property
    def epoch(self) -> int:
        """Number of the next epoch, from 0."""
        return len(self.history)

    @cached_property
    def train_loader(self) -> EpochLoader:
        """Loader of the images that train the weights."""
        return self._build_loader(self.train_images, "train")

    @cached_property
    def valid_loader(self) -> EpochLoader:
        """Loader of the images that train the architecture parameters, augmented likewise."""
        return self._build_loader(self.valid_images, "valid")

    def _build_loader(self, images: ImageSet, name: str) -> EpochLoader:
        config = make_train_config(self.config, derive_seed(self.config.seed, f"{self._purpose}{name}"))
        size, classes = self.network_config.image_size, self.network_config.num_classes
        return build_train_loader(images, self.data.statistics, config, size, classes, self.device)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return min(len(self.train_loader), len(self.valid_loader))

    @cached_property
    def schedule(self) -> Schedule:
        """Schedule of the learning rate of the weights."""
        return Schedule(self.optimizer, self.train_config, self.num_steps)

    def compute_shares(self) -> Shares:
        """Return the share of every candidate that has an architecture parameter."""
        weights = self.alphas.weigh(self.mixture).weights
        return {name: list(weights[name]) for name in self.alphas.alphas}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "space": self.space.name,
            "network": self.net.state_dict(),
            "alphas": self.alphas.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "rows": self.history,
            "shares": self.shares,
        }

    def load_state_dict(self, state: dict[str, Any], source: object) -> None:
        """Continue from a checkpoint; ConfigError names the source if it is damaged or of another supernet."""
        try:
            self.net.load_state_dict(state["network"])
            self.alphas.load_state_dict(state["alphas"], source)
            self.optimizer.load_state_dict(state["optimizer"])
            self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
            self.history, self.shares = list(state["rows"]), list(state["shares"])
            if len(self.shares) != len(self.history) + 1:
                raise ValueError("there must be shares for each epoch")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
            raise ConfigError(f"{source} is damaged, or of another supernet: {reason}") from error

    def run_epoch(self) -> EpochMetrics:
        """Train for one epoch, and add its metrics to ``history`` and the shares after it to ``shares``."""
        reset_memory(self.device)
        start = time.perf_counter()
        train, valid = self._train_epoch()
        seconds = time.perf_counter() - start
        shares = self.compute_shares()
        metrics: EpochMetrics = {
            "epoch": self.epoch,
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "valid_loss": valid.loss,
            "valid_accuracy": valid.accuracy,
            **measure_shares(shares, self.mixture.choices),
            "lr": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": train.gradient_norm,
            "seconds": seconds,
            "images_per_second": (train.images + valid.images) / seconds,
            "memory_mb": measure_memory(self.device),
        }
        self.shares.append(shares)
        self.history.append(metrics)
        return metrics

    def _train_epoch(self) -> tuple[EpochSums, EpochSums]:
        self.net.train()
        train_sums, valid_sums = EpochSums(), EpochSums()
        # Each half is shuffled once in an epoch and read in order. DARTS' code shuffles the other half at every step.
        batches = zip(self.train_loader.load_epoch(self.epoch), self.valid_loader.load_epoch(self.epoch), strict=False)
        for index, (train, valid) in enumerate(batches):
            self.schedule.set_rate(self.epoch, index)
            torch.manual_seed(derive_seed(self.config.seed, "batch", self.epoch, index))
            self._step_alphas(self._prepare(train), self._prepare(valid), valid_sums)
            self._step_weights(self._prepare(train), train_sums)
            self.on_step()
        for sums in (train_sums, valid_sums):
            sums.close()
        if not math.isfinite(train_sums.loss):
            raise DivergenceError(f"the loss is {train_sums.loss} in epoch {self.epoch}: try a lower --lr.")
        return train_sums, valid_sums

    def _prepare(self, batch: Batch) -> LabelledBatch:
        return move_images(batch.images, self.device), batch.labels

    def _step_alphas(self, train: LabelledBatch, valid: LabelledBatch, sums: EpochSums) -> None:
        config = self.config
        if not config.alpha_lr or not self.alphas.list_open(self.mixture):
            with torch.no_grad():
                loss, logits = self.architect.run(valid, self.mixture)
        else:
            if config.alpha_order == "second":
                rate = self.optimizer.param_groups[0]["lr"]
                gradients, loss, logits = self.architect.compute_second_order(
                    train, valid, self.mixture, rate, self.optimizer
                )
            else:
                gradients, loss, logits = self.architect.compute_first_order(valid, self.mixture)
            # A decided choice has no gradient, so that Adam leaves its parameters alone.
            for alpha, gradient in zip(self.alphas.list_tensors(), gradients, strict=True):
                alpha.grad = gradient
            self.alpha_optimizer.step()
        sums.add_part(loss, logits, valid[1])
        sums.add_norm(torch.zeros(()))

    def _step_weights(self, batch: LabelledBatch, sums: EpochSums) -> None:
        images, labels = batch
        with torch.no_grad():
            mixture = self.alphas.share(self.mixture)
        logits: Tensor = self.net(images, mixture)
        loss = F.cross_entropy(logits, labels)
        self.stepper.backward(loss)
        sums.add_part(loss, logits, labels)
        sums.add_norm(self.stepper.step())


def measure_shares(shares: Shares, choices: Any) -> EpochMetrics:
    """Return the mean entropy of the choices in shares of its largest value, and for each candidate its mean share
    and the number of choices in which it leads."""
    operations = {name: row for name, row in shares.items() if choices[name].phase == 0}
    entropies = [_compute_entropy(row) for row in operations.values()]
    found: dict[str, list[float]] = {}
    leads: dict[str, int] = {}
    for name, row in operations.items():
        for candidate, share in zip(choices[name].candidates, row, strict=True):
            found.setdefault(candidate, []).append(share)
            leads[candidate] = leads.get(candidate, 0) + (share == max(row))
    return {
        "entropy": sum(entropies) / len(entropies) if entropies else math.nan,
        **{f"share_{candidate}": sum(row) / len(row) for candidate, row in found.items()},
        **{f"leads_{candidate}": float(count) for candidate, count in leads.items()},
    }


def _compute_entropy(row: list[float]) -> float:
    """Return the entropy of shares over that of equal ones: 1 is undecided, 0 decided."""
    if len(row) < 2:
        return 0.0
    return -sum(share * math.log(share) for share in row if share > 0) / math.log(len(row))
