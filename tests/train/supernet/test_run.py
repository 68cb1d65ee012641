"""Training of supernets: the steps of DARTS, resumed runs, files, and the command."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

import zcpt
from tests.conftest import tiny_network_config
from tests.train.supernet.conftest import make_pictures
from train.data import ImageData
from train.supernet import (
    SUPERNET,
    SupernetConfig,
    SupernetTrainer,
    load_supernet,
    make_supernet_config,
    train_supernet,
)
from train.supernet import run as run_module
from train.supernet.loop import measure_shares
from zcpt import Choice, ConfigError, DataError, ZcptError
from zcpt.cli import main
from zcpt.space import SearchSpace

CPU = torch.device("cpu")
SPACE = zcpt.get_space("nasbench201")
QUICK = {"channels": 2, "layers": 1, "epochs": 3, "batch_size": 5}


def configure(data: ImageData, space: SearchSpace = SPACE, **options: Any) -> SupernetConfig:
    return make_supernet_config(space, data, **{**QUICK, **options})


@pytest.mark.few_spaces
@pytest.mark.parametrize("order", ["first", "second"])
def test_an_epoch_trains_weights_and_parameters_of_every_space(
    space: SearchSpace, order: str, random_pictures: ImageData
) -> None:
    size = tiny_network_config(space)
    config = configure(
        random_pictures, space, channels=size.channels, layers=size.layers, batch_size=10, alpha_order=order
    )
    trainer = SupernetTrainer(space, random_pictures, config, CPU)
    before = {name: weight.clone() for name, weight in trainer.net.named_parameters()}
    trainer.run_epoch()
    changed = [name for name, weight in trainer.net.named_parameters() if not torch.equal(weight, before[name])]
    assert len(changed) == len(before)
    assert set(trainer.alphas.alphas) == {c.name for c in space.choices if c.keep == 1 or c.start == "share"}
    first, last = trainer.shares
    assert all(first[name] != last[name] for name in first if len(first[name]) > 1)
    assert all(sum(row) == pytest.approx(1) for row in last.values())


def test_a_step_is_that_of_darts(random_pictures: ImageData) -> None:
    """The same with nothing but torch: Adam on one half, then SGD with clipping on the other one."""
    config = configure(random_pictures, epochs=1, batch_size=10, clip_grad=0.1)
    ours, plain = (SupernetTrainer(SPACE, random_pictures, config, CPU) for _ in range(2))
    ours.run_epoch()
    (train,), (valid,) = (list(loader.load_epoch(0)) for loader in (plain.train_loader, plain.valid_loader))
    alphas, net, mixture = plain.alphas.list_tensors(), plain.net.train(), plain.mixture
    adam = torch.optim.Adam(alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(net.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    statistics = {name: buffer.clone() for name, buffer in net.named_buffers()}
    F.cross_entropy(net(valid.images, plain.alphas.share(mixture)), valid.labels).backward()
    adam.step()
    sgd.zero_grad()
    net.load_state_dict({**net.state_dict(), **statistics})
    F.cross_entropy(net(train.images, plain.alphas.share(mixture)), train.labels).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    sgd.step()
    torch.testing.assert_close(ours.alphas.state_dict(), plain.alphas.state_dict())
    torch.testing.assert_close(ours.net.state_dict(), net.state_dict())


def test_the_halves_are_disjoint_and_together_all_images(random_pictures: ImageData) -> None:
    trainer = SupernetTrainer(SPACE, random_pictures, configure(random_pictures), CPU)
    halves = [
        {half[index][0].numpy().tobytes() for index in range(len(half))}
        for half in (trainer.train_images, trainer.valid_images)
    ]
    assert [len(half) for half in halves] == [10, 10]
    assert not halves[0] & halves[1]


def test_parameters_with_a_rate_of_zero_stay(random_pictures: ImageData) -> None:
    trainer = SupernetTrainer(SPACE, random_pictures, configure(random_pictures, alpha_lr=0.0), CPU)
    metrics = trainer.run_epoch()
    assert trainer.shares[0] == trainer.shares[1]
    assert 0 <= metrics["valid_accuracy"] <= 100


def test_decided_choices_are_trained_as_they_are_decided(random_pictures: ImageData) -> None:
    trainer = SupernetTrainer(SPACE, random_pictures, configure(random_pictures), CPU)
    trainer.mixture = trainer.mixture.select("node1/edge0", ("nor_conv_3x3",))
    before = {name: weight.clone() for name, weight in trainer.net.named_parameters()}
    alphas = trainer.alphas.state_dict()
    trainer.run_epoch()
    unused = [name for name in before if ".node1.edge0." in name and "3x3" not in name]
    assert unused
    now = dict(trainer.net.named_parameters())
    assert all(torch.equal(before[name], now[name]) for name in unused)
    after = trainer.alphas.state_dict()
    assert [name for name in after if torch.equal(after[name], alphas[name])] == ["node1/edge0"]


class Killed(BaseException):
    """Stands for the end of the process."""


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_a_resumed_training_gives_the_same_bits(
    tmp_path: Path, random_pictures: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(random_pictures, save_every=2)
    whole = tmp_path / "whole"
    train_supernet(SPACE, random_pictures, config, whole)
    run_epoch, write_tables = SupernetTrainer.run_epoch, run_module._write_tables

    def stop_in_epoch(number: int) -> None:
        def run(trainer: SupernetTrainer) -> Any:
            if trainer.epoch == number:
                raise Killed
            return run_epoch(trainer)

        monkeypatch.setattr(SupernetTrainer, "run_epoch", run)

    def stop_before_tables(number: int) -> None:
        def write(folder: Path, trainer: SupernetTrainer) -> None:
            if trainer.epoch == number:
                raise Killed
            write_tables(folder, trainer)

        monkeypatch.setattr(run_module, "_write_tables", write)

    folder = tmp_path / "killed"
    for number, stop in enumerate((stop_in_epoch, stop_in_epoch, stop_before_tables, stop_in_epoch)):
        stop(min(number, 2))
        with pytest.raises(Killed):
            train_supernet(SPACE, random_pictures, config, folder, resume=number > 0)
        monkeypatch.undo()
    train_supernet(SPACE, random_pictures, config, folder, resume=True)
    for name in (SUPERNET, "epoch_002.safetensors", "shares.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    rows = [list(csv.DictReader((path / "summary.csv").read_text().splitlines())) for path in (whole, folder)]
    assert [row["train_loss"] for row in rows[0]] == [row["train_loss"] for row in rows[1]]
    (folder / SUPERNET).unlink()
    train_supernet(SPACE, random_pictures, config, folder, resume=True)
    assert (folder / SUPERNET).read_bytes() == (whole / SUPERNET).read_bytes()
    events = read_events(whole / "tensorboard")
    assert {"valid/accuracy", "train/loss", "alpha/entropy"} <= set(events.Tags()["scalars"])
    lines = read_events(whole / "tensorboard" / "candidates" / "skip_connect")
    assert {"alpha/node3/edge2", "operations/share", "operations/leads"} <= set(lines.Tags()["scalars"])
    assert [event.step for event in lines.Scalars("alpha/node3/edge2")] == [0, 1, 2]


def test_a_supernet_is_read_back_bit_for_bit(tmp_path: Path, random_pictures: ImageData) -> None:
    trained = train_supernet(SPACE, random_pictures, configure(random_pictures, epochs=1), tmp_path / "a")
    read = load_supernet(tmp_path / "a")
    assert read.mixture == trained.mixture
    assert read.mixture.weights["node1/edge0"] != read.net.initial_mixture().weights["node1/edge0"]
    weights = trained.net.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.net.state_dict().items())
    assert (read.config, read.classes, read.about["epochs"]) == (trained.config, tuple("abcdefghij"), 1)
    path = tmp_path / "a" / SUPERNET
    tensors = load_file(path)
    save_file(tensors, path)
    with pytest.raises(ConfigError, match="no supernet of zcpt"):
        load_supernet(path)
    with pytest.raises(ConfigError, match="is missing"):
        load_supernet(tmp_path)


def test_another_training_or_other_images_cannot_be_resumed(tmp_path: Path, random_pictures: ImageData) -> None:
    config = configure(random_pictures, epochs=1)
    train_supernet(SPACE, random_pictures, config, tmp_path / "a")
    with pytest.raises(ConfigError, match="belongs to another training: its lr is"):
        train_supernet(
            SPACE, random_pictures, configure(random_pictures, epochs=1, lr=0.1), tmp_path / "a", resume=True
        )
    with pytest.raises(ConfigError, match="trained on other data: its train_images is 20"):
        train_supernet(SPACE, make_pictures(22), config, tmp_path / "a", resume=True)
    with pytest.raises(ConfigError, match="exists already"):
        train_supernet(SPACE, random_pictures, config, tmp_path / "a")
    (tmp_path / "a" / "last.pt").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is damaged"):
        train_supernet(SPACE, random_pictures, config, tmp_path / "a", resume=True)


def test_wrong_settings_are_named(random_pictures: ImageData) -> None:
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "epochs": ({"epochs": 0}, "--epochs 0 must be above 0"),
        "order": ({"alpha_order": "third"}, "--alpha-order"),
        "samples": ({"samples": 2.0}, "--samples 2.0 must be above 0 and at most 1"),
        "min_lr": ({"min_lr": 1.0}, "--min-lr 1.0 must not be above --lr 0.025"),
        "lr": ({"lr": -1.0}, "--lr -1.0 must not be negative"),
        "batch": ({"batch_size": 1}, "--batch-size 1 is too small"),
        "padding": ({"crop_padding": 8}, "--crop-padding 8 can leave nothing"),
        "name": ({"alpha_rate": 1.0}, "unknown option of train-supernet 'alpha_rate'"),
    }
    for options, message in wrong.values():
        with pytest.raises(ZcptError, match=message):
            SupernetTrainer(SPACE, random_pictures, configure(random_pictures, **options), CPU)
    with pytest.raises(DataError, match="each of the two halves needs at least 2"):
        SupernetTrainer(SPACE, random_pictures, configure(random_pictures, samples=0.1), CPU)


def test_the_metrics_say_how_decided_the_choices_are() -> None:
    names = ("skip", "conv")
    choices = {name: Choice(name, names, phase=int(name == "c")) for name in "abc"}
    metrics = measure_shares({"a": [0.5, 0.5], "b": [1.0, 0.0], "c": [0.0, 1.0]}, choices)
    assert metrics == {"entropy": 0.5, "share_skip": 0.75, "share_conv": 0.25, "leads_skip": 2, "leads_conv": 1}


def test_the_command_trains_resumes_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "train-supernet --space nasbench201 --channels 2 --layers 1 --samples 0.05 --batch-size 16 --out a"
    assert main([*words.split(), "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("supernet      of nasbench201 after 1 epoch, C=2, 1 cell in each of the three stages\n")
    assert "of 6 choices" in out
    (tmp_path / "a" / SUPERNET).unlink()
    assert main(["train-supernet", "--resume", "a"]) == 0
    assert capsys.readouterr().out == out
    assert main(["show", "a"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("supernet      of nasbench201 on digits, on cpu, by zcpt ")
    assert "1 epoch of 1" in shown
    assert load_supernet("a").config.flip is False
    for wrong, message in (
        ("train-supernet --resume a --lr 0.1", "leave out --lr"),
        ("train-supernet --space nasbench201 --resolution 0.5", "leaves images of 4x4 pixels"),
        ("train-supernet --space nasbench", "unknown space 'nasbench'"),
        ("train-supernet --out a", "exists already"),
        ("train-supernet --resume b", "is missing"),
        ("train-supernet --epochs 1.5", "no whole number"),
    ):
        assert main(wrong.split()) == 2
        assert message in capsys.readouterr().err
