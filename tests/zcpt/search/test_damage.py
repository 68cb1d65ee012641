"""Run folders whose files are damaged, of other kinds, of a newer version, or of strangers."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.search.conftest import run_small_search
from zcpt.errors import ZcptError

OPTIONS: dict[str, Any] = {"proxy": "hashed", "proposals": 2, "validation_batches": 3, "validation_inits": 2}
HUGE, DEEP = "9" * 5000, "[" * 100_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: TensorDataset) -> Path:
    """Return the run folder of a finished search."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, **OPTIONS)
    return run


def resume(run: Path, pictures: TensorDataset, **options: Any) -> zcpt.SearchResult:
    return run_small_search(
        zcpt.get_space("nasbench201"), pictures, run_dir=run, resume=True, **{**OPTIONS, **options}
    )[0]


def read_files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any], line: int = 0) -> None:
    """Change a JSON object: the whole file, or a line of a journal."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    document = json.loads(lines[line])
    change(document)
    lines[line] = json.dumps(document)
    path.write_text("".join(f"{text}\n" for text in lines))


def set_field(path: Path, key: str, value: Any) -> None:
    edit_json(path, lambda document: document.update({key: value}))


WRONG: list[Any] = [None, True, -1, 1.5, "x", [], [[1]], {}, {"a": 1}, ["x"]]
DECISION = ["step", "choice", "candidates", "scores", "importance", "kept", "seconds", "purpose", "excluded"]
CONFIG = ["space", "search", "images", "versions", "data", "device", "engine", "budgets", "fingerprint", "sample"]
FIELDS = [
    *(("journal/proposal_001.jsonl", key) for key in DECISION),
    *(("journal/validation.jsonl", key) for key in ("init", "batch", "scores", "seconds", "first")),
    *(("config.json", key) for key in (*CONFIG, "extended")),
]


def test_values_of_every_other_kind_are_refused_or_do_not_matter(
    whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    expected = zcpt.Architecture.from_json((whole / "architecture.json").read_text())
    run = shutil.copytree(whole, tmp_path / "run")
    every = [(name, key, value) for name, key in FIELDS for value in WRONG]
    for name, key, value in every[::3]:  # ten values and a step of three: each field has three or four of all kinds
        set_field(run / name, key, value)
        before = read_files(run)
        try:
            assert resume(run, pictures).architecture == expected
        except ZcptError as error:
            assert str(run) in str(error), (key, value)  # noqa: PT017  # many cases, most of them errors
            assert "\n" not in str(error), (key, value)  # noqa: PT017
            assert read_files(run) == before
        shutil.copy(whole / name, run / name)


@pytest.mark.parametrize("name", ["config.json", "journal/proposal_000.jsonl", "journal/validation.jsonl"])
def test_random_damage_is_refused_or_does_not_matter(
    name: str, whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    expected = zcpt.Architecture.from_json((whole / "architecture.json").read_text())
    draw = random.Random(name)
    content = (whole / name).read_bytes()
    for _ in range(25):
        start = draw.randrange(len(content))
        end = min(len(content), start + draw.choice([0, 1, 1, 1, 5, 200]))
        new = draw.choice([b"", b"\0", b"\xff", b"\n", b'"', b"{", b"1e999", HUGE.encode(), DEEP.encode(), b"NaN"])
        (run / name).write_bytes(content[:start] + new + content[end:])
        try:
            result = resume(run, pictures).architecture
            assert result == expected or name != "config.json"
        except ZcptError as error:
            assert str(run) in str(error)  # noqa: PT017
        for file in ("config.json", name):
            shutil.copy(whole / file, run / file)


LINES = [
    "",
    "1",
    "[]",
    "{",
    "null",
    '"a"',
    HUGE,
    DEEP,
    f'{{"step": {HUGE}}}',
    f'{{"step": {DEEP}}}',
    "\xff",
    "\0",
    "{}",
]


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_damaged_line_is_named_and_the_remedy_in_the_message_works(
    place: int, whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    for number, text in enumerate(LINES[place % 3 :: 2]):
        run = shutil.copytree(whole, tmp_path / str(number))
        path = run / "journal" / "proposal_001.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1]
        broken = lines.copy()
        broken[place] = text.encode("latin-1")
        path.write_bytes(b"\n".join([*broken, b""]))
        index = place % len(lines)
        with pytest.raises(
            ZcptError, match=rf"line {index + 1} of .*proposal_001.jsonl.* delete this line and all below"
        ):
            resume(run, pictures)
        path.write_bytes(b"\n".join([*lines[:index], b""]))
        resume(run, pictures)
        for name in ("architecture.json", "proposals.json"):
            assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_lines_after_the_end_of_a_proposal_are_refused(whole: Path, pictures: TensorDataset, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    path = run / "journal" / "proposal_000.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(ZcptError, match="the proposal was finished before it"):
        resume(run, pictures)


def test_fields_of_a_newer_version_are_kept_and_unknown_settings_refused(
    whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    edit_json(run / "config.json", lambda document: document.update(news={"a": 1}))
    edit_json(run / "journal" / "proposal_000.jsonl", lambda record: record.update(news=[1]))
    edit_json(run / "journal" / "validation.jsonl", lambda record: record.update(news="x"))
    before = read_files(run)
    resume(run, pictures)
    assert read_files(run) == before
    edit_json(run / "config.json", lambda document: document["search"].update(news=1))
    with pytest.raises(ZcptError, match=r"config.json has the setting 'news', which zcpt .* does not know"):
        resume(run, pictures)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


REPLACED = ["config.json", "journal/proposal_000.jsonl", "journal/validation.jsonl", "journal"]


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("make", [make_pipe, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_at_once(
    name: str, make: Callable[[Path], None], whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        make = make_pipe if make is Path.mkdir else make
    else:
        path.unlink()
    make(path)
    with pytest.raises(ZcptError, match=str(run)):
        resume(run, pictures)


LINKS = ["journal", "journal/proposal_000.jsonl", "journal/proposal_001.jsonl", "journal/validation.jsonl", ".lock"]
LINKS += ["config.json", "proposals.json", "architecture.json", "genotype.txt", "tensorboard", "train"]
LINKS += [f"{name}.partial" for name in ("config.json", "proposals.json", "architecture.json", "genotype.txt")]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["file", "cut", "folder", "missing"])
def test_nothing_outside_a_stranger_s_folder_is_changed(
    name: str, kind: str, whole: Path, pictures: TensorDataset, tmp_path: Path
) -> None:
    run, mine = shutil.copytree(whole, tmp_path / "run"), tmp_path / "mine"
    path = run / name
    mine.mkdir()
    if path.is_dir():
        shutil.copytree(path, mine / "target", dirs_exist_ok=True)
        shutil.rmtree(path)
    elif path.exists():
        content = path.read_bytes()
        (mine / "target").write_bytes(content[:-5] if kind == "cut" else content)
        path.unlink()
    if kind == "folder" and not (mine / "target").exists():
        (mine / "target").mkdir()
    path.symlink_to(mine / ("none" if kind == "missing" else "target"))
    (run / "journal" / "proposal_001.jsonl").unlink() if name.startswith(("proposals", "arch", "geno")) else None
    before = read_files(mine)
    try:
        resume(run, pictures, proposals=3)
    except ZcptError as error:
        assert str(run) in str(error)  # noqa: PT017
    assert read_files(mine) == before
