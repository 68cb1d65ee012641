"""Progress bar and TensorBoard of the training of a supernet."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import TracebackType

from train.metrics import EpochMetrics
from train.supernet.loop import SupernetTrainer
from zcpt.event_files import EventFiles
from zcpt.progress import show_progress

_GROUPS = ("share", "leads")
"""Metrics with a line for each candidate."""


class SupernetMonitor:
    """Progress bar and TensorBoard of the training of a supernet.

    The share of every candidate is a chart for each choice, with a line for each candidate. ``operations/share`` has
    the mean over all choices, and ``operations/leads`` the number of choices in which a candidate has the largest
    share: a supernet in which skip connections win out shows there.

    Args:
        run_dir: Run folder of the training.
        trainer: The training.
    """

    def __init__(self, run_dir: Path, trainer: SupernetTrainer) -> None:
        self.trainer = trainer
        remedy = "The training goes on without them; summary.csv and shares.csv have the numbers of every epoch."
        # Events of epochs after the checkpoint, which are trained again, are hidden.
        self.files = EventFiles(run_dir / "tensorboard", remedy, first_step=trainer.epoch)

    def __enter__(self) -> SupernetMonitor:
        trainer = self.trainer
        steps, epochs = trainer.num_steps, trainer.config.epochs
        self.bar = show_progress(
            title="training the supernet",
            total=epochs * steps,
            initial=trainer.epoch * steps,
            smoothing=0.05,
            unit="step",
        )
        trainer.on_step = self.bar.update
        return self

    def log_settings(self) -> None:
        """Write the settings, by which TensorBoard compares trainings."""
        trainer = self.trainer
        settings = {
            "space": trainer.space.name,
            "dataset": trainer.data.name,
            **dataclasses.asdict(trainer.config),
        }
        self.files.add_settings(settings, ["valid/accuracy", "train/accuracy", "alpha/entropy"])

    def log_epoch(self, metrics: EpochMetrics) -> None:
        """Show the metrics of a finished epoch, and the shares after it."""
        epoch = int(metrics["epoch"])
        for name, value in metrics.items():
            kind, _, rest = name.partition("_")
            if kind in _GROUPS:
                self.files.add_scalar(f"operations/{kind}", value, epoch, _name_run(rest))
            elif name not in ("epoch", "seconds"):
                tag = name.replace("_", "/", 1) if kind in ("train", "valid") else f"train/{name}"
                self.files.add_scalar("alpha/entropy" if name == "entropy" else tag, value, epoch)
        for choice, row in self.trainer.shares[-1].items():
            for candidate, share in zip(self.trainer.mixture.choices[choice].candidates, row, strict=True):
                self.files.add_scalar(f"alpha/{choice}", share, epoch, _name_run(candidate))
        text = (
            f"epoch {epoch + 1}/{self.trainer.config.epochs}, loss {metrics['train_loss']:.3f}, "
            f"validation half {metrics['valid_accuracy']:.2f} %"
        )
        self.bar.set_postfix_str(text, refresh=False)  # shown by the next update, at most as often as the others

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.files.close()


def _name_run(candidate: str) -> str:
    """Return the run of a candidate's lines: a folder name of plain letters."""
    return f"candidates/{re.sub(r'[^A-Za-z0-9_.+-]', '_', candidate).lstrip('.') or '_'}"
