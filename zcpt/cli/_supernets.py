"""Trained supernets that a command scores: ``--supernet``."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from train.data import ImageData
from train.supernet import (
    SUPERNET,
    SupernetTuning,
    TrainedSupernet,
    build_validation_batches,
    check_data,
    load_supernet,
)
from train.supernet.run import read_supernet_run
from zcpt.baselines import DiscretisationAccuracyScore, OperationScore, get_operation_score
from zcpt.batches import Batch
from zcpt.cli._options import parse_integer, reload_data, split_names
from zcpt.errors import ConfigError
from zcpt.options import format_flag
from zcpt.space import SearchSpace

_FLAGS = ("validation_images", "tuning_epochs")


def add_supernet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of trained supernets."""
    group = parser.add_argument_group("trained supernets")
    group.add_argument(
        "--supernet",
        type=split_names,
        metavar="RUN,...",
        help="folder of 'zcpt train-supernet', or a file in it such as epoch_060.safetensors; one for all seeds, or "
        "one for each",
    )
    group.add_argument(
        "--validation-images",
        type=parse_integer,
        metavar="INT",
        help="images of the validation half that accuracies are measured on (default: all)",
    )
    group.add_argument(
        "--tuning-epochs",
        type=parse_integer,
        metavar="INT",
        help="epochs of training after each trial decision of disc_acc (default: none)",
    )


def refuse_supernet_flags(args: argparse.Namespace) -> None:
    """Raise ConfigError if a flag is given that has no effect without ``--supernet``."""
    for name in _FLAGS:
        if getattr(args, name) is not None:
            raise ConfigError(f"{format_flag(name)} is for trained supernets: add --supernet RUN.")


class TrainedSupernets:
    """Trained supernets of the seeds of a measurement.

    Args:
        args: Flags of the command.
        space: Space that the supernets must belong to.
        seeds: Seeds.
        device: Device of the supernets.

    Raises:
        ConfigError: There are as many as neither one nor the seeds, or they are of another space or of different sizes.
    """

    def __init__(
        self, args: argparse.Namespace, space: SearchSpace, seeds: Sequence[int], device: torch.device
    ) -> None:
        paths = [Path(path) for path in args.supernet]
        if len(paths) not in (1, len(seeds)):
            raise ConfigError(
                f"--supernet names {len(paths)} supernets for {len(seeds)} seeds: give one for all, or one for each."
            )
        self.device = device
        self.epochs: int = args.tuning_epochs or 0
        if self.epochs < 0:
            raise ConfigError(f"--tuning-epochs {self.epochs} must not be negative.")
        self.images: int = args.validation_images or 0
        self._paths = dict(zip(seeds, paths * len(seeds), strict=False))
        self._supernets = {path: load_supernet(path).to(device) for path in dict.fromkeys(paths)}
        self._validation: dict[Path, list[Batch]] = {}
        for path, trained in self._supernets.items():
            if trained.space.name != space.name:
                raise ConfigError(f"{path} is a supernet of {trained.space.name}, not of {space.name}.")
            if trained.network_config != self.first.network_config:
                raise ConfigError(
                    f"{path} has another size than {paths[0]}: give supernets that differ in seeds alone."
                )
        folder = paths[0] if paths[0].is_dir() else paths[0].parent
        self.data: ImageData = check_data(self.first, reload_data(read_supernet_run(folder)["data"], args))

    @property
    def first(self) -> TrainedSupernet:
        """The first supernet."""
        return next(iter(self._supernets.values()))

    @property
    def size(self) -> dict[str, int]:
        """Width and depth of all supernets."""
        config = self.first.network_config
        return {"channels": config.channels, "layers": config.layers}

    def get(self, seed: int) -> TrainedSupernet:
        """Return the supernet of a seed."""
        return self._supernets[self._paths[seed]]

    def build_score(self, method: str, seed: int) -> OperationScore:
        """Return an operation score; it trains the supernet of the seed further where it needs that."""
        if method == DiscretisationAccuracyScore.name and self.epochs:
            return DiscretisationAccuracyScore(SupernetTuning(self.get(seed), self.data, self.epochs, self.device))
        return get_operation_score(method)

    def get_validation_batches(self, seed: int) -> list[Batch]:
        """Return the images on which accuracies of the supernet of a seed are measured."""
        path = self._paths[seed]
        if path not in self._validation:
            self._validation[path] = build_validation_batches(self.get(seed), self.data, self.device, self.images)
        return self._validation[path]

    def describe(self) -> Mapping[str, Any]:
        """Return the hash of the supernet of each seed, and the settings of scores, for a measurement's protocol."""
        hashes = {
            str(seed): hashlib.sha256((path / SUPERNET if path.is_dir() else path).read_bytes()).hexdigest()[:16]
            for seed, path in self._paths.items()
        }
        return {"supernets": hashes, "validation_images": self.images, "tuning_epochs": self.epochs}
