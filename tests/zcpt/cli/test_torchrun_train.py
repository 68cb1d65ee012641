"""``zcpt train`` in several processes: one output, one folder, and a kill that loses at most an epoch."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import zcpt.cli.search
from tests.test_kill import summary
from tests.zcpt.cli.conftest import QUICK as SEARCH
from tests.zcpt.cli.test_torchrun import find_ranks, join_torchrun, torchrun
from train.checkpoint import load_network
from zcpt.cli import main

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
TRAIN = ["train", "--space", "nasbench201", "--arch", CELL, "--layers", "1", "--device", "cpu"]
QUICK = [*TRAIN, "--epochs", "1", "--channels", "2", "--batch-size", "480"]
LONG = [*TRAIN, "--epochs", "5", "--channels", "4", "--batch-size", "96", "--dropout", "0.1"]


def test_the_first_process_prints_the_result(cwd: Path) -> None:
    first, second = join_torchrun(2, cwd, *QUICK, "--out", "run")
    assert first[0] == 0, first[2]
    assert second == (0, "", "")
    assert [line.split()[0] for line in first[1].splitlines()] == ["test", "size", "run", "next"]
    names = {path.name for path in (cwd / "run").iterdir()} - {"tensorboard", ".lock"}
    assert {"args.yaml", "architecture.json", "classes.csv", "last.pt", "model.safetensors", "summary.csv"} <= names
    assert main(["evaluate", str(cwd / "run"), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batch-size", "3"], "zcpt: --batch-size 3 is too small: 4 are needed for 2 processes."),
        (["--optimizer", "adamv"], "zcpt: unknown optimiser 'adamv': did you mean"),
    ],
)
def test_a_mistake_is_reported_once(flags: list[str], sentence: str, cwd: Path) -> None:
    first, second = join_torchrun(2, cwd, *QUICK, *flags, "--out", "run")
    assert second == (2, "", "")
    assert first[0] == 2
    assert first[2].startswith(sentence)
    assert not (cwd / "run").exists()


@pytest.mark.slow
def test_a_search_and_its_training_share_their_processes(cwd: Path) -> None:
    search = ["search", "--space", "nasbench201", "--proxy", "hashed", *SEARCH, "--train-channels", "2", "--then-train"]
    make = zcpt.cli.search._make_training_command

    def before(rank: int) -> None:
        zcpt.cli.search._make_training_command = lambda *args: [*make(*args), "--epochs", "1"]

    first, second = join_torchrun(2, cwd, *search, "--out", "run", before=before)
    assert (first[0], second) == (0, (0, "", "")), first[2]
    assert "test accuracy" in first[1]
    assert (cwd / "run" / "train" / "digits" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return finished trainings by their number of processes."""
    folder = tmp_path_factory.mktemp("whole")
    for size in (1, 2, 3):
        process = torchrun(size, *LONG, "--out", folder / str(size))
        assert process.communicate()[1] is not None
        assert process.returncode == 0
    return {size: folder / str(size) for size in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("ZCPT_KILLS", "3"))))
def test_a_killed_rank_ends_all_and_the_training_is_resumed_exactly(
    seed: int, whole: dict[int, Path], tmp_path: Path
) -> None:
    numbers = random.Random(seed)
    size = 1 + seed % 3
    rank, epochs, pause = numbers.randrange(size), numbers.randrange(5), numbers.random()
    run = tmp_path / "run"
    process = torchrun(size, *LONG, "--out", run)
    path = run / "summary.csv"
    while process.poll() is None and not (
        (run / "args.yaml").exists() and (not epochs or (path.exists() and path.read_text().count("\n") > epochs))
    ):
        time.sleep(0.005)
    time.sleep(pause / 2)
    ranks = find_ranks(process) if process.poll() is None else {}
    if str(rank) in ranks:  # else it has finished already
        os.kill(ranks[str(rank)], signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate()
    assert time.monotonic() - began < 40
    if ranks:
        assert process.returncode == 1
        assert "Signal 9 (SIGKILL)" in err
        sentence = f"finished epochs are on disk, and --resume {run} continues"
        assert err.count(sentence) == (rank != 0), err
    again = torchrun(size, "train", "--resume", run)
    _, err = again.communicate()
    assert again.returncode == 0, err
    assert summary(run) == summary(whole[size])
    one, other = (load_network(folder / "model.safetensors") for folder in (run, whole[size]))
    for name, tensor in one.network.state_dict().items():
        assert tensor.equal(other.network.state_dict()[name]), name


@pytest.mark.slow
def test_another_number_of_processes_resumes_with_a_warning(whole: dict[int, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = torchrun(2, *LONG, "--epochs", "1", "--out", run)
    assert process.communicate() is not None
    again = torchrun(3, "train", "--resume", run, "--epochs", "2")
    _, err = again.communicate()
    assert again.returncode == 0, err
    assert "was trained in 2 processes, and goes on in 3" in err
