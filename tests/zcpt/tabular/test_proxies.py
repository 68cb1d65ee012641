"""Measurements of proxies: results with one process, with two, and after a kill."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import zcpt
from tests.conftest import Hashed
from zcpt import Proxy
from zcpt._startup import raise_stopped
from zcpt.batches import Batches, DatasetBatches
from zcpt.processes import make_portable
from zcpt.proxies import get_aggregate
from zcpt.tabular import read_table
from zcpt.tabular.proxies import ProxyOptions, measure_proxies

ROOT = Path(__file__).parents[3]
HASHED = Hashed()
SMALL: dict[str, Any] = {"samples": 0, "batch_size": 8, "channels": 2, "layers": 1, "resamples": 20}


class Errors(Proxy):
    """Minus the number of 3x3 convolutions; fails where there is none, and has no value where there are three."""

    name, summary, higher_is_better = "errors", "", False

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
        count = sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in net.modules())
        if count == 5:  # those of the skeleton
            raise zcpt.ProxyError("there is no 3x3 convolution.")
        return float("nan") if count == 5 + 9 else -float(count)


class Killed(Hashed):
    """Kills its process."""

    name = "killed"

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("this process was killed")


class NoMemory(Hashed):
    """Asks for more memory than there is."""

    name = "no_memory"

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")


class Slow(Hashed):
    """Writes a file when it begins the third network of this process, and then takes a minute."""

    name = "slow"
    _count = 0

    def __init__(self, file: Path) -> None:
        self.file = file

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        Slow._count += 1
        if Slow._count == 3:
            self.file.touch()
            time.sleep(60)
        return super().score(net, batch, mixture)


@pytest.fixture
def batches(pictures: Any) -> Batches:
    return DatasetBatches(pictures, num_classes=10, about={"dataset": "noise"})


def run_measurement(
    nb201: Path, batches: Batches, folder: Path, proxies: Any = (HASHED,), workers: int = 1, **options: Any
) -> Any:
    table = read_table(nb201, "nasbench201")
    return measure_proxies(table, batches, proxies, folder, ProxyOptions(**{**SMALL, **options}), workers=workers)


def without_seconds(folder: Path) -> Any:
    """Return the result without seconds and environment."""
    result = json.loads((folder / "result.json").read_text())
    for measures in result["results"].values():
        measures.pop("seconds")
    result["protocol"].pop("hardware")
    return result, (folder / "scores.csv").read_text()


def test_scores_and_measures_are_those_of_scoring_each_network_alone(
    nb201: Path, batches: Batches, tmp_path: Path
) -> None:
    result = run_measurement(nb201, batches, tmp_path / "a", ["naswot"])
    with open(tmp_path / "a" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    table, space = read_table(nb201, "nasbench201"), zcpt.get_space("nasbench201")
    assert [row["architecture"] for row in rows] == [space.format(a) for a in table.architectures]
    assert [float(row["accuracy"]) for row in rows] == table.get_accuracies("cifar10").tolist()
    batch = batches.draw(8, zcpt.seeding.derive_seed(0, "batch"))
    for row in rows[::7]:
        with zcpt.seeding.use_seed(zcpt.seeding.derive_seed(0, "weights")):
            network = space.network(space.parse(row["architecture"]), channels=2, layers=1, image_size=(8, 8))
        alone = zcpt.score(network, batch, "naswot")["naswot"]
        assert float(row["naswot"]) == pytest.approx(alone, abs=1e-6)
    scores = np.array([float(row["naswot"]) for row in rows])
    finite, accuracies = np.isfinite(scores), table.get_accuracies("cifar10")
    measures = result["results"]["naswot"]
    assert (measures["networks"], measures["failures"]) == (finite.sum(), (~finite).sum())
    expected = stats.spearmanr(scores[finite], accuracies[finite]).statistic
    assert measures["spearman"]["value"] == pytest.approx(expected)
    assert measures["spearman"]["low"] < expected < measures["spearman"]["high"]
    assert measures["argmax_accuracy"] == accuracies[finite][scores[finite].argmax()]
    assert measures["seconds"] > 0


def test_the_sign_follows_the_declared_direction_and_failures_are_listed(
    nb201: Path, batches: Batches, tmp_path: Path
) -> None:
    result = run_measurement(nb201, batches, tmp_path / "a", [Errors()])
    with open(tmp_path / "a" / "scores.csv") as file:
        known = [(float(row["errors"]), float(row["accuracy"])) for row in csv.DictReader(file) if row["errors"]]
    known = [pair for pair in known if pair[0] == pair[0]]
    measures = result["results"]["errors"]
    assert measures["networks"] == len(known)
    assert measures["networks"] + measures["failures"] == 30
    assert measures["kendall"]["value"] == pytest.approx(-stats.kendalltau(*zip(*known, strict=True)).statistic)
    reasons = {failure["reason"]: failure["count"] for failure in result["failures"]}
    assert set(reasons) == {"there is no 3x3 convolution.", "the score is nan"}
    assert sum(reasons.values()) == measures["failures"]


def test_an_aggregate_ranks_the_networks_of_the_sample(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    ours = [Errors(), get_aggregate("log_rank:params+l2_norm")]
    result = run_measurement(nb201, batches, tmp_path / "a", ours)
    with open(tmp_path / "a" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "architecture", "accuracy", "errors", "log_rank:params+l2_norm"]
    alone = run_measurement(nb201, batches, tmp_path / "b", ["params", "l2_norm"])
    with open(tmp_path / "b" / "scores.csv") as file:
        parts = np.array([[float(row["params"]), float(row["l2_norm"])] for row in csv.DictReader(file)])
    expected = np.log(stats.rankdata(parts, axis=0) / len(parts)).sum(1)
    assert [float(row["log_rank:params+l2_norm"]) for row in rows] == pytest.approx(expected)
    measures = result["results"]["log_rank:params+l2_norm"]
    accuracies = [float(row["accuracy"]) for row in rows]
    assert measures["spearman"]["value"] == pytest.approx(stats.spearmanr(expected, accuracies).statistic)
    assert measures["seconds"] > 0
    assert measures["failures"] == 0
    assert set(alone["results"]) == {"params", "l2_norm"}


def test_a_stopped_measurement_is_resumed_with_the_same_result(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    run_measurement(nb201, batches, tmp_path / "whole")
    run_measurement(nb201, batches, tmp_path / "run")
    journal = tmp_path / "run" / "journal" / "scores.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # Workers end in any order, and a kill may cut the last line short.
    journal.write_bytes(b"".join(lines[17:3:-1]) + lines[20][:30])
    for name in ("result.json", "scores.csv"):
        (tmp_path / "run" / name).unlink()
    run_measurement(nb201, batches, tmp_path / "run")
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "whole")
    assert len(journal.read_bytes().splitlines()) == 30
    before = (tmp_path / "run" / "result.json").read_bytes()
    run_measurement(nb201, batches, tmp_path / "run")
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_proxies_are_added_to_a_finished_measurement_without_scoring_the_others_again(
    nb201: Path, batches: Batches, tmp_path: Path
) -> None:
    aggregate = get_aggregate("log_rank:params+l2_norm")
    run_measurement(nb201, batches, tmp_path / "whole", [Errors(), "params", aggregate])
    run_measurement(nb201, batches, tmp_path / "a", [Errors()])
    journal = tmp_path / "a" / "journal" / "scores.jsonl"
    before = journal.read_bytes()
    # An interrupted extension is resumed as one, and the folder keeps the order in which proxies were added.
    with pytest.raises(zcpt.ProxyError, match="needs at least"):
        run_measurement(nb201, batches, tmp_path / "a", [Errors(), "naswot"], batch_size=1)
    run_measurement(nb201, batches, tmp_path / "a", [Errors(), "params"])
    lines = journal.read_bytes().removeprefix(before).splitlines(keepends=True)
    assert len(lines) == 30
    assert all(list(json.loads(line)["scores"]) == ["params"] for line in lines)
    journal.write_bytes(before + b"".join(lines[:10]))
    run_measurement(nb201, batches, tmp_path / "a", [Errors(), aggregate])
    assert len(journal.read_bytes().splitlines()) == 30 + 10 + 20 + 10
    assert without_seconds(tmp_path / "a") == without_seconds(tmp_path / "whole")


def test_a_measurement_is_resumed_with_images_that_have_moved(nb201: Path, pictures: Any, tmp_path: Path) -> None:
    places = [DatasetBatches(pictures, num_classes=10, about={"dataset": f"folder:{name}"}) for name in "ab"]
    run_measurement(nb201, places[0], tmp_path / "a", samples=3)
    run_measurement(nb201, places[1], tmp_path / "a", samples=3)
    negatives: Any = [(-image, label) for image, label in pictures]
    others = DatasetBatches(negatives, num_classes=10, about=places[0].about)
    with pytest.raises(zcpt.ConfigError, match="another measurement: its fingerprint is"):
        run_measurement(nb201, others, tmp_path / "a", samples=3)


def test_an_unknown_proxy_of_a_finished_measurement_is_named(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    run_measurement(nb201, batches, tmp_path / "a", [Errors()], samples=3)
    with pytest.raises(
        zcpt.ConfigError, match="has scores of 'errors', which is no registered proxy: import the module"
    ):
        run_measurement(nb201, batches, tmp_path / "a", ["params"], samples=3)
    config = tmp_path / "a" / "config.json"
    for damaged in ("3", "[3]"):
        document = json.loads(config.read_text())
        config.write_text(json.dumps({**document, "proxies": json.loads(damaged)}))
        with pytest.raises(zcpt.ConfigError, match="'proxies' is no list of names"):
            run_measurement(nb201, batches, tmp_path / "a", ["params"], samples=3)


def test_the_metric_is_by_default_one_that_the_table_has(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    assert run_measurement(nb201, batches, tmp_path / "a", ["params"])["protocol"]["options"]["metric"] == "test"
    table = read_table(nb201, "nasbench201")
    columns = {
        ("cifar10", "valid"): table.get_accuracies("cifar10"),
        ("cifar100", "test"): table.get_accuracies("cifar100"),
    }
    other = replace(table, columns=columns)
    result = measure_proxies(other, batches, ["params"], tmp_path / "b", ProxyOptions(**SMALL), workers=1)
    assert result["protocol"]["table"]["metric"] == "valid"


def test_two_processes_give_the_scores_of_one(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    run_measurement(nb201, batches, tmp_path / "one", [Hashed(), "naswot"], samples=12)
    run_measurement(nb201, batches, tmp_path / "two", [Hashed(), "naswot"], samples=12, workers=2)
    assert without_seconds(tmp_path / "one") == without_seconds(tmp_path / "two")


def test_a_killed_worker_is_reported_in_one_sentence(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    with pytest.raises(zcpt.LostError, match="was killed, perhaps because memory ran out: repeat the command"):
        run_measurement(nb201, batches, tmp_path / "a", [Killed()], samples=3, workers=2)


def test_a_stop_ends_the_workers_at_once_and_keeps_what_they_have_finished(
    nb201: Path, batches: Batches, tmp_path: Path
) -> None:
    seconds = []

    def stop() -> None:
        while not (tmp_path / "slow").exists():
            time.sleep(0.01)
        seconds.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), raise_stopped():
        run_measurement(nb201, batches, tmp_path / "run", [Slow(tmp_path / "slow")], workers=2)
    assert time.monotonic() - seconds[0] < 10  # a second on an idle machine, and a minute before
    assert len((tmp_path / "run" / "journal" / "scores.jsonl").read_text().splitlines()) >= 2
    assert multiprocessing.active_children() == []


def test_what_a_worker_raises_is_raised_here(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match="can't allocate memory"):
        run_measurement(nb201, batches, tmp_path / "run", [NoMemory()], workers=2, samples=2)
    assert "KeyError: 'x'" in str(make_portable(KeyError("x"), "process 3"))


def test_what_the_seed_and_the_weights_change(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    def read_scores(folder: str, **options: Any) -> dict[str, str]:
        run_measurement(nb201, batches, tmp_path / folder, samples=12, **options)
        with open(tmp_path / folder / "scores.csv") as file:
            return {row["index"]: row["hashed"] for row in csv.DictReader(file)}

    first = read_scores("a")
    assert len(first) == 12
    assert read_scores("b") == first
    assert read_scores("c", weights="own").keys() == first.keys()
    assert not set(read_scores("d", weights="own").values()) & set(first.values())
    assert read_scores("e", seed=1).keys() != first.keys()


def test_the_data_set_is_that_of_the_images_where_the_table_has_it(nb201: Path, pictures: Any, tmp_path: Path) -> None:
    for name, data_set in (("cifar100", "cifar100"), ("folder:x", "cifar10")):
        batches = DatasetBatches(pictures, num_classes=10, about={"dataset": name})
        result = run_measurement(nb201, batches, tmp_path / data_set, samples=3)
        assert result["protocol"]["table"]["data_set"] == data_set
    assert (
        run_measurement(nb201, batches, tmp_path / "g", samples=3, accuracy_on="cifar100")["protocol"]["table"]["best"]
        < 40
    )


@pytest.mark.parametrize(
    ("options", "proxies", "word"),
    [
        ({"samples": 31}, ["hashed"], "--samples 31 is more than the 30 architectures"),
        ({"samples": -1}, ["hashed"], "--samples -1 must not be negative"),
        ({"batch_size": 0}, ["hashed"], "--batch-size 0 is too small"),
        ({"batch_size": 41}, ["hashed"], "more than the 40 images"),
        ({"batch_size": 1}, ["naswot"], "--batch-size 1 is too small: proxy 'naswot' needs at least 2"),
        ({"weights": "any"}, ["hashed"], "unknown value of --weights 'any'"),
        ({"metric": "tset"}, ["hashed"], "did you mean 'test'"),
        ({"accuracy_on": "cifar"}, ["hashed"], "did you mean 'cifar10'"),
        ({}, ["hashd"], "unknown proxy 'hashd': did you mean 'hashed'"),
        ({}, ["hashed", "hashed"], "must name different proxies"),
        ({}, [], "must name different proxies"),
    ],
)
def test_mistakes_write_nothing(
    options: Any, proxies: Any, word: str, nb201: Path, batches: Batches, tmp_path: Path
) -> None:
    with pytest.raises(zcpt.ZcptError, match=word):
        run_measurement(nb201, batches, tmp_path / "a", proxies, **options)
    assert not (tmp_path / "a").exists()


def test_a_folder_of_something_else_is_left_alone(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    run_measurement(nb201, batches, tmp_path / "a", samples=3)
    with pytest.raises(zcpt.ConfigError, match="another measurement: its samples is 3, not 4. Give another --out"):
        run_measurement(nb201, batches, tmp_path / "a", samples=4)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("")
    with pytest.raises(zcpt.ConfigError, match="is no folder of a measurement"):
        run_measurement(nb201, batches, tmp_path / "b")
    with pytest.raises(zcpt.ConfigError, match="--workers -1"):
        run_measurement(nb201, batches, tmp_path / "c", workers=-1)


def test_a_proxy_that_cannot_be_pickled_needs_one_process(nb201: Path, batches: Batches, tmp_path: Path) -> None:
    class Local(Hashed):
        name = "local"

    with pytest.raises(zcpt.ConfigError, match="--workers 1"):
        run_measurement(nb201, batches, tmp_path / "a", [Local()], workers=2)
    assert (
        run_measurement(nb201, batches, tmp_path / "a", [Local()], samples=0, workers=1)["results"]["local"]["networks"]
        == 30
    )


@pytest.mark.slow
def test_workers_exit_with_a_killed_parent_and_the_measurement_is_resumed(nb201: Path, tmp_path: Path) -> None:
    words = ["benchmark", "proxies", "--space", "nasbench201", "--table", str(nb201), "--samples", "0", "--workers"]
    words = [sys.executable, "-m", "zcpt", *words, "2", "--channels", "8", "--layers", "3", "--device", "cpu"]
    whole = subprocess.run([*words, "--out", str(tmp_path / "whole")], cwd=ROOT, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    run = tmp_path / "run"
    process = subprocess.Popen([*words, "--out", str(run)], cwd=ROOT, stderr=subprocess.DEVNULL)
    journal = run / "journal" / "scores.jsonl"
    while process.poll() is None and not (journal.exists() and len(journal.read_bytes()) > 500):
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.time() + 20
    while any(os.path.exists(f"/proc/{child}") for child in children) and time.time() < deadline:
        time.sleep(0.1)
    alive = [child for child in children if "zcpt" in _command(child) or "spawn" in _command(child)]
    assert not alive
    done = subprocess.run([*words, "--out", str(run)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert without_seconds(run) == without_seconds(tmp_path / "whole")


def _command(process: Any) -> Any:
    path = Path(f"/proc/{process}/cmdline")
    return path.read_bytes().replace(b"\0", b" ").decode() if path.exists() else ""
