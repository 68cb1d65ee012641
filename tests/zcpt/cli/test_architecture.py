"""What ``--arch`` and the folders of trainings may name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import zcpt
from tests.conftest import random_architecture
from tests.darts_space.test_genotype import DARTS_V2
from tests.zcpt.cli.conftest import content, run
from tests.zcpt.test_notation import BEST_201
from zcpt import ConfigError, SpaceError, ZcptError
from zcpt.architecture_files import read_architecture
from zcpt.files import to_json_text

ARCHITECTURE = zcpt.get_space("nasbench201").parse(BEST_201)
DOCUMENT = to_json_text(ARCHITECTURE.to_json())
SECRET = "root:x:0:0:root:/root:/bin/bash\ndb_password=hunter2\n"


@pytest.fixture
def files(cwd: Path) -> Path:
    """Return a folder with architectures in files of all kinds."""
    (cwd / "run").mkdir()
    (cwd / "run" / "architecture.json").write_text(DOCUMENT)
    (cwd / "empty").mkdir()
    (cwd / "bom.json").write_text("\ufeff" + DOCUMENT)
    (cwd / "windows.json").write_text(DOCUMENT, encoding="utf-16")
    (cwd / "genotype.txt").write_text(BEST_201 + "\r\n")
    other = BEST_201.replace("none", "skip_connect")
    (cwd / "cells.py").write_text(f"OTHER = {other!r}\nBEST = {BEST_201!r}\nMINE = BEST\n")
    (cwd / "log.txt").write_text(f"11/27 09:00 PM arch = {BEST_201}\n11/27 09:01 PM arch = {BEST_201}\n")
    (cwd / "secret").write_text(SECRET)
    (cwd / "words").write_text("hunter2 " * 21)
    (cwd / "binary").write_bytes(bytes(range(256)))
    (cwd / "run" / "model.safetensors").write_bytes(bytes(range(256)))
    (cwd / "huge").write_bytes(b" " * 4_000_001)
    (cwd / "deep.json").write_text('{"choices": ' * 100_000)
    (cwd / "digits.json").write_text(f'{{"schema": {5_000 * "1"}, "space": "darts", "choices": {{}}}}')
    (cwd / "strange.json").write_text('{"schema": 1, "space": ["\\u001b[31m"], "choices": {"a\\n": ["b"]}}')
    os.mkfifo(cwd / "pipe")
    (cwd / "loop").symlink_to("loop")
    (cwd / "link").symlink_to("run")
    return cwd


@pytest.mark.parametrize(
    ("given", "space", "folder"),
    [
        ("run", None, "run"),
        ("run/", "nasbench201", "run"),
        ("link", None, "link"),
        ("run/architecture.json", None, "run"),
        ("bom.json", None, "."),
        ("windows.json", None, "."),
        (DOCUMENT, None, None),
        ("genotype.txt", "nasbench201", "."),
        ("log.txt", "nasbench201", "."),
        ("cells.py:BEST", "nasbench201", "."),
        ("cells.py:MINE", "nasbench201", "."),
        (BEST_201, "nasbench201", None),
        (f"arch: {BEST_201}", "nasbench201", None),
    ],
)
def test_an_architecture_is_read_from_a_folder_a_file_or_the_text_itself(
    given: str, space: str | None, folder: str | None, files: Path
) -> None:
    found = read_architecture(given, space)
    assert found[:2] == (found[0], ARCHITECTURE)
    assert found[0].name == "nasbench201"
    assert (found[2] and str(found[2])) == folder


REFUSED: list[tuple[str | None, str | None, str]] = [
    (None, None, "no architecture is given: give --arch the run folder of a search, a file"),
    ("", "darts", "no architecture is given: give --arch"),
    ("nowhere", None, "nowhere is missing: give --arch"),
    ("nowhere/a.json", "darts", "nowhere/a.json is missing: give --arch"),
    ("DARTS_V2", "darts", "DARTS_V2 is missing: give --arch"),
    ("genotypes.py:DARTS", "darts", "genotypes.py:DARTS is missing: give --arch"),
    ("cells.py:WORST", "nasbench201", "cells.py: there is no 'WORST': the file has OTHER, BEST, MINE."),
    ("cells.py", "nasbench201", "cells.py: the text has 2 different cells: give the text of one of them."),
    ("empty", None, "empty/architecture.json is missing: empty is no run folder, or its search is not finished"),
    ("run", "darts", "holds an architecture of space 'nasbench201', and --space is 'darts'."),
    (BEST_201, None, "which needs the name of its space: add --space nasbench201."),
    (DARTS_V2, None, "--arch has the text of an architecture, which needs the name of its space: add --space darts."),
    ("22212220", None, "which needs the name of its space: add --space nasbench-macro."),
    ("genotype.txt", None, "genotype.txt has the text of an architecture, which needs the name of its space: add"),
    (DARTS_V2, "nasbench201", "is not of the form |op~0|+|op~0|op~1|"),
    (DARTS_V2[:-30], "darts", "is not of the form Genotype("),
    ("x" * 5_000, None, "is no architecture of any space: give --arch"),
    ("a\0b", None, "is missing: give --arch"),
    ("secret", None, "secret has no architecture that any space can read: give --arch"),
    *(("secret", name, f"in the notation of space '{name}': give --arch") for name in zcpt.list_spaces()),
    ("words", "proxyless", "words has no architecture in the notation of space 'proxyless'"),
    ("secret", "toy", "in the notation of space 'toy': give --arch"),
    ("binary", "darts", "binary is no text file: give --arch the run folder"),
    ("run/model.safetensors", None, "run/model.safetensors is no text file: give --arch run/architecture.json."),
    ("huge", "darts", "huge is too large for an architecture: give --arch"),
    ("pipe", "darts", "pipe is no file that can be read as a whole: give --arch"),
    ("/dev/zero", "darts", "/dev/zero is no file that can be read as a whole"),
    ("loop", "darts", "loop cannot be read: Too many levels of symbolic links."),
    ("deep.json", None, "deep.json is damaged: it is not a complete JSON document (its lists and mappings are nested"),
    ("digits.json", None, "(it has an integer of thousands of digits)"),
    ("strange.json", None, "strange.json: unknown space '['\\x1b[31m']': choose from"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "space", "complaint"), REFUSED)
def test_anything_else_gets_one_sentence_that_shows_no_content_of_a_file(
    given: str | None, space: str | None, complaint: str, files: Path
) -> None:
    with pytest.raises((ConfigError, SpaceError)) as caught:
        read_architecture(given, space)
    message = str(caught.value)
    assert complaint in message
    assert message.isprintable()
    assert len(message) < 400
    assert "hunter2" not in message
    assert "root:" not in message


def test_an_error_of_a_third_partys_space_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise IndexError("list index out of range")

    monkeypatch.setattr("darts_space.nasbench201.NasBench201.parse", fail)
    with pytest.raises(SpaceError, match="space 'nasbench201' cannot read the text .IndexError: list index") as caught:
        read_architecture("a b", "nasbench201")
    assert isinstance(caught.value.__cause__, IndexError)


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["--arch", BEST_201, "--space", "nasbench201", "--out", "out"], "out"),
        (["--arch", "run"], "run/train/digits"),
        (["--arch", "run/architecture.json"], "run/train/digits"),
    ],
)
def test_the_named_architecture_is_trained(
    words: list[str],
    folder: str,
    run_folder: Path,
    cwd: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(run_folder, cwd / "run")
    trained = []

    def stop(space: object, architecture: object, data: object, config: object, path: Path, **_: object) -> NoReturn:
        trained.append((architecture, str(path)))
        raise ConfigError("stopped.")

    monkeypatch.setattr("zcpt.cli.train.train_architecture", stop)
    assert run(capsys, "train", *words, "--device", "cpu")[2] == "zcpt: stopped.\n"
    expected = ARCHITECTURE if BEST_201 in words else read_architecture("run", None)[1]
    assert trained == [(expected, folder)]


def test_the_folder_of_a_search_stands_for_its_training(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run_folder, cwd / "run")
    out = run(capsys, "evaluate", folder / "train" / "digits")[1]
    for command in (["train", "--resume", "run"], ["evaluate", "run"]):
        code, again, _ = run(capsys, *command)
        assert code == 0
        assert again.split(" %")[0] == out.split(" %")[0]
    shutil.copytree(folder / "train" / "digits", folder / "train" / "other")
    for command in (["train", "--resume", "run"], ["evaluate", "run"]):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert (
            "run must contain one training, and it contains run/train/digits, run/train/other: give the folder" in err
        )
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    for command, kind in ((["train", "--resume", "run"], "begun"), (["evaluate", "run"], "finished")):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert f"it contains none that {'was' if kind == 'begun' else 'is'} {kind}: give the folder" in err


DAMAGED: dict[str, Callable[[str], str]] = {
    "no space": lambda text: text.replace('"space"', '"spaces"'),
    "a space that is a number": lambda text: text.replace('"nasbench201"', "7"),
    "another schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "a schema of a huge number": lambda text: text.replace('"schema": 1', f'"schema": {"9" * 4000}'),
    "a choice more": lambda text: text.replace('"choices": {', '"choices": {"x\\u001b": ["none"],'),
    "a candidate more": lambda text: text.replace('"none"', '"none", "none"'),
    "another candidate": lambda text: text.replace('"none"', f'"{9_000 * "no"}"'),
    "a candidate that is a number": lambda text: text.replace('"none"', "7"),
    "no candidates": lambda text: text.replace('"none"', ""),
    "a list": lambda text: f"[{text}]",
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "twice": lambda text: text + text,
}


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_a_damaged_architecture_is_refused(damage: str, cwd: Path) -> None:
    (cwd / "a.json").write_text(DAMAGED[damage](DOCUMENT))
    before = content(cwd)
    with pytest.raises(ZcptError) as caught:
        read_architecture("a.json", None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert content(cwd) == before


def test_what_every_space_writes_is_read_back(cwd: Path) -> None:
    for name in [*zcpt.list_spaces(), "toy"]:
        space = zcpt.get_space(name)
        architecture = random_architecture(space, 1)
        (cwd / "text").write_text(space.format(architecture))
        assert read_architecture("text", name)[1] == architecture
        assert read_architecture(space.format(architecture), name)[1] == architecture
