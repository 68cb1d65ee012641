"""One training in several processes: the losses of one process, and a group that ends together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import zcpt
from tests.conftest import LAYERS, random_architecture
from tests.processes import run_in_processes
from train.data import ImageData, load_data
from train.images import InMemoryImages
from train.loop import Trainer
from train.recipe import make_train_config
from train.run import train_architecture
from zcpt.errors import DataError, LostError
from zcpt.processes import ProcessGroup, join_default_group
from zcpt.space import SearchSpace

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "epochs": 2,
    "channels": 4,
    "lr": 0.01,
    "batch_size": 32,
    "sync_bn": True,
    "drop_path": 0.3,
    "dropout": 0.2,
}


def load_few() -> ImageData:
    """Return 102 and 41 digits: the last batch has 6 images, and the test images do not divide evenly."""
    data = load_data("digits")

    def load(train: bool) -> InMemoryImages:
        images, count = (data.train, 102) if train else (data.test, 41)
        assert isinstance(images, InMemoryImages)
        return InMemoryImages(images.images[:count], torch.tensor(images.labels[:count]))

    return ImageData(data.classes, load, "digits")


def build_trainer(processes: ProcessGroup, space: SearchSpace, **options: Any) -> Trainer:
    config = make_train_config(space, "digits", **{**SMALL, "layers": LAYERS[space.name], **options})
    return Trainer(space, random_architecture(space, 0), load_few(), config, CPU, processes)


def run_in_group(
    size: int, folder: Path, work: Callable[[ProcessGroup], Any], dtype: torch.dtype = torch.float64
) -> list[Any]:
    """Return what ``work`` returns in each of some processes, with weights and images of a type of numbers."""
    store = folder / f"store-{len(list(folder.iterdir()))}"

    def convert(images: torch.Tensor, *_: object) -> torch.Tensor:
        return images.to(dtype)

    def member(rank: int) -> Any:
        torch.set_num_threads(1)
        torch.set_default_dtype(dtype)
        Trainer._train_batch.__globals__["move_images"] = convert
        Trainer.evaluate.__globals__["evaluate_network"].__globals__["move_images"] = convert
        if size > 1:
            dist.init_process_group("gloo", f"file://{store}", timedelta(seconds=20), size, rank)
        with join_default_group() as processes:
            return work(processes)

    return run_in_processes(size, member)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float64),
        ({"ema": True, "holdout": 0.2}, torch.float32),
        pytest.param({}, torch.float32, marks=pytest.mark.slow),
        pytest.param({"ema": True, "holdout": 0.2, "auxiliary_weight": 0.0}, torch.float64, marks=pytest.mark.slow),
        pytest.param(
            {"optimizer": "adamw", "schedule_per": "batch", "warmup_epochs": 1}, torch.float64, marks=pytest.mark.slow
        ),
        pytest.param({"grad_checkpointing": True, "clip_grad": 0.1}, torch.float64, marks=pytest.mark.slow),
    ],
)
def test_losses_do_not_depend_on_the_number_of_processes(
    options: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    """In float32 too, at a learning rate at which rounding does not grow in the twelve updates of three epochs.

    There a wrong weight of the parts changes losses by 1e-3, and BatchNorm or drop path of each process by 1e-2.
    """
    space = zcpt.get_space("nasbench201")

    def work(processes: ProcessGroup) -> Any:
        trainer = build_trainer(processes, space, epochs=3, **options)
        return [trainer.run_epoch() for _ in range(3)]

    (alone,) = run_in_group(1, tmp_path, work, dtype)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-5
    for size in (2, 3):
        for found in run_in_group(size, tmp_path, work, dtype):
            assert len(found) == 3
            for row, expected in zip(found, alone, strict=True):
                for name, value in expected.items():
                    if "second" not in name and name != "memory_mb":
                        assert row[name] == pytest.approx(value, rel=tolerance), (size, name)


def test_gradients_flow_past_weights_that_are_not_used(tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    unused = space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|")

    def work(processes: ProcessGroup) -> Any:
        config = make_train_config(space, "digits", **{**SMALL, "layers": 1, "epochs": 1, "sync_bn": False})
        return Trainer(space, unused, load_few(), config, CPU, processes).run_epoch()["train_loss"]

    first, second = run_in_group(2, tmp_path, work)
    assert first == second
    assert isinstance(first, float)


@pytest.mark.slow
def test_a_training_writes_one_folder_that_any_number_of_processes_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = zcpt.get_space("nasbench201")
    config = make_train_config(space, "digits", **{**SMALL, "layers": 1})
    architecture = random_architecture(space, 0)

    def work(run: Path, resume: bool) -> Callable[[ProcessGroup], Any]:
        def train(processes: ProcessGroup) -> Any:
            options: dict[str, Any] = {"processes": processes, "resume": resume}
            trained = train_architecture(space, architecture, load_few(), config, run, **options)
            return trained.about["test_accuracy"]

        return train

    (tmp_path / "stores").mkdir()
    whole = run_in_group(2, tmp_path / "stores", work(tmp_path / "whole", False))
    assert whole[0] == whole[1]
    run_epoch = Trainer.run_epoch

    def stop(self: Trainer, measure: bool = True) -> Any:
        if self.epoch == 1:
            raise DataError("stopped")
        return run_epoch(self, measure)

    Trainer.run_epoch = stop  # type: ignore[method-assign]
    try:
        outcomes = run_in_group(2, tmp_path / "stores", work(tmp_path / "run", False))
    finally:
        Trainer.run_epoch = run_epoch  # type: ignore[method-assign]
    assert [outcome[1] for outcome in outcomes] == ["stopped", "stopped"]
    assert run_in_group(2, tmp_path / "stores", work(tmp_path / "run", True)) == whole
    summaries = [(tmp_path / name / "summary.csv").read_text().splitlines() for name in ("whole", "run")]
    assert [row.split(",")[:9] for row in summaries[0]] == [row.split(",")[:9] for row in summaries[1]]


def test_an_error_in_the_batches_of_one_process_ends_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = zcpt.get_space("nasbench201")

    def work(processes: ProcessGroup) -> Any:
        trainer = build_trainer(processes, space)
        if processes.rank == 1:

            def fail() -> None:
                raise DataError("x.png is broken.")

            trainer.on_batch = fail
        return trainer.run_epoch()

    first, second = run_in_group(2, tmp_path, work)
    assert first[0] is LostError
    assert first[1] == "another process was lost, or torchrun was stopped."
    assert second[:2] == (DataError, "x.png is broken.")
