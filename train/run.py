"""Training of an architecture in a run folder, with progress bar and TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import torch
from torch.utils.tensorboard import SummaryWriter

from train.arguments import ARGUMENTS, describe_data, extend_arguments, format_arguments, read_arguments
from train.checkpoint import CHECKPOINT, WEIGHTS, TrainedNetwork, has_network_of, save_checkpoint, save_network
from train.data import ImageData
from train.loop import EpochMetrics, Trainer
from train.recipe import TrainConfig
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError
from zcpt.files import to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder
from zcpt.options import pluralize
from zcpt.progress import show_progress
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
    with _keep_random_state(trainer.device), _TrainingMonitor(run_dir, trainer) as monitor:
        while trainer.epoch < trainer.config.epochs:
            metrics = trainer.run_epoch()
            save_checkpoint(run_dir / CHECKPOINT, trainer.state_dict())
            _write_summary(run_dir / SUMMARY, trainer.history)
            monitor.log_epoch(metrics)


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
        if before[key] != now[key] and not is_moved:
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
    extend_arguments(run_dir, trainer.config)


def _write_summary(path: Path, history: list[EpochMetrics]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    if not path.is_file() or path.read_bytes() != text.getvalue().encode():
        write_atomically(path, text.getvalue())


class _TrainingMonitor:
    """Progress bar and TensorBoard of a training."""

    def __init__(self, run_dir: Path, trainer: Trainer) -> None:
        self.trainer = trainer
        # Events of epochs after the checkpoint, which are trained again, are hidden.
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=trainer.epoch)

    def __enter__(self) -> _TrainingMonitor:
        batches, epochs = len(self.trainer.train_loader), self.trainer.config.epochs
        self.bar = show_progress(
            title="training",
            total=epochs * batches,
            initial=self.trainer.epoch * batches,
            smoothing=0.05,
            unit="batch",
        )
        self.trainer.on_batch = self.bar.update
        return self

    def log_epoch(self, metrics: EpochMetrics) -> None:
        """Show the metrics of a finished epoch."""
        for name, value in metrics.items():
            if name not in ("epoch", "seconds"):
                tag = name.replace("_", "/", 1) if name.startswith(("train_", "test_")) else f"train/{name}"
                self.writer.add_scalar(tag, value, metrics["epoch"])
        epoch = f"epoch {metrics['epoch'] + 1}/{self.trainer.config.epochs}"
        text = f"{epoch}, loss {metrics['train_loss']:.3f}, test {metrics['test_accuracy']:.2f} %"
        self.bar.set_postfix_str(text, refresh=False)  # shown by the next update, at most as often as the others

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.writer.close()
