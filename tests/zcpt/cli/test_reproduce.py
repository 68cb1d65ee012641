"""``zcpt reproduce``: the list, an entry from beginning to end and resumed, and mistakes in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.zcpt.cli.conftest import content, run
from tests.zcpt.tabular.conftest import nb201  # noqa: F401  # fixture
from zcpt.tabular.papers import ENTRIES
from zcpt.tabular.reproduction import Entry, Measurement, Published

SCORES = Measurement(
    "scores",
    "proxies",
    "nasbench201",
    "cifar10",
    "--proxies hashed --workers 1 --resamples 9 --channels 2 --layers 1 --batch-size 8",
    full="--samples 0",
    small="--samples 0 --seed 1",
    scaled="another seed",
)
TRIALS = Measurement(
    "trials",
    "trials",
    "nasbench201",
    "cifar10",
    "--trials 5 --guide test --seeds 2 --table-only",
    small="",
    variants="random: {}\nwarm: {algorithm: random, proxy: hashed, warmup: 9}\n",
    scores="scores",
)
TINY = Entry(
    "tiny",
    "Zero-Cost-PT",
    "a small table",
    (SCORES, TRIALS),
    (
        Published("hashed", "Spearman", ".5", "ZCN", "scores", "results/hashed/spearman"),
        Published("warm", "accuracy", "66", "ZCP figure", "trials", "results/warm/optimistic/mean/-1"),
    ),
    "A note.",
)


@pytest.fixture
def folder(cwd: Path, nb201: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Return an empty folder with a table and pictures in ``data``, where the list has one entry that can run."""
    shutil.copytree(pictures, cwd / "data" / "cifar10" / "train")
    shutil.copytree(pictures, cwd / "data" / "cifar10" / "test")
    nb201.rename(cwd / "data" / "nb201.csv")
    monkeypatch.setattr("zcpt.cli.reproduce.ENTRIES", {"tiny": TINY, "zcpt-1shot1-3": ENTRIES["zcpt-1shot1-3"]})
    return cwd


def test_an_entry_is_measured_and_resumed(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code, out, err = run(capsys, "reproduce", "tiny", "--device", "cpu", "--out", "r")
    assert code == 0, err
    assert "tiny: a small table\n  hashed, Spearman: published .5, ours " in out
    assert out.endswith("report        r/small/tiny/report.md\nall reports   r/small/report.md\n")
    result = json.loads((folder / "r" / "small" / "tiny" / "result.json").read_text())
    commands = [measurement["command"] for measurement in result["measurements"].values()]
    assert commands[0].startswith("zcpt benchmark proxies --space nasbench201 --table nb201.csv --dataset cifar10 ")
    assert commands[1].endswith("--scores measurements/scores --out measurements/trials")
    page = (folder / "r" / "small" / "tiny" / "report.md").read_text()
    assert page.startswith("# tiny: a small table\n")
    assert "| hashed | Spearman | .5 (absolute) | ZCN | " in page
    assert "Smaller than published: another seed.\n" in page
    assert f"- scores: journal {result['measurements']['scores']['journal']}. Measured with zcpt " in page

    # As after a kill in the middle of the first measurement.
    measured = folder / "r" / "small" / "measurements"
    journal = measured / "scores" / "journal" / "scores.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:10]))
    shutil.rmtree(measured / "trials")
    shutil.rmtree(folder / "r" / "small" / "tiny")
    code, out, err = run(capsys, "reproduce", "--all", "--device", "cpu", "--out", "r")
    assert code == 0, err
    assert "left out: zcpt-1shot1-3 at small scale needs the table of nasbench1shot1-3 " in caplog.text
    again = json.loads((folder / "r" / "small" / "tiny" / "result.json").read_text())
    assert again["numbers"] == result["numbers"]


def test_the_list_shows_what_is_there(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "data").mkdir()
    (cwd / "data" / "nb301.csv").touch()
    code, out, err = run(capsys, "reproduce", "--list")
    assert code == 0, err
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert list(ENTRIES) == [name for name in lines if name in ENTRIES]
    assert "darts, cifar10, GPU" in lines["zcpt-darts-time"]
    assert "  cifar10  " in lines["zcpt-darts-time"]  # missing, and the table is not
    assert "full  " in lines["zcp-figure-1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one table or figure, such as zcpt-table-1, or --all"),
        ("tiny --all", "give one table or figure, such as zcpt-table-1, or --all"),
        ("tinny", "unknown table or figure 'tinny': did you mean 'tiny'"),
        ("tiny --table-dir nowhere", "tiny at small scale needs the table of nasbench201 (nb201.csv or "),
        ("tiny --data-dir nowhere", "tiny at small scale needs images of cifar10 (cifar10/train/CLASS/ or "),
        ("tiny --scale full", "tiny at full scale needs a GPU"),
        ("--all --table-dir nowhere", "nothing can run at small scale: 'zcpt reproduce --list' shows what is missing"),
        ("tiny --scale half", "invalid choice: 'half'"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    words: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = content(folder)
    code, out, err = run(capsys, "reproduce", *words.split())
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert content(folder) == before
