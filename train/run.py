"""Training of an architecture in a run folder, with progress bar and TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch

from train.arguments import ARGUMENTS, describe_data, format_arguments, read_arguments, update_arguments
from train.checkpoint import (
    BEST,
    CHECKPOINT,
    INITIAL,
    WEIGHTS,
    TrainedNetwork,
    has_network_of,
    load_network,
    save_checkpoint,
    save_network,
)
from train.data import ImageData
from train.loop import Trainer, keep_random_state
from train.metrics import EpochMetrics
from train.monitor import TrainingMonitor
from train.preprocessing import Preprocessing
from train.recipe import TrainConfig, check_augmentation
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError, DataError, LostError
from zcpt.files import to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder
from zcpt.options import pluralize
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.space import SearchSpace
from zcpt.versions import get_versions

_log = logging.getLogger(__name__)
SUMMARY = "summary.csv"
CLASSES = "classes.csv"
"""Accuracy by class for the test images in the last epoch."""


def train_architecture(
    space: SearchSpace,
    architecture: Architecture,
    data: ImageData,
    config: TrainConfig,
    run_dir: Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
    processes: ProcessGroup = SINGLE_PROCESS,
    initial: Path | None = None,
) -> TrainedNetwork:
    """Train the network of an architecture, and write settings, checkpoints and results to ``run_dir``.

    The reported accuracy is that of the last epoch; test results influence nothing. With ``config.holdout`` there is
    also a file with the network of the epoch that was best on the training images kept back.

    Args:
        space: Space of the architecture.
        architecture: Architecture to train.
        data: Images to train on and to measure.
        config: Settings.
        run_dir: New folder, or with ``resume`` an existing one.
        device: Device to train on; with several processes, that of this one.
        resume: Continue the training in ``run_dir``. ``config`` is that of the training, perhaps with more epochs: the
            learning rate then follows the schedule of the new length from the next epoch on.
        processes: Processes that share the training (``zcpt.processes``); all of them call this function.
        initial: File of a trained network of the same architecture, width and depth, to start from with its weights
            and its normalisation of images. The run folder gets a copy, which ``resume`` uses.

    Raises:
        ZcptError: The input is invalid, and nothing is written; or the training failed, and ``run_dir`` has the
            checkpoint of the last finished epoch.
        LostError: Another process has died.
    """
    copy = run_dir / INITIAL
    initial = copy if resume and copy.exists() else initial
    start = load_network(initial) if initial else None
    trainer = Trainer(space, architecture, data, config, resolve_device(device), processes, start)
    if not len(trainer.data.test):
        raise DataError(f"{data.name} has no test images: at least 1 is needed.")
    if not resume:
        check_augmentation(config, trainer.network_config.image_size)
        _ = trainer.train_loader, trainer.test_loader  # damaged pictures are found before there is a run folder
    first_files = None if resume else _make_first_files(trainer, initial)
    # In this order: `propagate_errors` ends with an exchange, so rank 0 holds the lock until all have finished.
    with _open_run_folder(run_dir, trainer, first_files), processes.propagate_errors():
        try:
            processes.gather(None)  # after this exchange the run folder exists for all
            if resume:
                _load_run_folder(run_dir, trainer)
            _log_start(run_dir, trainer)
            _train_epochs(run_dir, trainer)
        except LostError as error:
            raise _add_remedy(error, run_dir) from error
        trained = _describe_trained(trainer)
        # A finished training is left as it is.
        if processes.is_main and not has_network_of(run_dir / WEIGHTS, config.epochs):
            save_network(run_dir / WEIGHTS, trained)
        return trained


def _open_run_folder(
    run_dir: Path, trainer: Trainer, files: Mapping[str, str | bytes] | None
) -> AbstractContextManager[object]:
    """Create the run folder with its first files, or without files lock the one that is there, on rank 0."""
    if not trainer.processes.is_main:
        return nullcontext()
    return lock_folder(run_dir) if files is None else create_folder(run_dir, files)


def _add_remedy(error: LostError, run_dir: Path) -> LostError:
    text = str(error).rstrip(".")
    if "finished epochs are on disk" in text:
        return error
    return LostError(f"{text}; finished epochs are on disk, and --resume {run_dir} continues.")


def _train_epochs(run_dir: Path, trainer: Trainer) -> None:
    """Train for the epochs that are left; a finished training has none."""
    processes = trainer.processes
    if trainer.epoch >= trainer.config.epochs:
        return
    with ExitStack() as stack:
        stack.enter_context(keep_random_state(trainer.device))
        monitor = stack.enter_context(TrainingMonitor(run_dir, trainer)) if processes.is_main else None
        if monitor:
            monitor.log_settings()
        while trainer.epoch < trainer.config.epochs:
            metrics = trainer.run_epoch()
            # The others wait: a full disk of rank 0 would else leave them in the next epoch.
            with processes.main_first():
                if monitor:
                    _save_epoch(run_dir, trainer)
                    monitor.log_epoch(metrics)
        if monitor:
            monitor.log_mistakes()


def _save_epoch(run_dir: Path, trainer: Trainer) -> None:
    """Write the files of a finished epoch; the checkpoint last, so that a kill repeats the epoch and its files."""
    assert trainer.predictions is not None
    if trainer.is_best:
        save_network(run_dir / BEST, _describe_trained(trainer))
    write_atomically(run_dir / CLASSES, _format_csv(trainer.predictions.measure_classes(trainer.data.classes)))
    save_checkpoint(run_dir / CHECKPOINT, trainer.state_dict())
    write_summary(run_dir / SUMMARY, trainer.history)


def _log_start(run_dir: Path, trainer: Trainer) -> None:
    """Say on rank 0 what is trained, and where."""
    if not trainer.processes.is_main:
        return
    config, number = trainer.config, trainer.processes.size
    processes = f" in {number} processes" if number > 1 else ""
    _log.info(
        f"training {trainer.space.format(trainer.architecture)} on {trainer.data.name} by recipe {config.recipe}, "
        f"on {trainer.device}{processes}: C={config.channels}, {trainer.space.describe_layers(config.layers)}, "
        f"{pluralize(config.epochs, 'epoch')}; run folder {run_dir}"
    )


def _describe_trained(trainer: Trainer) -> TrainedNetwork:
    last = trainer.history[-1]
    names = ("test_accuracy", "test_top5", "holdout_accuracy")
    about = {
        **{name: last[name] for name in names if name in last},
        "epochs": trainer.epoch,
        "dataset": trainer.data.name,
        "versions": get_versions(),
    }
    return TrainedNetwork(
        trainer.measured_network,
        trainer.space,
        trainer.architecture,
        trainer.network_config,
        trainer.data.statistics,
        trainer.data.classes,
        about,
        Preprocessing(trainer.config.test_crop, trainer.config.interpolation, trainer.data.scale),
    )


def _make_first_files(trainer: Trainer, initial: Path | None) -> dict[str, str | bytes]:
    """Return the files of a new run folder by name; the last one marks a complete folder."""
    return {
        # A copy, because a training that is killed in its first epoch starts from it again.
        **({INITIAL: initial.read_bytes()} if initial else {}),
        "architecture.json": to_json_text(trainer.architecture.to_json()),
        ARGUMENTS: format_arguments(trainer.config, str(trainer.device), describe_data(trainer.data)),
    }


def _load_run_folder(run_dir: Path, trainer: Trainer) -> None:
    """Load the checkpoint of a run folder, after a check that the data are the same."""
    before, now = read_arguments(run_dir)["data"], describe_data(trainer.data)
    for key in ("name", "train_images", "test_images", "statistics"):  # the directory may have been moved
        is_moved = key == "name" and all(str(data[key]).startswith(("folder:", "tar:")) for data in (before, now))
        is_rounded = key == "statistics" and _is_rounded_alike(before[key], now[key])
        if before[key] != now[key] and not is_moved and not is_rounded:
            raise ConfigError(
                f"{run_dir} was trained on other data: its {key} is {before[key]}, and the data now have {now[key]}."
            )
    is_main = trainer.processes.is_main
    if (run_dir / CHECKPOINT).exists():
        before_processes = trainer.load_checkpoint(run_dir / CHECKPOINT)
        if is_main and before_processes != trainer.processes.size:
            _log.warning(
                f"{run_dir} was trained in {pluralize(before_processes, 'process', 'processes')}, and goes on in "
                f"{trainer.processes.size}: without --sync-bn the losses will be others than without the change."
            )
        if is_main:
            write_summary(run_dir / SUMMARY, trainer.history)  # a kill may have left it one epoch behind
    elif (run_dir / SUMMARY).exists():  # without either file the training was stopped in its first epoch
        raise ConfigError(
            f"{run_dir / CHECKPOINT} is missing, so the training cannot be resumed: train anew with another --out."
        )
    if is_main:
        update_arguments(run_dir, trainer.config, now)


def _is_rounded_alike(before: object, now: list[list[float]]) -> bool:
    """Return whether statistics differ by rounding alone, which was another one in earlier versions."""
    values = [list(map(float, numbers)) for numbers in before] if isinstance(before, list | tuple) else []
    return np.shape(values) == np.shape(now) and np.allclose(values, now, rtol=1e-9, atol=0)


def write_summary(path: Path, history: list[EpochMetrics]) -> None:
    """Write ``summary.csv``, a row for each epoch, unless it is there already."""
    text = _format_csv(history)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)


def _format_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows, of which the first ones may lack columns: earlier versions measured less."""
    text = io.StringIO()
    names = {name: None for row in reversed(rows) for name in row}
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
