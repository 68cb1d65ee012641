"""``zcpt show``: what a run folder holds, without a change to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.zcpt.cli.conftest import content, run


def test_a_finished_search_with_its_training(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run_folder)
    code, out, err = run(capsys, "show", run_folder)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("search        of nasbench201 on digits, on cpu, by zcpt ")
    assert "proposals 2" in lines[1]
    assert "validation-batches 2" in lines[1]
    assert lines[2].startswith("work          2 proposals of 2 begun, 12 decisions, ")
    assert (run_folder / "genotype.txt").read_text().strip() in lines[3]
    assert any(line.startswith("accuracy ") and "after 1 epoch of 1 " in line for line in lines)
    assert lines[-1].endswith(f" evaluate {run_folder / 'train' / 'digits'}")
    assert content(run_folder) == before
    training = run(capsys, "show", run_folder / "train" / "digits")[1].splitlines()
    assert training == lines[-len(training) :]


def test_an_interrupted_search_and_training(run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_folder, cwd / "a b")
    for name in ("architecture.json", "proposals.json", "journal/validation.jsonl"):
        (cwd / "a b" / name).unlink(missing_ok=True)
    with open(cwd / "a b" / "journal" / "proposal_001.jsonl", "ab") as file:
        file.write(b'{"step": 9, "cho')  # which is being written
    before = content(cwd)
    out = run(capsys, "show", "a b")[1]
    assert " 12 decisions, 0 of 2 validation batches" in out
    assert out.endswith(" search --resume 'a b'\n")
    training = cwd / "a b" / "train" / "digits"
    assert content(cwd) == before
    (training / "summary.csv").unlink()
    assert run(capsys, "show", training)[1].endswith(" train --resume '" + str(training) + "'\n")


def test_a_benchmark(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"benchmark": "proxies", "space": "nasbench201", "proxies": ["snip", "near"], "versions": {"zcpt": "1"}}
    (cwd / "b" / "journal").mkdir(parents=True)
    (cwd / "b" / "config.json").write_text(json.dumps(document))
    (cwd / "b" / "journal" / "scores.jsonl").write_text('{"seconds": {"snip": 1.5}}\n')
    out = run(capsys, "show", "b")[1]
    assert out.splitlines()[:3] == [
        "benchmark     proxies of nasbench201, by zcpt 1",
        "settings      proxies snip,near",
        "work          not finished, 1 line in the journal",
    ]
    (cwd / "b" / "result.json").write_text("{}")
    assert run(capsys, "show", "b")[1].endswith("report        b/report.md\n")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *[("config.json", text) for text in ("", "[]", "{", "3", '{"space": 1}', "[" * 100_000, "9" * 5_000, "\xff")],
        ("config.json", '{"space": "x", "search": 3, "data": {}, "device": "cpu"}'),
        ("config.json", '{"space": "x", "search": {"seed": 0}, "data": 3, "device": "cpu"}'),
        *[("proposals.json", text) for text in ("", "{}", "[3]", '[{"chosen": 1}]', "null", "[" * 100_000)],
        ("proposals.json", '[{"chosen": true, "text": "x", "proposals": 3, "mean": 1}]'),
        ("proposals.json", '[{"chosen": true, "text": "x", "proposals": [], "mean": {}}]'),
        *[("journal/proposal_000.jsonl", text + "\n") for text in ("{", "\xff", "[" * 100_000, "9" * 5_000)],
        *[("train/digits/args.yaml", text) for text in ("", "a: [", "3", "recipe: 1", "\xff")],
        *[("train/digits/summary.csv", text) for text in ("a\n1\n", "test_accuracy\nx\n", "\xff", "test_accuracy,b\n")],
    ],
)
def test_a_damaged_folder_gets_one_sentence(
    file: str, damage: str, run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run_folder, cwd / "run")
    (folder / file).write_bytes(damage.encode("latin-1"))
    code, _, err = run(capsys, "show", folder)
    if damage == "test_accuracy,b\n":  # a table without a line: no epoch is finished
        assert code == 0
        return
    assert code == 2
    assert err.count("\n") == 1
    assert str(Path(file).name) in err
    assert len(err) < 400


def test_what_is_no_run_folder(cwd: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "empty").mkdir()
    for name in ("empty", "none", run_folder / "config.json"):
        code, out, err = run(capsys, "show", name)
        assert (code, out) == (2, "")
        assert "is no run folder" in err
