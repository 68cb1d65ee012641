"""Training of a supernet in a run folder, with progress bar and TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.checkpoint import save_checkpoint
from train.data import ImageData
from train.loop import keep_random_state
from train.run import SUMMARY, write_summary
from train.supernet.checkpoint import (
    CHECKPOINT,
    SUPERNET,
    TrainedSupernet,
    read_supernet_config,
    save_supernet,
)
from train.supernet.config import SupernetConfig
from train.supernet.loop import SupernetTrainer
from train.supernet.monitor import SupernetMonitor
from zcpt.devices import resolve_device, use_standard_settings
from zcpt.errors import ConfigError
from zcpt.files import describe_difference, read_json, to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder
from zcpt.options import pluralize
from zcpt.space import SearchSpace
from zcpt.versions import get_versions

_log = logging.getLogger(__name__)
CONFIG = "config.json"
SHARES = "shares.csv"
"""Share of every candidate before the first epoch, and after each."""
_KEYS = ("supernet", "space", "data.name", "data.train_images", "data.statistics", "device")


@use_standard_settings()
def train_supernet(
    space: SearchSpace,
    data: ImageData,
    config: SupernetConfig,
    run_dir: str | Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
) -> TrainedSupernet:
    """Train a supernet, and write settings, checkpoints and curves to ``run_dir``.

    One half of the training images trains the weights by SGD, the other one the architecture parameters by Adam, in
    turn (DARTS). Test images are never read.

    Args:
        space: Search space.
        data: Images.
        config: Settings.
        run_dir: New folder, or with ``resume`` an existing one.
        device: Device to train on.
        resume: Continue the training in ``run_dir`` after its last finished epoch.

    Raises:
        ZcptError: The input is invalid, and nothing is written; or the training failed, and ``run_dir`` has the
            checkpoint of the last finished epoch.
    """
    run_dir = Path(run_dir)
    trainer = SupernetTrainer(space, data, config, resolve_device(device))
    _ = trainer.train_loader, trainer.valid_loader  # damaged pictures are found before there is a run folder
    document = {
        "space": space.name,
        "supernet": asdict(config),
        "device": str(trainer.device),
        "data": describe_images(data),
        "versions": get_versions(),
    }
    with _open_run_folder(run_dir, document, resume):
        if resume:
            _load_run_folder(run_dir, trainer, document)
        _log.info(
            f"training the supernet of {space.name} on {data.name}, on {trainer.device}: C={config.channels}, "
            f"{space.describe_layers(config.layers)}, {pluralize(config.epochs, 'epoch')} of "
            f"{pluralize(trainer.num_steps, 'step')}; run folder {run_dir}"
        )
        _train_epochs(run_dir, trainer)
        trained = describe_trained(trainer)
        if not (run_dir / SUPERNET).exists():
            save_supernet(run_dir / SUPERNET, trained)
        return trained


def read_supernet_run(folder: Path) -> dict[str, Any]:
    """Read the settings of the training of a supernet: ``config.json``.

    Raises:
        ConfigError: The folder is no run folder of one, or the file is damaged.
    """
    document = read_json(folder / CONFIG, _KEYS)
    read_supernet_config(document["supernet"], folder / CONFIG)
    return document


def is_supernet_run(folder: Path) -> bool:
    """Return whether a folder is the run folder of the training of a supernet."""
    path = folder / CONFIG
    return path.is_file() and "supernet" in read_json(path, ())


def describe_images(data: ImageData) -> dict[str, Any]:
    """Return the entry ``data`` of ``config.json``."""
    return {
        "name": data.name,
        "directory": str(data.directory.absolute()) if data.directory else None,
        "train_images": len(data.train),
        "statistics": [list(values) for values in data.statistics],
        **data.options.to_document(),
    }


def describe_trained(trainer: SupernetTrainer) -> TrainedSupernet:
    """Return the supernet of a training as it is now."""
    about = {"epochs": trainer.epoch, "dataset": trainer.data.name, "versions": get_versions()}
    return TrainedSupernet(
        trainer.net,
        trainer.space,
        trainer.network_config,
        trainer.alphas,
        trainer.data.statistics,
        trainer.data.classes,
        trainer.config,
        about,
    )


def _open_run_folder(run_dir: Path, document: Mapping[str, Any], resume: bool) -> AbstractContextManager[object]:
    return lock_folder(run_dir) if resume else create_folder(run_dir, {CONFIG: to_json_text(document)})


def _load_run_folder(run_dir: Path, trainer: SupernetTrainer, document: Mapping[str, Any]) -> None:
    """Load the checkpoint of a run folder, after a check that settings and images are the same."""
    before = read_supernet_run(run_dir)
    for key in ("space", "supernet"):
        if before[key] != document[key]:
            difference = describe_difference(key, before[key], document[key])
            raise ConfigError(
                f"{run_dir} belongs to another training: its {difference}. Train anew with another --out."
            )
    check_same_images(before["data"], document["data"], run_dir)
    path = run_dir / CHECKPOINT
    if not path.exists():
        if (run_dir / SUMMARY).exists():  # without either file the training was stopped in its first epoch
            raise ConfigError(f"{path} is missing, so the training cannot be resumed: train anew with another --out.")
        return
    if not path.is_file():  # reading a named pipe would wait for ever
        raise ConfigError(f"{path} cannot be read: it is no regular file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, depending on where the file is damaged
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}): the file is damaged.") from error
    trainer.load_state_dict(state, path)
    _write_tables(run_dir, trainer)  # a kill may have left them one epoch behind


def check_same_images(before: Mapping[str, Any], now: Mapping[str, Any], run_dir: Path) -> None:
    """Raise ConfigError unless images are those of a run folder; a folder of pictures may have been moved."""
    is_moved = all(str(data["name"]).startswith(("folder:", "tar:")) for data in (before, now))
    for key in ("train_images",) if is_moved else ("name", "train_images"):
        if before[key] != now[key]:
            raise ConfigError(
                f"{run_dir} was trained on other data: its {key} is {before[key]}, and the data now have {now[key]}."
            )
    if not np.allclose(np.ravel(before["statistics"]), np.ravel(now["statistics"]), rtol=1e-9, atol=0):
        raise ConfigError(f"{run_dir} was trained on other data: the statistics of its images differ.")


def _train_epochs(run_dir: Path, trainer: SupernetTrainer) -> None:
    """Train for the epochs that are left; a finished training has none."""
    config = trainer.config
    if trainer.epoch >= config.epochs:
        return
    with keep_random_state(trainer.device), SupernetMonitor(run_dir, trainer) as monitor:
        monitor.log_settings()
        while trainer.epoch < config.epochs:
            metrics = trainer.run_epoch()
            _save_epoch(run_dir, trainer)
            monitor.log_epoch(metrics)


def _save_epoch(run_dir: Path, trainer: SupernetTrainer) -> None:
    """Write the files of a finished epoch; the checkpoint before the tables, which are written again from it."""
    every = trainer.config.save_every
    if every and trainer.epoch % every == 0:
        save_supernet(run_dir / f"epoch_{trainer.epoch:03d}.safetensors", describe_trained(trainer))
    save_checkpoint(run_dir / CHECKPOINT, trainer.state_dict())
    _write_tables(run_dir, trainer)


def _write_tables(run_dir: Path, trainer: SupernetTrainer) -> None:
    write_summary(run_dir / SUMMARY, trainer.history)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epochs", "choice", "candidate", "share"])
    for epochs, shares in enumerate(trainer.shares):
        for choice, row in shares.items():
            for candidate, share in zip(trainer.mixture.choices[choice].candidates, row, strict=True):
                writer.writerow([epochs, choice, candidate, share])
    write_atomically(run_dir / SHARES, text.getvalue())
