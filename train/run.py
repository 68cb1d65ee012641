"""A training with its run folder, its progress bar and its event files."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from train.checkpoint import LAST, WEIGHTS, TrainedNetwork, save_network, save_state
from train.data import ImageData
from train.images import count
from train.loop import Row, Training
from train.recipe import TrainConfig
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError
from zcpt.files import (
    create_folder,
    describe_yaml_error,
    lock_folder,
    read_run_file,
    require_keys,
    to_json_text,
    write_atomically,
)
from zcpt.options import pluralize
from zcpt.space_registry import get_space
from zcpt.versions import get_versions

_log = logging.getLogger(__name__)
ARGUMENTS = "args.yaml"
SUMMARY = "summary.csv"


def fit(
    architecture: Architecture,
    data: ImageData,
    config: TrainConfig,
    run_dir: Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
) -> TrainedNetwork:
    """Train the network of an architecture on the training images, and write everything to ``run_dir``.

    The accuracy reported is that of the last epoch; no test result decides anything.

    Raises:
        ZcptError: Something given cannot be used, and nothing has been written; or the training failed, and
            ``run_dir`` says how far it came.
    """
    training = Training(architecture, data, config, resolve_device(device))
    if not resume:
        _new_folder(run_dir, training)
    with lock_folder(run_dir):
        if resume:
            _go_on(run_dir, training)
        _log.info(_announcement(training))
        with torch.random.fork_rng(), _Watch(run_dir, training) as watch:
            while training.epoch < config.epochs:
                training.run_epoch()
                save_state(run_dir / LAST, training.state())
                _write_summary(run_dir / SUMMARY, training.rows)
                watch.epoch_done(training.rows[-1])
        return _finish(run_dir, training)


def _announcement(training: Training) -> str:
    config, space = training.config, get_space(training.architecture.space)
    return (
        f"training {space.format(training.architecture)} on {training.data.name} by recipe {config.recipe}, "
        f"on {training.device}: C={config.channels}, {space.describe_layers(config.layers)}, "
        f"{pluralize(config.epochs, 'epoch')}"
    )


def _finish(run_dir: Path, training: Training) -> TrainedNetwork:
    data, config = training.data, training.config
    about = {
        "test_accuracy": training.rows[-1]["test_accuracy"],
        "epochs": config.epochs,
        "dataset": data.name,
        "versions": get_versions(),
    }
    trained = TrainedNetwork(
        training.network, training.architecture, training.network_config, data.statistics, data.classes, about
    )
    save_network(run_dir / WEIGHTS, trained)
    return trained


def _described(data: ImageData) -> dict[str, Any]:
    return {
        "name": data.name,
        "directory": str(data.directory) if data.directory else None,
        "train_images": count(data.train),
        "test_images": count(data.test),
        "statistics": [list(values) for values in data.statistics],
    }


def _new_folder(run_dir: Path, training: Training) -> None:
    arguments = {
        **dataclasses.asdict(training.config),
        "device": str(training.device),
        "data": _described(training.data),
    }
    files = {
        ARGUMENTS: yaml.safe_dump(arguments, sort_keys=False),
        "architecture.json": to_json_text(training.architecture.to_json()),
    }
    create_folder(run_dir, files)


def _go_on(run_dir: Path, training: Training) -> None:
    before, described = read_arguments(run_dir)["data"], _described(training.data)
    for key in ("name", "train_images", "test_images", "statistics"):
        if before[key] != described[key]:
            raise ConfigError(
                f"{run_dir} was trained on other data: its {key} is {before[key]}, and that of the data found now "
                f"is {described[key]}."
            )
    if (run_dir / LAST).exists():
        training.load(run_dir / LAST)
        _write_summary(run_dir / SUMMARY, training.rows)
    elif (run_dir / SUMMARY).exists():  # else it was stopped before the first epoch was done
        raise ConfigError(f"{run_dir / LAST} is missing, so the training cannot go on: train anew with another --out.")


def read_arguments(run_dir: Path) -> dict[str, Any]:
    """The settings of a training, from its ``args.yaml``; ConfigError when they cannot be read."""
    path = run_dir / ARGUMENTS
    try:
        arguments = yaml.safe_load(read_run_file(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is damaged: {describe_yaml_error(error)}.") from None
    fields = [f.name for f in dataclasses.fields(TrainConfig)]
    data = [f"data.{key}" for key in ("name", "directory", "train_images", "test_images", "statistics")]
    return require_keys(arguments, [*fields, *data, "device"], path)


def _write_summary(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


class _Watch:
    """Progress bar and TensorBoard of a training."""

    def __init__(self, run_dir: Path, training: Training) -> None:
        self.training = training
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=training.epoch)

    def __enter__(self) -> _Watch:
        batches, config = len(self.training.loader()), self.training.config
        done = self.training.epoch * batches
        self.bar = tqdm(
            desc="training",
            total=config.epochs * batches,
            initial=done,
            smoothing=0.05,
            unit="batch",
            disable=None,
        )
        self.training.on_batch = self.bar.update
        return self

    def epoch_done(self, row: Row) -> None:
        for name, value in row.items():
            if name not in ("epoch", "seconds"):
                tag = name.replace("_", "/", 1) if name.startswith(("train_", "test_")) else f"train/{name}"
                self.writer.add_scalar(tag, value, row["epoch"])
        done = f"epoch {row['epoch'] + 1}/{self.training.config.epochs}"
        self.bar.set_postfix_str(f"{done}, loss {row['train_loss']:.3f}, test {row['test_accuracy']:.2f} %")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.writer.close()
