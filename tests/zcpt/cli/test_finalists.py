"""``zcpt search --finalists``: short trainings choose among the best proposals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.zcpt.cli.conftest import QUICK, run
from tests.zcpt.tabular.conftest import nb201  # noqa: F401  # a fixture

SEARCH = ["search", "--space", "nasbench201", "--proxy", "hashed", *QUICK, "--workers", "1"]
RECIPE = """
summary: an epoch of few images
size: usual
width: 0.25
values: {epochs: 1, samples: 0.1, batch_size: 256, lr: 0.1, drop_path: 0.0, auxiliary_weight: 0.0, holdout: 0.2}
"""


@pytest.fixture
def recipe(cwd: Path) -> Path:
    (cwd / "short.yaml").write_text(RECIPE)
    return cwd / "short.yaml"


def test_a_search_with_finalists_from_start_to_replay(
    recipe: Path, cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code, out, err = run(capsys, *SEARCH, "--finalists", "5", "--finalist-setting", "short.yaml", "--out", "run")
    assert code == 0, err
    assert "K=5 finalists by train:short.yaml" in caplog.text
    assert "fewer than --finalists 5: all are finalists" in caplog.text
    assert "by the best value of 2 finalists" in out
    lines = re.findall(r"^finalist ([12])    ([\d.]+) in \d+ s(, chosen)?: \|", out, re.M)
    assert [number for number, _, _ in lines] == ["1", "2"]
    records = [json.loads(line) for line in (cwd / "run" / "journal" / "finalists.jsonl").read_text().splitlines()]
    assert [float(value) for _, value, _ in lines] == pytest.approx([record["value"] for record in records], rel=1e-4)
    shown = run(capsys, "show", "run")[1]
    assert "2 of at most 5 finalists measured by train:short.yaml" in shown
    assert shown.count("finalist with value ") == 2
    out = run(capsys, "replay", "run")[1]
    assert out.endswith("; 2 finalists not measured again: values of the journal)\n")
    whole = (cwd / "run" / "proposals.json").read_text()
    path = cwd / "run" / "journal" / "finalists.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    for name in ("proposals.json", "architecture.json"):
        (cwd / "run" / name).unlink()
    assert run(capsys, "show", "run")[1].endswith(" search --resume run\n")
    code, out, err = run(capsys, "search", "--resume", "run", "--workers", "1")
    assert code == 0, err
    texts = (re.sub(r'"seconds": [\d.e-]+', "", text) for text in (whole, (cwd / "run" / "proposals.json").read_text()))
    assert len(set(texts)) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--finalists 3", "--finalists 3 needs --finalist-setting RECIPE"),
        ("--finalist-setting econas", "--finalist-setting econas needs --finalists K"),
        ("--finalists 3 --finalist-setting ecomas", "unknown recipe 'ecomas': did you mean 'econas'?"),
        ("--finalists 3 --finalist-setting digits", "recipe digits keeps no training images back"),
        ("--finalists 1 --finalist-setting econas", "--finalists 1 leaves no choice"),
        ("--finalists 2 --finalist-setting econas --workers -1", "--workers -1 must not be negative"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    words: str, complaint: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *SEARCH, *words.split(), "--out", "run")
    assert (code, out) == (2, "")
    assert complaint in err.splitlines()[-1]
    assert not (cwd / "run").exists()


def test_the_table_can_stand_in_for_trainings(
    cwd: Path,
    capsys: pytest.CaptureFixture[str],
    nb201: Path,  # noqa: F811
) -> None:
    words = ["benchmark", "search", "--space", "nasbench201", "--table", nb201, "--proxy", "hashed", *QUICK]
    words += ["--seeds", "0", "--out", "b", "--finalists", "2"]
    code, _, err = run(capsys, *words, "--guide", "test", "--finalist-setting", "econas")
    assert code == 2
    assert "--guide and --finalist-setting both say" in err
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "--finalists 2 needs what measures them" in err
    code, _, err = run(capsys, *words, "--guide", "valid-12")
    assert code == 2
    assert "unknown value of --metric" in err
