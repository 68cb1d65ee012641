"""Training: what an epoch does, and that a resumed run is the uninterrupted one."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

import zcpt
from tests.conftest import LAYERS, MORE, random_architecture
from train.checkpoint import TrainedNetwork, load_network, save_checkpoint
from train.data import ImageData, load_data
from train.evaluation import evaluate_network
from train.images import InMemoryImages
from train.loaders import Batch, TestOptions, build_test_loader
from train.loop import Trainer
from train.metrics import EpochMetrics, EpochSums
from train.recipe import TrainConfig, make_train_config
from train.run import train_architecture
from zcpt import ConfigError
from zcpt.layers import DropPath
from zcpt.space import SearchSpace

pytestmark = pytest.mark.usefixtures("blank_pictures")

CPU = torch.device("cpu")
Finished = tuple[Path, TrainedNetwork]
QUICK = {"epochs": 3, "channels": 4, "batch_size": 32}


@pytest.fixture(scope="session")
def few() -> ImageData:
    """Return a data set of 97 and 40 digits: 97 leaves one image over at a batch size of 32."""
    data = load_data("digits")

    def load(train: bool) -> InMemoryImages:
        images, count = (data.train, 97) if train else (data.test, 40)
        assert isinstance(images, InMemoryImages)
        return InMemoryImages(images.images[:count], torch.tensor(images.labels[:count]))

    return ImageData(data.classes, load, "digits")


def settings(space: SearchSpace, **options: Any) -> TrainConfig:
    return make_train_config(space, "digits", **{**QUICK, "layers": LAYERS[space.name], **options})


def training(space: SearchSpace, few: ImageData, **options: Any) -> Trainer:
    return Trainer(space, random_architecture(space, 0), few, settings(space, **options), CPU)


def rows(run: Path) -> list[dict[str, str]]:
    """Read the lines of summary.csv without times and memory."""
    with open(run / "summary.csv", newline="") as file:
        table = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "second" not in k and k != "memory_mb"} for row in table]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few: ImageData) -> Finished:
    space = zcpt.get_space("nasbench201")
    run = tmp_path_factory.mktemp("train") / "run"
    return run, train_architecture(space, random_architecture(space, 0), few, settings(space), run)


def test_an_epoch_is_the_recipe_step_by_step(few: ImageData) -> None:
    """The same with nothing but torch: loss, auxiliary loss, clipping, SGD with momentum and decay on everything."""
    space = zcpt.get_space("darts")
    ours, plain = (training(space, few, epochs=4, drop_path=0.0) for _ in range(2))
    ours.run_epoch(), ours.run_epoch()
    network = plain.network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    for epoch in range(2):
        plain.history = [{}] * epoch
        for group in optimizer.param_groups:
            group["lr"] = 0.025 * (1 + math.cos(math.pi * epoch / 4)) / 2
        for batch in plain.load_train_batches():
            images, labels = batch.images, batch.labels
            logits, auxiliary = network(images)
            loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
    for (name, one), other in zip(ours.network.named_parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


def test_every_value_of_the_recipe_is_used(few: ImageData) -> None:
    """The first step of a training with unusual values, against torch alone."""
    space = zcpt.get_space("darts")
    values = {"lr": 0.1, "weight_decay": 0.01, "label_smoothing": 0.3, "auxiliary_weight": 0.7, "clip_grad": 0.5}
    values |= {"drop_path": 0.0, "epochs": 2, "momentum": 0.4, "min_lr": 0.02, "batch_size": 40}
    ours, plain = (training(space, few, **values) for _ in range(2))
    ours.run_epoch()
    network = plain.network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.4, weight_decay=0.01)
    for batch in plain.load_train_batches():
        images, labels = batch.images, batch.labels
        logits, auxiliary = network(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.3)
        loss = loss + 0.7 * F.cross_entropy(auxiliary, labels, label_smoothing=0.3)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    for one, other in zip(ours.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert ours.run_epoch()["lr"] == pytest.approx(0.02 + 0.08 / 2)


def test_the_auxiliary_head_has_a_last_norm_or_none(few: ImageData) -> None:
    space = zcpt.get_space("darts")
    names = [
        set(training(space, few, auxiliary_weight=0.4, auxiliary_norm=norm).network.state_dict())
        for norm in (True, False)
    ]
    removed = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert names[0] - names[1] == {f"auxiliary.features.1.{name}" for name in removed}
    assert names[1] < names[0]


def test_amp_computes_in_bfloat16(few: ImageData) -> None:
    for amp, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        run = training(zcpt.get_space("nasbench201"), few, epochs=1, amp=amp)
        seen: set[tuple[bool, torch.dtype]] = set()
        classifier = run.network.classifier
        assert isinstance(classifier, torch.nn.Module)
        classifier.register_forward_hook(lambda m, i, o, seen=seen: seen.add((m.training, o.dtype)))
        run.run_epoch()
        assert seen == {(True, dtype), (False, dtype)}


def test_drop_path_rises_linearly_and_the_learning_rate_falls_to_zero(few: ImageData) -> None:
    run = training(zcpt.get_space("nasbench201"), few, epochs=4, drop_path=0.2)
    done = [run.run_epoch() for _ in range(4)]
    assert [row["drop_path"] for row in done] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert [row["lr"] for row in done] == pytest.approx([0.025 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)])


def test_it_learns(few: ImageData) -> None:
    run = training(zcpt.get_space("nasbench201"), few, epochs=8, channels=8, cutout=0, crop_padding=0)
    done = [run.run_epoch() for _ in range(8)]
    assert done[-1]["train_loss"] < 0.6 * done[0]["train_loss"]


@pytest.mark.few_spaces(*MORE)
@pytest.mark.parametrize(
    "options",
    [
        {"workers": 2},
        {"channels_last": True},
        {"auxiliary_weight": 0.0},
        {"amp": True},
        {"optimizer": "adamw", "lr": 1e-3, "schedule": "none"},
    ],
)
def test_options_work(space: SearchSpace, options: dict[str, Any], few: ImageData) -> None:
    row = training(space, few, **options).run_epoch()
    assert math.isfinite(row["train_loss"])
    assert 0 <= row["test_accuracy"] <= 100


@pytest.mark.slow
def test_compiled_training_is_the_plain_one(few: ImageData) -> None:
    space = zcpt.get_space("nasbench201")
    plain, compiled = (training(space, few, compile=value, drop_path=0.0) for value in (False, True))
    for _ in range(2):
        one, other = plain.run_epoch(), compiled.run_epoch()
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_a_last_batch_of_one_image_is_left_out_and_no_other(few: ImageData) -> None:
    space = zcpt.get_space("nasbench201")
    assert [len(batch.labels) for batch in training(space, few).load_train_batches()] == [32, 32, 32]
    assert [len(batch.labels) for batch in training(space, few, batch_size=40).load_train_batches()] == [40, 40, 17]


def test_the_folder_holds_what_the_design_promises(finished: Finished) -> None:
    run, trained = finished
    arguments = yaml.safe_load((run / "args.yaml").read_text())
    assert arguments["epochs"] == 3
    assert arguments["data"]["train_images"] == 97
    assert [int(row["epoch"]) for row in rows(run)] == [0, 1, 2]
    assert float(rows(run)[-1]["test_accuracy"]) == trained.about["test_accuracy"]
    with safe_open(str(run / "model.safetensors"), framework="pt") as file:
        assert "nasbench201" in file.metadata()["zcpt"]
        assert not any(name.startswith("auxiliary") for name in file.keys())  # noqa: SIM118
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"train/loss", "train/accuracy", "test/loss", "test/accuracy", "train/lr", "train/images_per_second"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2]
    assert {tag: len(events.Images(tag)) for tag in events.Tags()["images"]} == {
        "test/confusion": 1, "test/worst_mistakes": 1
    }  # fmt: skip
    assert "test/frequent_mistakes/text_summary" in events.Tags()["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_the_saved_network_classifies_as_the_trained_one(finished: Finished, few: ImageData) -> None:
    run, trained = finished
    loaded = load_network(run / "model.safetensors")
    assert (loaded.architecture, loaded.network_config, loaded.classes) == (
        trained.architecture,
        trained.network_config,
        trained.classes,
    )
    images = torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(loaded.network(images), trained.network.eval()(images))
    loader = build_test_loader(few.test, loaded.statistics, TestOptions(7), (8, 8), CPU)
    found = evaluate_network(loaded.network, loader, CPU)
    assert found.accuracy == trained.about["test_accuracy"]
    assert found.loss == pytest.approx(float(rows(run)[-1]["test_loss"]), rel=1e-5)


@pytest.mark.parametrize("epochs_done", [0, 1, 2, 3])
def test_a_resumed_training_is_the_uninterrupted_one(
    epochs_done: int, finished: Finished, few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, trained = finished
    run = tmp_path / "run"
    stop_after(epochs_done, monkeypatch)
    with pytest.raises(Stopped):
        train_architecture(trained.space, trained.architecture, few, settings(zcpt.get_space("nasbench201")), run)
    monkeypatch.undo()
    torch.rand(17)  # other random numbers than before must not matter
    resumed = train_architecture(
        trained.space, trained.architecture, few, settings(zcpt.get_space("nasbench201")), run, resume=True
    )
    assert rows(run) == rows(whole)
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2]


class Stopped(BaseException):
    pass


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop in the middle of the epoch that follows, or at the very end after writing the last checkpoint."""
    run_epoch = Trainer.run_epoch

    def stopping(self: Trainer) -> EpochMetrics:
        if self.epoch == epochs:
            self.on_batch = killed
        return run_epoch(self)

    def killed(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr(Trainer, "run_epoch", stopping)
    if epochs == 3:
        monkeypatch.setattr("train.run.save_network", killed)


def test_a_checkpoint_of_another_architecture_is_refused(finished: Finished, few: ImageData, tmp_path: Path) -> None:
    run = shutil.copytree(finished[0], tmp_path / "run")
    space = zcpt.get_space("nasbench201")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="checkpoint of another architecture"):
        train_architecture(space, random_architecture(space, 5), few, settings(space), run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_refused(finished: Finished, few: ImageData, tmp_path: Path) -> None:
    run = shutil.copytree(finished[0], tmp_path / "run")
    (run / "last.pt").write_bytes((run / "last.pt").read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"last.pt cannot be read .* damaged"):
        train_architecture(
            finished[1].space, finished[1].architecture, few, settings(zcpt.get_space("nasbench201")), run, resume=True
        )


def test_resuming_on_other_data_is_refused(finished: Finished, few: ImageData, tmp_path: Path) -> None:
    run = shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(ConfigError, match="trained on other data: its train_images is 97"):
        train_architecture(
            finished[1].space,
            finished[1].architecture,
            load_data("digits"),
            settings(zcpt.get_space("nasbench201")),
            run,
            resume=True,
        )


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}" + data])
def test_a_damaged_network_file_is_refused(
    damage: Callable[[bytes], bytes], finished: Finished, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage((finished[0] / "model.safetensors").read_bytes()))
    with pytest.raises(ConfigError, match="is damaged or was not written by zcpt"):
        load_network(path)


def test_a_loss_that_is_not_finite_stops_the_training(few: ImageData) -> None:
    with pytest.raises(ConfigError, match=r"the loss is (nan|inf) in epoch 0: try a lower --lr"):
        training(zcpt.get_space("nasbench201"), few, lr=1e30).run_epoch()


def test_an_unknown_optimiser_is_refused(few: ImageData) -> None:
    with pytest.raises(ConfigError, match="unknown optimiser 'adamv': did you mean 'adam"):
        training(zcpt.get_space("nasbench201"), few, optimizer="adamv")


def test_a_network_that_does_not_fit_into_memory_is_refused_before_it_is_built(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("nasbench201")
    monkeypatch.setattr(space, "build_network", None)
    config = settings(space, channels=100_000, layers=1_000)
    with pytest.raises(MemoryError):
        Trainer(space, random_architecture(space, 0), few, config, CPU)


def train_plainly(trainer: Trainer, batch: Batch, parts: int = 1) -> torch.optim.Optimizer:
    """Take the first step of a training with nothing but torch; the gradients stay."""
    network = trainer.network.train()
    network.set_drop_path(0.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    for images, labels in zip(batch.images.tensor_split(parts), batch.labels.tensor_split(parts), strict=True):
        logits, auxiliary = network(images)
        loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
        (loss * len(labels) / len(batch.labels)).backward()
    return optimizer


def take_step(trainer: Trainer) -> Batch:
    """Train on the first batch of an epoch."""
    batch = next(trainer.load_train_batches())
    torch.manual_seed(0)
    trainer.task.train()
    trainer._train_batch(batch, EpochSums())
    return batch


def test_a_batch_in_parts_gives_the_mean_gradient(few: ImageData) -> None:
    options = {"accumulate": 3, "clip_grad": 0.0, "drop_path": 0.0}
    ours, plain = (training(zcpt.get_space("darts"), few, **options) for _ in range(2))
    batch = take_step(ours)
    train_plainly(plain, batch, parts=3).step()
    for one, other in zip(ours.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_of_weights_is_measured_kept_and_resumed(few: ImageData, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    run = training(space, few, ema=True, ema_decay=0.5)
    weight = next(run.network.parameters()).detach().clone()
    for step in (1, 2, 3):
        take_step(run)
        run.task.update_ema(step=step)
        decay = min(0.5, 1 - step ** (-2 / 3))  # the average rises to its decay; timm counts from the first update
        weight = decay * weight + (1 - decay) * next(run.network.parameters()).detach()
    average = next(run.measured_network.parameters())
    torch.testing.assert_close(average, weight)
    assert not torch.equal(average, next(run.network.parameters()))
    trained = train_architecture(
        space, random_architecture(space, 0), few, settings(space, ema=True, epochs=1), tmp_path / "run"
    )
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    kept = load_network(tmp_path / "run" / "model.safetensors").network.state_dict()
    for name, tensor in kept.items():
        assert torch.equal(tensor, state["ema"][name]), name
        assert torch.equal(tensor, trained.network.state_dict()[name]), name
    resumed = training(space, few, ema=True, epochs=2)
    resumed.load_checkpoint(tmp_path / "run" / "last.pt")
    for name, tensor in resumed.measured_network.state_dict().items():
        assert torch.equal(tensor, state["ema"][name]), name


def test_the_best_epoch_is_chosen_by_images_that_are_kept_back(few: ImageData, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    config = settings(space, holdout=0.25, epochs=3)
    trainer = Trainer(space, random_architecture(space, 0), few, config, CPU)
    assert trainer.holdout_images is not None
    assert (len(trainer.train_images), len(trainer.holdout_images)) == (73, 24)
    train_architecture(space, random_architecture(space, 0), few, config, tmp_path / "run")
    accuracies = [float(row["holdout_accuracy"]) for row in rows(tmp_path / "run")]
    best = load_network(tmp_path / "run" / "best.safetensors")
    assert best.about["holdout_accuracy"] == max(accuracies)
    assert best.about["epochs"] == accuracies.index(max(accuracies)) + 1
    last = load_network(tmp_path / "run" / "model.safetensors")
    assert last.about["test_accuracy"] == float(rows(tmp_path / "run")[-1]["test_accuracy"])


def test_float16_scales_the_loss_and_is_resumed(few: ImageData, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    run = training(space, few, amp=True, amp_dtype="float16", epochs=2)
    run.run_epoch()
    scale = run.stepper.scaler.get_scale()
    assert scale > 1
    save_checkpoint(tmp_path / "last.pt", run.state_dict())
    resumed = training(space, few, amp=True, amp_dtype="float16", epochs=2)
    resumed.load_checkpoint(tmp_path / "last.pt")
    assert resumed.run_epoch()["train_loss"] == run.run_epoch()["train_loss"]


def test_checkpointing_gives_the_same_gradients_and_is_used(few: ImageData) -> None:
    space = zcpt.get_space("nasbench201")
    plain, checkpointed = (training(space, few, grad_checkpointing=value) for value in (False, True))
    counts = []
    for run in (plain, checkpointed):
        calls: list[int] = []
        blocks = [m for name, m in run.network.named_modules() if name.startswith("blocks.") and name.count(".") == 1]
        for block in blocks:
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        take_step(run)
        counts.append(len(calls))
    assert counts[1] > counts[0] > 0
    for one, other in zip(plain.network.parameters(), checkpointed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_drop_path_may_be_constant(few: ImageData) -> None:
    run = training(zcpt.get_space("nasbench201"), few, drop_path=0.2, drop_path_schedule="constant")
    assert [run.run_epoch()["drop_path"] for _ in range(2)] == [0.2, 0.2]


def test_drop_path_may_rise_with_the_depth(few: ImageData) -> None:
    run = training(zcpt.get_space("nasbench-macro"), few, drop_path=0.2, drop_path_schedule="depth")
    assert run.run_epoch()["drop_path"] == 0.2
    probabilities = [m.probability.item() for m in run.network.modules() if isinstance(m, DropPath)]
    assert len(set(probabilities)) > 1
    assert probabilities == sorted(probabilities)
    assert 0 < probabilities[-1] < 0.2


def test_dropout_is_that_of_the_settings(few: ImageData) -> None:
    for name, options, expected in (("darts", {"dropout": 0.4}, 0.4), ("proxyless", {}, 0.2)):
        dropout = training(zcpt.get_space(name), few, **options).network.get_submodule("dropout")
        assert isinstance(dropout, torch.nn.Dropout)
        assert dropout.p == expected


def test_the_accuracy_of_each_class_is_written(finished: Finished, few: ImageData) -> None:
    with open(finished[0] / "classes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == list("0123456789")
    assert sum(int(row["images"]) for row in table) == 40
    accuracy = 100 * sum(int(row["correct"]) for row in table) / 40
    assert accuracy == pytest.approx(finished[1].about["test_accuracy"])


def test_channels_last_is_the_layout_of_images_and_weights(few: ImageData) -> None:
    for value in (False, True):
        run = training(zcpt.get_space("nasbench201"), few, channels_last=value)
        seen: list[bool] = []
        weight = next(w for w in run.network.parameters() if w.ndim == 4 and min(w.shape) > 1)

        def check(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], seen: list[bool] = seen) -> None:
            seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

        run.network.get_submodule("blocks.0").register_forward_pre_hook(check)
        take_step(run)
        assert weight.is_contiguous(memory_format=torch.channels_last) == value
        assert seen == [value]
