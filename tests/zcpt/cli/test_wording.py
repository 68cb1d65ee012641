"""Output and log of commands that succeed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import zcpt
from tests.zcpt.cli.conftest import QUICK, run
from zcpt import Proxy
from zcpt.proxies._registry import _PROXIES


def test_a_single_proposal_is_not_described_as_one_of_several(
    cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["search", "--space", "nasbench201", "--out", "run", *QUICK, "--proposals", "1"]
    with caplog.at_level("INFO"):
        _, out, _ = run(capsys, *words)
    assert "N=1 proposal of 30 evaluations with naswot in random order; supernet of C=2, 1 cell in each" in caplog.text
    assert "validat" not in caplog.text
    assert "\nchosen from   one proposal\n" in out


def test_several_proposals_are_described_with_their_validation(
    cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["search", "--space", "nasbench201", "--out", "run", *QUICK, "--proxy", "hashed"]
    with caplog.at_level("INFO"):
        run(capsys, *words)
    line = "searching nasbench201 on digits (1x8x8), seed 0, on cpu by the plain engine: N=2 proposals"
    assert caplog.text.count(line) == 1
    assert (
        "random order, V=2 validation batches at R=2 initialisations; supernet" in caplog.text
    )  # the default R of 10 is limited by V


def test_valid_only_is_described_as_a_published_list(
    cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["search", "--space", "nasbench1shot1-1", "--out", "run", *QUICK, "--proxy", "hashed", "--proposals", "1"]
    with caplog.at_level("INFO"):
        code, _, err = run(capsys, *words, "--layers", "3", "--valid-only")
    assert code == 0, err
    assert "; networks in the published list of the space; run folder run\n" in caplog.text


def test_a_training_is_announced_after_all_checks(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(run_folder / "architecture.json", cwd)
    words = ["train", "--arch", "architecture.json", "--recipe", "digits", "--epochs", "1", "--channels", "2"]
    with caplog.at_level("INFO"):
        code, _, err = run(capsys, *words, "--layers", "1", "--out", "t", "--device", "cpu")
        assert code == 0, err
        line = "on digits by recipe digits, on cpu: C=2, 1 cell in each of the three stages, 1 epoch; run folder t\n"
        assert caplog.text.count(line) == 1
        run(capsys, *words, "--out", "t")  # which is there now
    assert caplog.text.count("training |") == 1


def test_the_next_command_has_only_flags_that_were_typed(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_folder, cwd / "run")
    for typed in ("", " --device cpu"):
        _, out, _ = run(capsys, "search", "--resume", "run", *typed.split())
        assert out.splitlines()[-1].endswith(f" train --arch run/architecture.json{typed}")


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--train-image-size 224 --train-classes 1000", "224x224 images of 1000 classes"),
        ("--train-image-size 16", "16x16 images of 10 classes"),
        ("--train-classes 3", "8x8 images of 3 classes"),
        ("--train-image-size 8 --train-classes 10", ""),
        ("--max-macs 1G", ""),
    ],
)
def test_the_next_command_does_not_train_on_smaller_images_than_searched_for_in_silence(
    flags: str, wanted: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--space", "nasbench201", "--out", "run", *QUICK, "--proxy", "hashed", "--proposals", "1"]
    code, out, err = run(capsys, *words, *flags.split())
    assert code == 0, err
    *_, note, last = out.splitlines()
    if not wanted:
        assert note.startswith("run folder ")
        assert last.endswith(" train --arch run/architecture.json --device cpu")
        return
    assert note.startswith(
        f"note          the network was searched for {wanted}, and digits has 8x8 images of 10 classes"
    )
    assert "train --arch run/architecture.json --device cpu" in last
    assert last.endswith(
        "--dataset folder:PATH" + (f" --image-size {wanted.partition('x')[0]}" if "size" in flags else "")
    )


def test_the_command_that_uses_a_latency_table_names_the_program_that_was_called(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tools/zcpt-here"])
    small = ["--channels", "2", "--layers", "1", "--in-channels", "1", "--image-size", "8", "--repeats", "1"]
    _, out, _ = run(capsys, "latency", "--space", "nasbench201", "--out", "cpu.json", "--device", "cpu", *small)
    assert "\nuse           zcpt-here search --space nasbench201 --max-latency MS --latency-table cpu.json" in out


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("search", {"channels INT": "the space's, 16 in darts", "train-layers INT": "the default of 'zcpt train'"}),
        ("search", {"layers INT": "the space's, 8 in darts", "train-channels INT": "the default of 'zcpt train'"}),
        (
            "search",
            {
                "proposals INT": "10",
                "alpha-noise FLOAT": "0.0",
                "max-macs NUMBER": "0, no limit",
                "proxy NAME": "naswot",
            },
        ),
        ("train", {"channels INT": "the space's for the data set", "layers INT": "the space's for the data set"}),
        ("train", {"workers INT": "0 on a CPU, else the number of cores, at most 8", "epochs INT": "600"}),
    ],
)
def test_help_shows_the_defaults_that_are_taken(
    command: str, shown: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(capsys, command, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: )" not in text
    assert not re.search(r" --\S+ STR\b", text)
    for name, default in shown.items():
        assert f"(default: {default})" in text.split(f" --{name} ")[-1].split(" --")[0]


def test_list_shows_what_each_proxy_declares(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class WeightCount(Proxy):
        """Number of weights."""

        name, higher_is_better, cost, paper = "size", False, 0.5, "Me, 2020"
        needs, norms = frozenset({"labels", "images"}), "none"

        def score(self, net: object, batch: zcpt.Batch, mixture: object) -> float:
            return 0.0

    monkeypatch.setattr(_PROXIES, "_parts", dict(_PROXIES._parts))
    zcpt.register_proxy(WeightCount)
    _, out, _ = run(capsys, "list", "proxies")
    heading, *lines = (re.split("  +", line.strip()) for line in out.splitlines())
    assert heading == ["proxies", "better", "cost", "norms", "needs", "measures"]
    assert ["size", "lower", "0.5", "none", "images, labels", "Number of weights (Me, 2020)"] in lines
    assert {line[0]: line[1] for line in lines}["naswot"] == "higher"
    assert len(lines) == len(zcpt.list_proxies())


def test_list_describes_every_name_and_no_function(capsys: pytest.CaptureFixture[str]) -> None:
    """A docstring of a function is an imperative: 'Return the settings of ...' describes no preset."""
    _, out, _ = run(capsys, "list")
    for line in out.splitlines():
        if line.startswith("  "):
            summary = re.split("  +", line.strip())[-1]
            assert " " in summary
            assert not re.match(r"(Return|Compute|Load|Build|Make|Create|Yield)\b", summary), line
