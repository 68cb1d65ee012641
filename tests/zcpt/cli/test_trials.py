"""``zcpt trials``: from a table, by a proxy, resume, replay, show, and what comes next."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.zcpt.cli.conftest import run
from tests.zcpt.tabular.conftest import cells, write_csv
from zcpt.cli import main

ROOT = Path(__file__).parents[3]

SMALL = ["--space", "nasbench201", "--channels", "2", "--layers", "1", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture
def table(cwd: Path) -> Path:
    rows = [[cell, 60 + i % 7, 61 + i % 5] for i, cell in enumerate(cells(30))]
    columns = ["arch_str", "c100_valid_acc_200ep_pct", "c100_test_acc_200ep_pct"]
    file: Path = write_csv(cwd / "table.csv", columns, *rows)
    return file


def test_trials_on_a_table_are_resumed_replayed_and_shown(
    table: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trials", "--space", "nasbench201", "--value", f"table:{table}", "--accuracy-on", "cifar100"]
    words += ["--table-only", "--algorithm", "random", "--trials", "5", "--out", "a"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "by table:valid of cifar100, in trial" in out
    assert "report        test 6" in out
    assert out.splitlines()[-1].endswith("train --arch a/architecture.json")
    assert run(capsys, "replay", "a")[1].startswith("same: all 5 trials")
    code, out, _ = run(capsys, "show", "a")
    assert "5 of 5 trials" in out
    code, out, _ = run(capsys, "trials", "--resume", "a", "--trials", "8")
    assert (code, "of 8" in out) == (0, True)
    assert len(Path("a/journal/trials.jsonl").read_text().splitlines()) == 8
    table.rename("moved.csv")
    code, _, err = run(capsys, "trials", "--resume", "a")
    assert (code, "there is no table" in err) == (2, True)
    Path("b").mkdir()
    Path("moved.csv").rename("b/table.csv")
    assert run(capsys, "trials", "--resume", "a", "--value", "table:b/table.csv")[0] == 0
    code, _, err = run(capsys, "search", "--resume", "a")
    assert "is a run of trials, no search: zcpt trials --resume a" in err


def test_trials_by_a_proxy_lead_to_a_training(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trials", *SMALL, "--value", "proxy", "--proxy", "hashed", "--trials", "4", "--algorithm", "random"]
    code, out, _ = run(capsys, *words, "--max-params", "500k", "--out", "a")
    assert code == 0
    assert "budgets       " in out
    document = json.loads(Path("a/config.json").read_text())
    assert document["data"]["dataset"] == "digits"
    assert run(capsys, "replay", "a")[0] == 0
    training = ["train", "--arch", "a", "--epochs", "1", "--channels", "2", "--layers", "1", "--batch-size", "300"]
    assert run(capsys, *training, "--device", "cpu")[0] == 0
    assert list(Path("a/train").glob("*/summary.csv"))


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_trials(tmp_path: Path) -> None:
    words = ["trials", *SMALL, "--value", "proxy", "--proxy", "naswot", "--warmup", "6", "--move", "--pool", "4"]
    words = [sys.executable, "-m", "zcpt", *words, "--trials", "12", "--out"]
    run, journal = tmp_path / "run", tmp_path / "run" / "journal" / "trials.jsonl"
    process = subprocess.Popen([*words, str(run)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert journal.read_bytes().count(b"\n") < 12
    for arguments in (["trials", "--resume", str(run)], [*words[3:], str(tmp_path / "whole")]):
        assert main(arguments) == 0

    def read_trials(folder: Path) -> list[Any]:
        lines = (folder / "journal" / "trials.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert read_trials(run) == read_trials(tmp_path / "whole")
    assert (run / "genotype.txt").read_text() == (tmp_path / "whole" / "genotype.txt").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--value is missing: give what a trial measures"),
        (["--value", "accuracy"], "--value 'accuracy' is unknown"),
        (["--value", "proxy"], "--value proxy needs the proxy"),
        (["--value", "proxy", "--proxy", "hashed", "--guide", "valid"], "--guide needs --value table:FILE"),
        (["--value", "proxy", "--proxy", "hashed", "--table-only"], "--table-only needs --value table:FILE"),
        (["--value", "table:none.csv"], "there is no table none.csv"),
        (["--algorithm", "random", "--tournament", "3", "--value", "proxy"], "unknown option of trials"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(
    words: list[str], message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "trials", *SMALL, *words, "--out", "a")
    assert code == 2
    assert message in err
    assert not Path("a").exists()


def test_benchmark_trials_writes_a_report(table: Path, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: list[Any] = ["benchmark", "trials", "--table", table, "--space", "nasbench201", "--accuracy-on", "cifar100"]
    Path("variants.yaml").write_text("random: {algorithm: random}\nevolution: {pool: 3}\n")
    words += ["--table-only", "--trials", "6", "--seeds", "2", "--variants", "variants.yaml", "--out", "a"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out.splitlines()[-1] == "report        a/report.md"
    assert "in the mean of 2 seeds" in out
    assert "| evolution |" in Path("a/report.md").read_text()


def test_trainings_in_stages_are_resumed_and_replayed(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = "{epochs: 2, samples: 0.1, batch_size: 64, holdout: 0.2, drop_path: 0, auxiliary_weight: 0, cutout: 0}"
    Path("quick.yaml").write_text(f"size: usual\nwidth: 0.15\nvalues: {values}\n")
    words = ["trials", "--space", "nasbench201", "--algorithm", "hierarchy", "--value", "train:quick.yaml"]
    words += ["--stages", "2", "--initial", "2", "--promote", "1", "--parents", "1,1", "--device", "cpu"]
    assert run(capsys, *words, "--trials", "5", "--out", "a")[0] == 0
    assert run(capsys, *words, "--trials", "3", "--out", "b")[0] == 0
    code, out, _ = run(capsys, "trials", "--resume", "b", "--trials", "5")
    assert code == 0
    assert "by train:quick.yaml, in trial" in out
    assert "epochs 2" in out
    shutil.copytree("a", "c")
    lines = Path("c/journal/trials.jsonl").read_text().splitlines(keepends=True)
    Path("c/journal/trials.jsonl").write_text("".join(lines[:3]) + lines[3][:40])  # a kill cuts a line short
    shutil.rmtree("c/checkpoints")
    assert run(capsys, "trials", "--resume", "c")[0] == 0
    journals = [[json.loads(line) for line in Path(f, "journal/trials.jsonl").read_text().splitlines()] for f in "abc"]
    for records in journals:
        for record in records:
            del record["seconds"]
    assert journals[0] == journals[1] == journals[2]
    assert {record["report"]["epochs"] for record in journals[0]} == {1, 2}
    assert run(capsys, "replay", "b")[1].startswith("same: all 5 trials")
    code, _, err = run(capsys, *words[:5], "--value", "proxy", "--proxy", "hashed", "--out", "d")
    assert (code, "trains networks in stages: give --value train:RECIPE" in err) == (2, True)
