"""``zcpt export``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.train.test_export import HAS_ONNX
from tests.zcpt.cli.conftest import run
from train.checkpoint import load_network
from zcpt import ConfigError
from zcpt.cost import Block
from zcpt.latency import LatencyTable


@pytest.fixture
def training(run_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder of a finished training on 8x8 digits."""
    return Path(shutil.copytree(run_folder / "train" / "digits", tmp_path / "digits"))


def test_a_run_is_exported_and_compared_on_its_test_images(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "export", training, "--format", "python")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.fullmatch(rf"file          {training}/exported\.py \(\d\.\d kB\)", lines[0])
    assert re.fullmatch(rf"file          {training}/exported\.pt \(\d+\.\d kB\)", lines[1])
    assert lines[2] == "input         images [batch, 1, 8, 8]: values from 0 to 1, minus mean, divided by std"
    assert re.fullmatch(r"difference    at most \S+ on 10 random and 64 test images, whose logits reach \S+", lines[3])
    code, _, err = run(capsys, "export", training, "--format", "python")
    assert code == 2
    assert "exported.py exists already: give another file with --out" in err


def test_a_file_of_weights_is_exported(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    weights = shutil.move(training / "model.safetensors", tmp_path / "model.safetensors")
    words = ["export", weights, "--format", "torchscript", "--normalize", "--export-size", "9x12"]
    code, out, _ = run(capsys, *words, "--out", tmp_path / "net.torchscript")
    assert code == 0
    assert "compared on random images alone" in caplog.text
    assert "input         images [batch, 1, 9, 12]: values from 0 to 1\n" in out
    assert "10 random and 0 test images" in out
    assert run(capsys, *words, "--out", tmp_path / "other.torchscript", "--dataset", "digits")[1].count("64 test") == 1


def test_weights_are_exported_as_they_are(training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    assert run(capsys, "export", training, "--format", "safetensors", "--out", path)[0] == 0
    assert load_network(path).about == load_network(training / "model.safetensors").about


@pytest.mark.skipif(not HAS_ONNX, reason="the packages of zcpt[export] are not installed")
def test_int8_gives_the_accuracy_before_and_after(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "export", training, "--int8", "--calibration-images", 100)
    assert code == 0
    assert f"int8          {training}/exported.int8.onnx (" in out
    assert "calibrated on 100 training images" in out
    accuracies = re.search(r"accuracy      (\S+) % before, (\S+) % as int8, on 360 test images of digits", out)
    assert accuracies is not None
    before, after = map(float, accuracies.groups())
    assert before == pytest.approx(load_network(training / "model.safetensors").about["test_accuracy"], abs=0.01)
    assert after == pytest.approx(before, abs=15)


def test_mistakes_are_named(training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, complaint in (
        (["--format", "python", "--int8"], "--int8 quantises ONNX files: give --format onnx, not python"),
        (["--calibration-images", "0"], "--calibration-images 0 is too small"),
        (["--format", "python", "--out", "net.pt"], "--out net.pt must end in .py"),
        (["--format", "python", "--out", "none/net.py"], "there is no folder none"),
        (["--format", "safetensors", "--normalize"], "leave out --normalize"),
        (["--format", "python", "--dataset", "folder:none"], "none"),
        (["--format", "tflite"], "invalid choice: 'tflite'"),
    ):
        code, out, err = run(capsys, "export", training, *words)
        assert (code, out) == (2, "")
        assert complaint in err
    assert not list(training.glob("exported*"))


def test_a_network_is_measured_beside_the_sum_over_its_operations(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half a millisecond for each operation, and 10 ms for the whole network.
    def measure(net: object, images: object, blocks: Sequence[Block], rounds: int) -> tuple[float, LatencyTable]:
        assert rounds == 5
        return 10.0, LatencyTable({}, {block.key: 0.5 for block in blocks})

    monkeypatch.setattr("zcpt.cli.latency.measure_beside_blocks", measure)
    monkeypatch.setattr("zcpt.cli.latency.check_packages", refuse_packages)
    words = ["latency", "--network", training, "--device", "cpu", "--repeats", "1"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    network = load_network(training / "model.safetensors")
    blocks = list(network.space.blocks(network.architecture, network.network_config))
    table, measured = out.splitlines()
    count, source = len(blocks), "each measured alone, in turn with the network"
    assert table == f"table         {count / 2:.3g} ms: the sum of {count} operations, {source}"
    assert measured.startswith("network       10 ms by torch on ")
    assert measured.endswith(f"1 image at a time: the table is {10 * (count / 2 - 10):.1f} % above it")

    # Version 0.1.0 measured no additions.
    every = network.space.all_blocks(network.network_config)
    old = {block.key: 0.25 for block in every if block.name != "add"}
    LatencyTable({"batch_size": 1, "name": "some CPU"}, old).write(tmp_path / "old.json")
    _, out, _ = run(capsys, *words, "--latency-table", tmp_path / "old.json")
    without = sum(block.name != "add" for block in blocks)
    assert out.startswith(f"table         {without / 4:.3g} ms: the sum of {count} operations, of {tmp_path}/old.json")
    assert "some CPU); version 0.1.0 made it, without additions and concatenations\n" in out
    for flag, complaint in (
        (["--channels", "4"], "--channels is for tables: leave it out with --network"),
        (["--latency-table", tmp_path / "none.json"], "none.json is missing"),
    ):
        assert complaint in run(capsys, *words, *flag)[2]
    assert "give --out FILE, the table to write, or --network RUN" in run(capsys, "latency")[2]
    assert "--latency-table goes with --network RUN" in run(capsys, "latency", "--latency-table", "a.json")[2]


def refuse_packages(packages: object, what: str) -> None:
    raise ConfigError(f"{what} needs a package")


@pytest.mark.skipif(not HAS_ONNX, reason="the packages of zcpt[export] are not installed")
@pytest.mark.slow
def test_the_exported_network_is_measured_too(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "latency", "--network", training, "--device", "cpu", "--repeats", "2")
    assert code == 0
    assert re.fullmatch(r"exported      \S+ ms by ONNX Runtime: the table is .* it", out.splitlines()[-1])
