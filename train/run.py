"""Training of an architecture in a run folder, with progress bar and TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch

from train.arguments import ARGUMENTS, describe_data, format_arguments, read_arguments, update_arguments
from train.checkpoint import CHECKPOINT, WEIGHTS, TrainedNetwork, has_network_of, save_checkpoint, save_network
from train.data import ImageData
from train.loop import EpochMetrics, Trainer
from train.monitor import TrainingMonitor
from train.recipe import TrainConfig, check_augmentation
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError, DataError
from zcpt.files import to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder
from zcpt.options import pluralize
from zcpt.space import SearchSpace
from zcpt.versions import get_versions

_log = logging.getLogger(__name__)
SUMMARY = "summary.csv"


def train_architecture(
    space: SearchSpace,
    architecture: Architecture,
    data: ImageData,
    config: TrainConfig,
    run_dir: Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
) -> TrainedNetwork:
    """Train the network of an architecture, and write settings, checkpoints and results to ``run_dir``.

    The reported accuracy is that of the last epoch; test results influence nothing.

    Args:
        space: Space of the architecture.
        architecture: Architecture to train.
        data: Images to train on and to measure.
        config: Settings.
        run_dir: New folder, or with ``resume`` an existing one.
        device: Device to train on.
        resume: Continue the training in ``run_dir``. ``config`` is that of the training, perhaps with more epochs: the
            learning rate then follows the schedule of the new length from the next epoch on.

    Raises:
        ZcptError: The input is invalid, and nothing is written; or the training failed, and ``run_dir`` has the
            checkpoint of the last finished epoch.
    """
    trainer = Trainer(space, architecture, data, config, resolve_device(device))
    if not len(trainer.data.test):
        raise DataError(f"{data.name} has no test images: at least 1 is needed.")
    if not resume:
        check_augmentation(config, trainer.network_config.image_size)
    with lock_folder(run_dir) if resume else create_folder(run_dir, _make_first_files(trainer)):
        if resume:
            _load_run_folder(run_dir, trainer)
        _log.info(f"{_format_announcement(trainer)}; run folder {run_dir}")
        if trainer.epoch < config.epochs:
            _train_epochs(run_dir, trainer)
        trained = _describe_trained(trainer)
        if not has_network_of(run_dir / WEIGHTS, config.epochs):  # a finished training is left as it is
            save_network(run_dir / WEIGHTS, trained)
        return trained


def _train_epochs(run_dir: Path, trainer: Trainer) -> None:
    with _keep_random_state(trainer.device), TrainingMonitor(run_dir, trainer) as monitor:
        monitor.log_settings()
        while trainer.epoch < trainer.config.epochs:
            metrics = trainer.run_epoch()
            save_checkpoint(run_dir / CHECKPOINT, trainer.state_dict())
            _write_summary(run_dir / SUMMARY, trainer.history)
            monitor.log_epoch(metrics)
        monitor.log_mistakes()


def _keep_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Restore the caller's random numbers at the end, on the CPU and on the device in use, and touch no other GPU."""
    if device.type in ("cpu", "mps"):  # fork_rng passes a device to torch.mps.get_rng_state, which takes none
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def _format_announcement(trainer: Trainer) -> str:
    config = trainer.config
    return (
        f"training {trainer.space.format(trainer.architecture)} on {trainer.data.name} by recipe {config.recipe}, "
        f"on {trainer.device}: C={config.channels}, {trainer.space.describe_layers(config.layers)}, "
        f"{pluralize(config.epochs, 'epoch')}"
    )


def _describe_trained(trainer: Trainer) -> TrainedNetwork:
    about = {
        "test_accuracy": trainer.history[-1]["test_accuracy"],
        "epochs": trainer.config.epochs,
        "dataset": trainer.data.name,
        "versions": get_versions(),
    }
    return TrainedNetwork(
        trainer.network,
        trainer.space,
        trainer.architecture,
        trainer.network_config,
        trainer.data.statistics,
        trainer.data.classes,
        about,
    )


def _make_first_files(trainer: Trainer) -> dict[str, str]:
    """Return the files of a new run folder by name; the last one marks a complete folder."""
    return {
        "architecture.json": to_json_text(trainer.architecture.to_json()),
        ARGUMENTS: format_arguments(trainer.config, str(trainer.device), describe_data(trainer.data)),
    }


def _load_run_folder(run_dir: Path, trainer: Trainer) -> None:
    """Load the checkpoint of a run folder, after a check that the data are the same."""
    before, now = read_arguments(run_dir)["data"], describe_data(trainer.data)
    for key in ("name", "train_images", "test_images", "statistics"):  # the directory may have been moved
        is_moved = key == "name" and all(str(data[key]).startswith("folder:") for data in (before, now))
        is_rounded = key == "statistics" and _is_rounded_alike(before[key], now[key])
        if before[key] != now[key] and not is_moved and not is_rounded:
            raise ConfigError(
                f"{run_dir} was trained on other data: its {key} is {before[key]}, and the data now have {now[key]}."
            )
    if (run_dir / CHECKPOINT).exists():
        trainer.load_checkpoint(run_dir / CHECKPOINT)
        _write_summary(run_dir / SUMMARY, trainer.history)  # a kill may have left it one epoch behind
    elif (run_dir / SUMMARY).exists():  # without either file the training was stopped in its first epoch
        raise ConfigError(
            f"{run_dir / CHECKPOINT} is missing, so the training cannot be resumed: train anew with another --out."
        )
    update_arguments(run_dir, trainer.config, now)


def _is_rounded_alike(before: object, now: list[list[float]]) -> bool:
    """Return whether statistics differ by rounding alone, which was another one in earlier versions."""
    values = [list(map(float, numbers)) for numbers in before] if isinstance(before, list | tuple) else []
    return np.shape(values) == np.shape(now) and np.allclose(values, now, rtol=1e-9, atol=0)


def _write_summary(path: Path, history: list[EpochMetrics]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    if not path.is_file() or path.read_bytes() != text.getvalue().encode():
        write_atomically(path, text.getvalue())
