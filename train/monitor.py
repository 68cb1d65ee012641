"""Progress bar and TensorBoard of a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import TracebackType

from train.loop import Trainer
from train.metrics import EpochMetrics
from train.mistakes import describe_confusions, draw_confusion, draw_mistakes
from zcpt.event_files import EventFiles
from zcpt.progress import show_progress


class TrainingMonitor:
    """Progress bar and TensorBoard of a training.

    Args:
        run_dir: Run folder of the training.
        trainer: The training.
    """

    def __init__(self, run_dir: Path, trainer: Trainer) -> None:
        self.trainer = trainer
        remedy = "The training goes on without them; summary.csv has the numbers of every epoch."
        # Events of epochs after the checkpoint, which are trained again, are hidden.
        self.files = EventFiles(run_dir / "tensorboard", remedy, first_step=trainer.epoch)

    def __enter__(self) -> TrainingMonitor:
        trainer = self.trainer
        batches, epochs = len(trainer.train_loader), trainer.config.epochs
        self.bar = show_progress(
            title="training",
            total=epochs * batches,
            initial=trainer.epoch * batches,
            smoothing=0.05,
            unit="batch",
        )
        trainer.on_batch = self.bar.update
        return self

    def log_settings(self) -> None:
        """Write the settings, by which TensorBoard compares trainings."""
        trainer = self.trainer
        settings = {
            "space": trainer.space.name,
            "architecture": trainer.space.format(trainer.architecture),
            "dataset": trainer.data.name,
            "train_images": len(trainer.data.train),
            **dataclasses.asdict(trainer.config),
        }
        self.files.add_settings(settings, ["test/accuracy", "test/loss", "train/loss"])

    def log_epoch(self, metrics: EpochMetrics) -> None:
        """Show the metrics of a finished epoch."""
        epoch = int(metrics["epoch"])
        for name, value in metrics.items():
            if name not in ("epoch", "seconds"):
                tag = name.replace("_", "/", 1) if name.startswith(("train_", "test_", "holdout_")) else f"train/{name}"
                self.files.add_scalar(tag, value, epoch)
        text = (
            f"epoch {epoch + 1}/{self.trainer.config.epochs}, loss {metrics['train_loss']:.3f}, "
            f"test {metrics['test_accuracy']:.2f} %"
        )
        self.bar.set_postfix_str(text, refresh=False)  # shown by the next update, at most as often as the others

    def log_mistakes(self) -> None:
        """Show which classes of the test images the network confuses, and its worst mistakes."""
        trainer, data, predictions = self.trainer, self.trainer.data, self.trainer.predictions
        assert predictions is not None
        counts = predictions.count_confusions(len(data.classes))
        step = trainer.epoch - 1
        confusion = draw_confusion(counts, data.classes, "test images: true and predicted classes")
        self.files.add_picture("test/confusion", confusion, step)
        worst = draw_mistakes(predictions, data.test, data.classes, title="mistakes with the highest loss")
        self.files.add_picture("test/worst_mistakes", worst, step)
        self.files.add_text("test/frequent_mistakes", describe_confusions(counts, data.classes), step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.files.close()
