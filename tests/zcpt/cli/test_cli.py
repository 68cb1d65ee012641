"""Every command of the command line, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zcpt
from tests.conftest import Hashed, random_architecture
from tests.zcpt.cli.conftest import QUICK, content, run
from train.data import ImageData
from zcpt.folders import lock_folder
from zcpt.search.propose import Proposer


def test_search_ends_with_architecture_size_folder_and_next_command(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "search", "--space", "nasbench201", "--out", "runs/a", *QUICK)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    genotype = (cwd / "runs" / "a" / "genotype.txt").read_text().strip()
    assert lines["architecture"] == genotype
    assert re.search(r"^\S+[kM]? parameters, \S+[kM] MACs ", lines["size"])
    assert "M MACs" in lines["size"]
    assert " of 2 proposals" in lines["chosen"]
    assert "runs/a" in lines["run"]
    assert lines["next"].endswith("train --arch runs/a/architecture.json --device cpu")
    assert (cwd / "runs" / "a" / "cells.png").stat().st_size > 5000


def test_train_follows_the_search_and_evaluate_follows_the_training(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = run_folder / "train" / "digits"
    assert {"args.yaml", "summary.csv", "last.pt", "model.safetensors"} <= {path.name for path in training.iterdir()}
    accuracy = float((training / "summary.csv").read_text().splitlines()[-1].split(",")[4])
    for folder in (run_folder, training):
        code, out, _ = run(capsys, "evaluate", folder, "--device", "cpu")
        assert code == 0
        assert f"test accuracy {accuracy:.2f} % on the 360 test images of digits" in out
        assert (run_folder / "genotype.txt").read_text().strip() in out


def test_train_reads_a_genotype_text_of_a_named_space(
    cwd: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(run_folder / "genotype.txt", cwd)
    words = ["--epochs", "1", "--channels", "2", "--out", "t", "--device", "cpu"]
    code, out, _ = run(capsys, "train", "--arch", "genotype.txt", "--space", "nasbench201", *words)
    assert code == 0
    assert out.startswith("test accuracy ")
    assert out.splitlines()[-1].endswith("evaluate t")


def test_list_shows_every_name_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in (
        *zcpt.list_spaces(),
        *zcpt.list_proxies(),
        "fixed",
        "reverse",
        "random",
        "paper",
        "cifar",
        "digits",
        "svhn",
        "folder:PATH",
    ):
        assert f"\n  {name} " in out
    assert run(capsys, "list", "orders")[1].startswith("orders\n")


FOREIGN_CONFIGS = {
    "Hugging Face": '{"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "num_labels": 10}',
    "with a key of ours": '{"data": {"train": "images.csv"}, "seed": 0}',
    "with keys of a search": '{"space": 1, "search": 2, "data": 3}',
    "a list": "[1, 2]",
    "no JSON": "model = resnet",
    "no text": "\x00\xff",
    "empty": "",
}


@pytest.mark.parametrize("config", list(FOREIGN_CONFIGS))
@pytest.mark.parametrize("dataset", [[], ["--dataset", "digits"]])
def test_an_architecture_beside_a_config_of_another_program_is_trained(
    config: str, dataset: list[str], run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cwd / "model").mkdir()
    shutil.copy(run_folder / "architecture.json", cwd / "model")
    (cwd / "model" / "config.json").write_bytes(FOREIGN_CONFIGS[config].encode("latin-1"))
    before = content(cwd / "model")
    words = ["train", "--arch", "model/architecture.json", "--epochs", "1", "--channels", "2", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zcpt.cli.train.train_architecture", stop_training)
        code, _, err = run(capsys, *words, *dataset)
    assert (code, err) == (2, "zcpt: digits in runs.\n")
    assert content(cwd / "model") == before


def stop_training(space: object, architecture: object, data: ImageData, config: object, folder: Path, **_: Any) -> None:
    """Stand for the training; report on which data and where it would start."""
    raise zcpt.ZcptError(f"{data.name} in {folder.parts[0]}.")


def test_a_search_within_budgets_prints_limits_and_totals(
    cwd: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    small = ["--channels", "2", "--layers", "1", "--in-channels", "1", "--image-size", "8", "--repeats", "1"]
    code, out, _ = run(capsys, "latency", "--space", "nasbench201", "--out", "cpu.json", "--device", "cpu", *small)
    assert code == 0
    assert "cpu.json --train-channels 2 --train-layers 1 --train-image-size 8 --train-classes 10\n" in out
    limits = ["--max-macs", "20k", "--max-params", "1e6", "--max-latency", "1e3", "--latency-table", "cpu.json"]
    words = ["search", "--space", "nasbench201", "--out", "run", *QUICK, *limits, "--train-channels", "2"]
    with caplog.at_level("INFO"):
        code, out, err = run(capsys, *words, "--train-layers", "1")
    assert code == 0, err
    assert "networks of at most 1M parameters, of at most 20k MACs, of at most 1k ms" in caplog.text
    assert re.search(r"\nbudgets +\S+k of 1M parameters, \S+k of 20k MACs, \S+ of 1k ms\n", out)
    assert out.splitlines()[-1].endswith("--channels 2 --device cpu")
    (cwd / "cpu.json").rename(cwd / "moved.json")  # the run folder has its own
    assert run(capsys, "search", "--resume", "run")[1].splitlines()[:5] == out.splitlines()[:5]
    assert run(capsys, "replay", "run")[1].startswith("same: all 12 decisions")
    (cwd / "moved.json").rename(cwd / "cpu.json")
    code, _, err = run(capsys, *words[:3], "--out", "other", *words[5:-2], "--train-channels", "3")
    assert code == 2
    assert "cpu.json lacks 'stem 1->3 stride 1 at 8x8': measure it by 'zcpt latency" in err


def test_flags_from_yaml_lie_below_those_of_the_command_line(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "a.yaml").write_text("space: nasbench201\nproposals: 7\norder: fixed\nbatch_size: 9\n")
    code, _, _ = run(capsys, "search", "-c", "a.yaml", "--out", "run", *QUICK)
    assert code == 0
    settings = json.loads((cwd / "run" / "config.json").read_text())["search"]
    assert (settings["order"], settings["proposals"], settings["batch_size"]) == ("fixed", 2, 8)


def test_underscores_are_accepted(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.replace("-", "_").replace("__", "--", 1) for word in QUICK]
    assert "--validation_batches" in words
    assert run(capsys, "search", "--space=nasbench201", "--out=run", *words)[0] == 0


def test_resume_uses_the_settings_of_the_folder(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run_folder, cwd / "run")
    before = {path: data for path, data in content(folder).items() if path.suffix in (".json", ".jsonl", ".txt")}
    code, out, _ = run(capsys, "search", "--resume", folder)
    assert code == 0
    assert (folder / "genotype.txt").read_text().strip() in out
    assert {path: path.read_bytes() for path in before} == before
    code, out, _ = run(capsys, "train", "--resume", folder / "train" / "digits")
    assert code == 0
    assert "after 1 epoch\n" in out


def write_folder_with_broken_picture(folder: Path) -> None:
    for part, label in product(("train", "test"), "ab"):
        (folder / part / label).mkdir(parents=True)
        for i in range(15):
            Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(folder / part / label / f"{i}.png")
    (folder / "train" / "a" / "7.png").write_bytes(b"nothing")


def mistakes() -> dict[str, tuple[list[str], str]]:
    """Return the words of a command and a part of its error, by name of the mistake."""
    search, darts = ["search"], ["search", "--space", "darts"]
    train = ["train", "--arch", "a.json", "--epochs", "1"]
    nearest = "unknown flag '--propsals': did you mean '--proposals'?"
    return {
        "unknown space": ([*search, "--space", "drats"], "unknown space 'drats': did you mean 'darts'?"),
        "unknown proxy": ([*search, "--proxy", "naswat"], "unknown proxy 'naswat': did you mean 'naswot'?"),
        "unknown order": ([*search, "--order", "fixd"], "unknown order 'fixd': did you mean 'fixed'?"),
        "unknown preset": ([*search, "--preset", "papr"], "unknown preset 'papr': did you mean 'paper'?"),
        "unknown flag": ([*search, "--propsals", "3"], nearest),
        "unknown flag of train": ([*train, "--epoc", "3"], "unknown flag '--epoc': did you mean '--epochs'?"),
        "abbreviated flag": ([*search, "--prop", "3"], "unknown flag '--prop'"),
        "unknown command": (["serach"], "unknown command 'serach': did you mean 'search'?"),
        "command like no other": (["juggle"], "choose from benchmark, "),
        "wrong type": ([*search, "--proposals", "many"], "argument --proposals: 'many' is no whole number"),
        "unknown data set": ([*search, "--dataset", "cifra10"], "unknown data set 'cifra10': did you mean 'cifar10'?"),
        "missing data set": ([*search, "--dataset", "cifar10"], "add --download to fetch it, or --data-dir PATH"),
        "missing folder": ([*search, "--dataset", "folder:nowhere"], "there is no folder"),
        "empty folder": ([*search, "--dataset", "folder:empty"], "has no folder train"),
        "broken picture": ([*search, "--dataset", "folder:broken"], "7.png cannot be read"),
        "batch size 1": ([*search, "--batch-size", "1"], "--batch-size 1 is too small"),
        "batch size above the data": ([*darts, "--batch-size", "720"], "719 images to draw from, one half of the"),
        "folder that exists": ([*darts, "--out", "full"], "full exists already"),
        "folder below a file": ([*darts, "--out", "a.json/run"], "cannot be made"),
        "flag before the command": (["--foo", "list"], "unknown flag '--foo'"),
        "device without values": ([*search, "--device", "meta"], "--device meta cannot be used"),
        "where embedded images lie": ([*search, "--data-dir", "d"], "--data-dir is for cifar10, cifar100, svhn"),
        "downloading a folder": ([*search, "--dataset", "folder:empty", "--download"], "--download is for cifar10"),
        "missing user": ([*search, "--dataset", "folder:~nobody-here/x"], "folder:~nobody-here/x cannot be found"),
        "training batch of 1": ([*train, "--batch-size", "1"], "--batch-size 1 is too small: it must be at least 2"),
        "test batch of 0": (["evaluate", "empty", "--batch-size", "0"], "--batch-size 0 is too small"),
        "optimiser": ([*train, "--optimizer", "adamm"], "unknown optimiser 'adamm': did you mean 'adam"),
        "second order": ([*train, "--optimizer", "adahessian"], "--optimizer adahessian needs second derivatives"),
        "optimiser of a GPU": ([*train, "--optimizer", "bnbadam"], "--optimizer bnbadam cannot be used here"),
        "not a number": ([*train, "--lr", "nan"], "--lr takes a finite number"),
        "a search of Python": ([*train[:2], "python/a.json"], "had no named data set: name the one to train on"),
        "a damaged config": ([*train[:2], "damaged/a.json"], "config.json is damaged: it has no 'space'"),
        "resuming a strange config": ([*search, "--resume", "strange"], "config.json is damaged: it has no 'space'"),
        "resuming a config of values": ([*search, "--resume", "values"], "config.json is damaged: it has no"),
        "replaying a config of values": (["replay", "values"], "config.json is damaged: it has no"),
        "no device": ([*search, "--device", "gpu9"], "--device gpu9 cannot be used"),
        "too few cells": ([*darts, "--layers", "2"], "needs at least 3 cells"),
        "no run to resume": ([*search, "--resume", "nowhere"], "config.json is missing: nowhere is no run folder."),
        "resume with a flag": ([*search, "--resume", "full", "--order", "fixed"], "leave out --order"),
        "unknown yaml key": (
            [*search, "-c", "bad.yaml"], "bad.yaml has an unknown key 'propsals': did you mean '--proposals'?"
        ),
        "missing yaml": ([*search, "-c", "none.yaml"], "none.yaml is missing"),
        "yaml that is none": ([*search, "-c", "broken.yaml"], "is not valid YAML: expected ',' or ']', but got"),
        "no yaml at all": ([*search, "-c"], "expected one argument ('zcpt search --help' shows all flags)"),
        "no yaml and no command": (["-c"], "expected one argument ('zcpt --help' shows all flags)"),
        "nothing to train": (["train"], "no architecture is given: give --arch"),
        "architecture of another space": ([*train, "--space", "darts"], "and --space is 'darts'"),
        "foreign choices": ([*train[:2], "foreign.json"], "the architecture is not one of space 'darts'"),
        "truncated json": ([*train[:2], "cut.json"], "cut.json is damaged: it is not a complete JSON document"),
        "missing architecture": ([*train[:2], "none.json"], "none.json is missing"),
        "text without a space": ([*train[:2], "text.txt"], "text.txt has the text of an architecture, which needs"),
        "unknown recipe": ([*train, "--recipe", "cifr"], "unknown recipe 'cifr': did you mean 'cifar'?"),
        "training folder that exists": ([*train, "--out", "full"], "full exists already"),
        "no training to resume": (["train", "--resume", "empty"], "args.yaml is missing"),
        "nothing to evaluate": (["evaluate", "empty"], "model.safetensors is missing"),
        "evaluate what": (["evaluate"], "required: RUN"),
        "a budget that nothing keeps": ([*darts, "--max-macs", "1k"], "--max-macs 1k cannot be met: networks of"),
        "a budget that is none": ([*darts, "--max-macs", "much"], "--max-macs: 'much' is not a number: write it like"),
        "a small m": ([*darts, "--max-macs", "600m"], "argument --max-macs: '600m' is not a number: write it"),
        "a list that has everything": ([*darts, "--valid-only"], "'darts' has no published list that leaves"),
        "images of no size": (["latency", "--out", "t.json", "--image-size", "8x"], "'8x' is no image size: give"),
        "no pixels": (["latency", "--out", "t.json", "--image-size", "0"], "'0' is no image size: give pixels"),
        "a negative budget": ([*darts, "--max-params", "-3"], "--max-params -3.0 must not be negative"),
        "the fast engine for any proxy": (
            [*search, "--proxy", "hashed", "--engine", "fast"], "--engine fast cannot be used: it computes naswot and"
        ),
        "a limit without the fast engine": (
            [*search, "--engine", "plain", "--max-memory", "1G"], "supports --max-memory, and --engine plain was given"
        ),
        "a limit for any proxy": (
            [*search, "--proxy", "hashed", "--max-memory", "1G"],
            "the fast engine supports --max-memory, and it computes",
        ),
        "a negative limit": ([*search, "--max-memory", "-1"], "--max-memory -1.0 must not be negative"),
        "too little memory": ([*search, "--max-memory", "1k"], "--max-memory 1k is too little: scoring Supernet on"),
        "an unknown engine": ([*search, "--engine", "fats"], "'fats'"),
        "an unknown precision": ([*search, "--precision", "fp16"], "'fp16'"),
        "latency without a table": ([*darts, "--max-latency", "3"], "--latency-table FILE go together"),
        "no latency table": ([*darts, "--max-latency", "3", "--latency-table", "t.json"], "t.json is missing"),
        "depth to be trained": ([*darts, "--train-layers", "2"], "needs at least 3 cells"),
        "a table over a file": (["latency", "--out", "a.json"], "a.json exists already"),
        "a table nowhere": (["latency", "--out", "no/where.json"], "there is no folder no"),
        "a table for nothing": (["latency", "--out", "t.json", "--repeats", "0"], "--repeats 0 is too small"),
        "unknown kind": (["list", "spaes"], "unknown kind 'spaes': did you mean 'spaces'?"),
    }  # fmt: skip


@pytest.fixture
def folder_of_mistakes(cwd: Path) -> Path:
    """Return a folder with one file for each mistake."""
    architecture = json.dumps(random_architecture(zcpt.get_space("nasbench201"), 0).to_json())
    (cwd / "a.json").write_text(architecture)
    (cwd / "foreign.json").write_text(architecture.replace("nasbench201", "darts"))
    (cwd / "cut.json").write_text(architecture[:50])
    (cwd / "text.txt").write_text("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    (cwd / "bad.yaml").write_text("propsals: 3\n")
    (cwd / "broken.yaml").write_text("a: [1\n")
    (cwd / "empty").mkdir()
    (cwd / "full").mkdir()
    (cwd / "full" / "note").write_text("mine")
    write_folder_with_broken_picture(cwd / "broken")
    searches = (
        ("python", '{"space": "toy", "search": {"seed": 0}, "data": {}, "device": "cpu"}'),
        ("strange", "{}"),
        ("damaged", "{}"),
        ("values", '{"space": "toy", "search": {"seed": 0}, "data": 3, "device": "cpu"}'),
    )
    for name, config in searches:
        (cwd / name).mkdir()
        (cwd / name / "config.json").write_text(config)
        (cwd / name / "a.json").write_text(architecture)
    (cwd / "damaged" / "journal").mkdir()
    return cwd


@pytest.mark.parametrize("mistake", list(mistakes()))
def test_a_mistake_gets_one_sentence_and_exit_code_2_and_leaves_every_file_as_it_was(
    mistake: str, folder_of_mistakes: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words, expected = mistakes()[mistake]
    before = content(folder_of_mistakes)
    with caplog.at_level("INFO"):
        code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert not caplog.records
    lines = [line for line in err.splitlines() if not re.match(r"reading|training:|\d+%", line)]
    assert len(lines) == 1, err
    assert lines[0].startswith("zcpt: ")
    assert expected in lines[0]
    assert content(folder_of_mistakes) == before


def test_a_folder_that_may_not_be_written_to(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", deny)
    code, _, err = run(capsys, "search", "--out", "run")
    assert code == 2
    assert "run cannot be made (Permission denied): give another folder with --out" in err


def test_a_second_process_in_a_run_folder_is_refused(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run_folder, cwd / "run")
    for words, locked in ((["search"], folder), (["train"], folder / "train" / "digits")):
        with lock_folder(locked):
            code, _, err = run(capsys, *words, "--resume", locked)
        assert code == 2
        assert f"another process is at work in {locked}" in err
        assert run(capsys, *words, "--resume", locked)[0] == 0


def test_a_journal_of_another_search_leaves_the_event_files_alone(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run_folder, cwd / "run")
    for damage in ("5", '{"step": 0}', '{"step": 9, "choice": "x"}'):
        (folder / "journal" / "proposal_001.jsonl").write_text(damage + "\n")
        before = content(folder)
        code, _, err = run(capsys, "search", "--resume", folder)
        assert code == 2
        assert "tart a new search with another --out" in err or "delete this line and all below it" in err
        assert content(folder) == before


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda run: (run / "last.pt").unlink(), "last.pt is missing, so the training cannot be resumed"),
        (lambda run: torch.save([1], run / "last.pt"), "last.pt is damaged"),
        (lambda run: (run / "last.pt").write_bytes(b"PK"), "last.pt cannot be read"),
        (lambda run: widen(run / "args.yaml"), "last.pt are those of another network"),
        (lambda run: (run / "args.yaml").write_text("a: 1"), "args.yaml is damaged: it has no 'recipe'"),
        (
            lambda run: (run / "args.yaml").write_text("a: [1\n"),
            "is damaged: expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_a_training_that_cannot_be_resumed_is_refused_with_the_reason(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], complaint: str
) -> None:
    folder = shutil.copytree(run_folder / "train" / "digits", cwd / "run")
    damage(folder)
    before = content(folder)
    code, _, err = run(capsys, "train", "--resume", folder)
    assert code == 2
    assert complaint in err
    assert content(folder) == before


def widen(path: Path) -> None:
    path.write_text(path.read_text().replace("channels: 4", "channels: 6"))


def test_several_yaml_files_and_null(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "a.yaml").write_text("space: nasbench201\norder: reverse\nout: null\ndownload: false\n")
    (cwd / "b.yaml").write_text("order: fixed\n")
    assert run(capsys, "search", "-ca.yaml", "-c", "b.yaml", "--out", "run", *QUICK)[0] == 0
    assert json.loads((cwd / "run" / "config.json").read_text())["search"]["order"] == "fixed"


def test_a_full_disk_and_a_closed_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for error, expected in ((OSError(28, "No space left on device"), 2), (BrokenPipeError(), 1)):
        with monkeypatch.context() as patch:
            patch.setattr("zcpt.cli.list_names._make_tables", lambda error=error: (_ for _ in ()).throw(error))
            patch.setattr("os.dup2", lambda *_: None)
            patch.setattr("sys.stdout.fileno", lambda: 1, raising=False)
            code, _, err = run(capsys, "list")
        assert code == expected
        assert ("No space left on device" in err) == (expected == 2)


def test_a_disk_that_fails_at_the_picture_of_the_cells_leaves_the_result(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.name == "cells.png":
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        code, _, err = run(capsys, "search", "--space", "nasbench201", "--out", "run", *QUICK, "--proposals", "1")
    assert code == 2
    assert "cells.png cannot be written: the disk is full" in err
    assert "search --resume run" in err
    assert not list((cwd / "run").glob("cells*"))
    assert (cwd / "run" / "architecture.json").exists()
    assert run(capsys, "search", "--resume", "run")[0] == 0
    assert (cwd / "run" / "cells.png").exists()


def test_a_checkpoint_of_another_architecture(run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(run_folder / "train" / "digits", cwd / "run")
    other = random_architecture(zcpt.get_space("nasbench201"), 9)
    (folder / "architecture.json").write_text(json.dumps(other.to_json()))
    before = content(folder)
    for words, expected in (
        (["train", "--resume", folder], "checkpoint of another architecture"),
        (["evaluate", folder], "holds another architecture than"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert expected in err
    assert content(folder) == before


def test_evaluating_on_data_of_other_classes_is_refused(
    run_folder: Path, folder_of_mistakes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_of_mistakes / "broken" / "train" / "a" / "7.png").unlink()
    code, _, err = run(capsys, "evaluate", run_folder, "--dataset", "folder:broken")
    assert code == 2
    assert "trained for 10 classes of 1-channel images" in err


def test_an_error_before_the_first_decision_leaves_the_same_out_free(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Hashed, net: object, batch: zcpt.Batch, mixture: object) -> None:
        raise zcpt.ProxyError("not this network.")

    words = ["search", "--space", "nasbench201", "--out", "run", "--proxy", "hashed", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr(Hashed, "score", fail)
        code, _, err = run(capsys, *words)
    assert (code, err.splitlines()[-1]) == (2, "zcpt: not this network.")
    assert content(cwd) == {}
    assert run(capsys, *words)[0] == 0


def test_a_stop_by_hand_names_the_flag_to_resume(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Proposer, "propose", stop)
    code, _, err = run(capsys, "search", "--out", "run", *QUICK, "--layers", "3")
    assert code == 130
    assert re.search(r"^zcpt: stopped\. Finished work is in run\. To go on: .* search --resume run$", err, re.MULTILINE)
    monkeypatch.setattr("zcpt.cli.latency.measure_latency", stop)
    code, _, err = run(capsys, "latency", "--out", "t.json", "--device", "cpu")
    assert code == 130
    assert err.splitlines()[-1] == "zcpt: stopped."


def test_a_latency_table_for_images_that_are_not_square_is_measured_as_the_error_of_a_search_proposes(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, label, i in product(("train", "test"), "ab", range(8)):
        (cwd / "wide" / part / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 12, 3), 9 * i, dtype=np.uint8)).save(cwd / "wide" / part / label / f"{i}.png")
    (cwd / "empty.json").write_text('{"about": {}, "milliseconds": {}}')
    size = ["--train-channels", "2", "--train-layers", "1", *QUICK, "--batch-size", "4", "--validation-batch-size", "4"]
    words = ["search", "--space", "nasbench201", "--dataset", "folder:wide", "--max-latency", "1e3", *size]
    code, _, err = run(capsys, *words, "--latency-table", "empty.json")
    assert code == 2
    hint = re.search(r"'zcpt (latency .* --image-size 8x12 .*) --out FILE'", err)
    assert hint
    code, out, err = run(capsys, *hint[1].split(), "--out", "wide.json", "--repeats", "1", "--device", "cpu")
    assert code == 0, err
    assert "--train-image-size" not in out
    code, _, err = run(capsys, *words, "--latency-table", "wide.json")
    assert code == 0, err
