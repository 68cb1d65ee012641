"""Commands that are killed with SIGKILL at a random moment, and resumed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import stress
from train.checkpoint import load_network

ROOT = Path(__file__).parents[1]
SEARCH = ["search", "--space", "nasbench201", "--proposals", "3", "--validation-batches", "12", "--channels", "8"]
SEARCH += ["--layers", "1", "--device", "cpu"]
TRIALS = ["trials", "--space", "nasbench201", "--algorithm", "hierarchy", "--initial", "4", "--promote", "2,1"]
TRIALS += ["--parents", "1,1,1", "--trials", "14", "--device", "cpu"]
TRAIN = ["train", "--epochs", "4", "--channels", "8", "--device", "cpu"]


def start(*words: Any) -> Any:
    command = [sys.executable, "-m", "zcpt", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(*words: Any) -> None:
    process = start(*words)
    _, err = process.communicate()
    assert process.returncode == 0, err


def kill_when(ready: Any, *words: Any) -> None:
    """Run a command and kill it as soon as ``ready()``; it may have finished by then."""
    process = start(*words)
    while process.poll() is None and not ready():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def journal(run: Any) -> Any:
    lines = {path.name: path.read_text().splitlines() for path in sorted((run / "journal").glob("*"))}
    return {name: [{**json.loads(line), "seconds": 0} for line in rows] for name, rows in lines.items()}


def summary(run: Any) -> Any:
    header, *rows = (line.split(",") for line in (run / "summary.csv").read_text().splitlines())
    measured = [i for i, name in enumerate(header) if "second" in name or name == "memory_mb"]
    return [[value for i, value in enumerate(row) if i not in measured] for row in rows]


def count_bytes(folder: Any) -> Any:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_search_ends_in_the_same_architecture(seed: int, tmp_path: Path) -> None:
    finish(*SEARCH, "--out", tmp_path / "whole")
    total = count_bytes(tmp_path / "whole" / "journal")
    moment = random.Random(seed).uniform(0, total)
    run = tmp_path / "run"
    kill_when(lambda: count_bytes(run / "journal") >= moment, *SEARCH, "--out", run)
    finish("search", "--resume", run)
    assert journal(run) == journal(tmp_path / "whole")
    for name in ("architecture.json", "genotype.txt", "proposals.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_training_ends_in_the_same_summary(seed: int, tmp_path: Path) -> None:
    finish(*SEARCH, "--out", tmp_path / "search")
    words = [*TRAIN, "--arch", tmp_path / "search" / "architecture.json"]
    finish(*words, "--out", tmp_path / "whole")
    run = tmp_path / "run"
    epochs, pause = divmod(random.Random(seed).uniform(0, 4), 1)

    def ready() -> Any:
        path = run / "summary.csv"
        if not run.exists() or (epochs and (not path.exists() or len(path.read_text().splitlines()) <= epochs)):
            return False
        time.sleep(pause / 2)
        return True

    kill_when(ready, *words, "--out", run)
    finish("train", "--resume", run)
    assert summary(run) == summary(tmp_path / "whole")
    one, other = (load_network(folder / "model.safetensors") for folder in (run, tmp_path / "whole"))
    # Not the files' bytes: safetensors writes the entries of its metadata in any order.
    assert replace(one, network=other.network) == other
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.mark.slow
def test_killed_trainings_in_stages_end_in_the_same_trials(tmp_path: Path) -> None:
    values = "{epochs: 3, samples: 0.2, batch_size: 32, holdout: 0.2, drop_path: 0, auxiliary_weight: 0, cutout: 0}"
    (tmp_path / "quick.yaml").write_text(f"size: usual\nwidth: 0.15\nvalues: {values}\n")
    words = [*TRIALS, "--value", f"train:{tmp_path / 'quick.yaml'}"]
    stress.finish([*words, "--out", tmp_path / "whole"], tmp_path / "log")
    run = tmp_path / "run"
    lines, checkpoints = run / "journal" / "trials.jsonl", run / "checkpoints"

    def count_trials() -> int:
        return lines.read_bytes().count(b"\n") if lines.exists() else 0

    moments: list[tuple[Callable[[], bool], float, bool]] = [  # when, how much later, and whether a checkpoint is lost
        (lambda: any(checkpoints.glob("*.pt")), 0.0, False),  # after a stage, whose line may not be written yet
        (lambda: count_trials() >= 3, 0.05, True),  # inside the last training of the first cycle
        (lambda: count_trials() >= 4, 0.0, False),  # between two cycles
        (lambda: count_trials() >= 5, 0.1, True),  # inside the second stage of a network
        (lambda: count_trials() >= 10, 0.0, True),
    ]
    for is_ready, pause, loses_checkpoint in moments:
        process = stress.fork(["trials", "--resume", run] if run.exists() else [*words, "--out", run], tmp_path / "log")
        while process.exitcode is None and not is_ready():
            time.sleep(0.002)
        time.sleep(pause)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
        if loses_checkpoint:
            next(checkpoints.glob("*.pt")).unlink()
    assert 10 <= count_trials() < 14
    stress.finish(["trials", "--resume", run], tmp_path / "log")
    assert journal(run) == journal(tmp_path / "whole")
    for name in ("architecture.json", "genotype.txt"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_kills_races_and_stops_lose_nothing(tmp_path: Path) -> None:
    words = ["--searches", "3", "--trainings", "2", "--races", "5", "--interrupts", "2"]
    results = stress.run_all(stress.parse_counts(words), tmp_path)
    assert stress.find_faults(results) == []
    assert len(results) == 6
