"""What is fuzzed: readers of texts and files in Python, run folders, and the flags of all commands."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from unittest import mock

import numpy as np
from PIL import Image

import zcpt
from tests.conftest import random_architecture
from tests.fuzz.mutate import draw_token, mutate_bytes, mutate_file, mutate_text
from train.checkpoint import load_network
from train.data import load_data
from zcpt.architecture import Architecture
from zcpt.architecture_files import read_architecture
from zcpt.cli import main
from zcpt.cli._parser import build_command_parser, list_commands, list_flags
from zcpt.errors import ZcptError
from zcpt.files import to_json_text
from zcpt.latency import LatencyTable
from zcpt.tabular.operations import read_operation_values
from zcpt.tabular.read import READERS, read_table

QUICK = ["--proposals", "2", "--validation-batches", "2", "--channels", "2", "--layers", "1", "--batch-size", "8"]
QUICK += ["--validation-batch-size", "8", "--device", "cpu", "--space", "nasbench201"]


class Accepted(BaseException):
    """Raised in place of hours of computation once an input has passed all checks."""


Input = Callable[[], Any]
"""Runs one input."""
MakeInput = Callable[[Random, Path], tuple[str, Input]]
"""Makes an input in a new folder, with its description."""


def accept(*_: object, **__: object) -> NoReturn:
    """Stand in for a function that computes for long."""
    raise Accepted


def _write_pictures(folder: Path) -> None:
    for part in ("train", "test"):
        for label in "ab":
            (folder / part / label).mkdir(parents=True)
            for index in range(4):
                pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{index}.png")


def write_templates(folder: Path) -> None:
    """Write the valid files that inputs are made from."""
    folder.mkdir()
    assert main(["search", "--out", str(folder / "run"), *QUICK]) == 0
    words = ["--epochs", "1", "--channels", "2", "--device", "cpu"]
    assert main(["train", "--arch", str(folder / "run"), *words]) == 0
    shutil.move(folder / "run" / "train" / "digits", folder / "training")
    _write_pictures(folder / "pictures")
    (folder / "latency.json").write_text('{"about": {"device": "cpu"}, "milliseconds": {"a": 1.5, "b": 2}}')
    space = zcpt.get_space("nasbench201")
    choices = {choice.name: [float(i) for i in range(5)] for choice in space.choices}
    (folder / "scores.json").write_text(to_json_text({"mine": choices}))
    (folder / "flags.yaml").write_text("proposals: 3\norder: fixed\nflip: false\nalpha_noise: 0.5\nspace: darts\n")
    tables = folder / "tables"
    tables.mkdir()
    texts = [space.format(random_architecture(space, seed)) for seed in range(4)]
    rows = "".join(f"{text},{90 + i},{80 + i}\n" for i, text in enumerate(texts))
    (tables / "nasbench201.csv").write_text(f"arch_str,c10_test_acc_200ep_pct,c100_test_acc_200ep_pct\n{rows}")
    chains = "".join(f"m{text},80,81,85\n" for text in ("00000000", "22222222", "11111111"))
    (tables / "nasbench-macro.csv").write_text(f"arch8,test_acc_run1_pct,test_acc_run2_pct,test_acc_run3_pct\n{chains}")
    (tables / "nasbench-macro.json").write_text('{"00000000": {"test_acc": [80, 81, 82], "mean_acc": 81}}')


def make_notation(random: Random, box: Path) -> tuple[str, Input]:
    """Make the text of an architecture of any space."""
    names = [*zcpt.list_spaces()]
    origin, space = zcpt.get_space(random.choice(names)), zcpt.get_space(random.choice(names))
    text = origin.format(random_architecture(origin, random.randrange(99)))
    if random.random() < 0.2:
        text = to_json_text(random_architecture(origin, 0).to_json())
    text = mutate_text(random, text)

    def read() -> None:
        with suppress(ZcptError):
            architecture = space.parse(text)
            assert space.parse(space.format(architecture)) == architecture
        with suppress(ZcptError):
            Architecture.from_json(text)
        check_refusal(lambda: read_architecture(text, random.choice([None, space.name])))

    return f"text {text[:200]!r} for {space.name}", read


def make_file(random: Random, box: Path) -> tuple[str, Input]:
    """Make a file for one of the readers of files."""
    templates = box.parent / "templates"
    tables = sorted((templates / "tables").iterdir())
    readers: list[tuple[Path, Callable[[Path], object]]] = [
        (templates / "run" / "architecture.json", lambda path: read_architecture(str(path), None)),
        (templates / "run" / "genotype.txt", lambda path: read_architecture(str(path), "nasbench201")),
        (templates / "latency.json", LatencyTable.read),
        (templates / "scores.json", lambda path: read_operation_values(path, zcpt.get_space("nasbench201"))),
        (templates / "training" / "model.safetensors", load_network),
        *((table, lambda path, name=table.stem: read_table(path, name)) for table in tables),
        (tables[0], lambda path: read_table(path, random.choice(sorted(READERS)))),
    ]
    source, read = random.choice(readers)
    path = box / source.name
    path.write_bytes(mutate_file(random, source.read_bytes()))
    return f"{source.name} of {path.stat().st_size} bytes", lambda: check_refusal(lambda: read(path))


def make_pictures(random: Random, box: Path) -> tuple[str, Input]:
    """Make a folder of pictures with one that is damaged."""
    folder = shutil.copytree(box.parent / "templates" / "pictures", box / "pictures")
    path = random.choice(sorted(folder.rglob("*.png")))
    path.write_bytes(mutate_bytes(random, path.read_bytes()))
    name = f"folder:{folder}"
    return f"picture {path.relative_to(folder)}", lambda: check_refusal(lambda: load_data(name))


def make_run_folder(random: Random, box: Path) -> tuple[str, Input]:
    """Make a run folder of a search or a training of which one file is damaged, and resume it."""
    kind = random.choice(["run", "training"])
    folder = shutil.copytree(box.parent / "templates" / kind, box / kind)
    names = [path for path in sorted(folder.rglob("*")) if "tensorboard" not in str(path) and path.suffix != ".png"]
    path = random.choice(names)
    how = random.choice(["change"] * 8 + ["remove", "link", "folder", "empty"])
    if path.is_file():
        content = path.read_bytes()
        path.unlink()
        if how == "change":
            path.write_bytes(mutate_file(random, content))
        elif how == "link":
            path.symlink_to(box / "guard" / "file")
        elif how == "folder":
            path.mkdir()
        elif how == "empty":
            path.touch()
    elif how in ("remove", "link"):
        shutil.rmtree(path)
        if how == "link":
            path.symlink_to(box / "guard")
    commands = [
        ["search", "--resume", "../run"],
        ["replay", "../run"],
        ["train", "--arch", "../run", "--out", "../out"],
    ]
    if kind == "training":
        commands = [["train", "--resume", "../training"], ["evaluate", "../training"]]
    command = random.choice(commands)
    return f"{how} {path.relative_to(box)}, {' '.join(command)}", lambda: check_command(command, box)


def make_flag_file(random: Random, box: Path) -> tuple[str, Input]:
    """Make a file of flags."""
    content = mutate_file(random, (box.parent / "templates" / "flags.yaml").read_bytes())
    (box / "cwd" / "flags.yaml").write_bytes(content)
    command = random.choice(["search", "train", "latency"])
    return f"{command} -c {content[:200]!r}", lambda: check_flags([command, "-c", "flags.yaml"], box)


def make_flags(random: Random, box: Path) -> tuple[str, Input]:
    """Make a command line of up to four flags with any values."""
    name = random.choice(list(list_commands()))
    actions = list_flags(build_command_parser(name))
    templates = box.parent / "templates"
    words = name.split()
    required: dict[str, list[str]] = {
        "train": ["--arch", str(templates / "run")],
        "evaluate": [str(templates / "training")],
        "replay": [str(templates / "run")],
        "benchmark report": ["../run", "--out", "page.md"],
    }
    if random.random() < 0.8:
        words += required.get(name, [])
        if name.startswith("benchmark ") and name != "benchmark report":
            table = str(templates / "tables" / "nasbench201.csv")
            words += ["--table", table, "--space", "nasbench201", "--out", "out"]
    for _ in range(random.randrange(5)):
        flag = random.choice(list(actions))
        if flag == "--download":
            continue
        words.append(mutate_text(random, flag) if random.random() < 0.1 else flag)
        if actions[flag].nargs != 0 or random.random() < 0.1:
            good = actions[flag].default if random.random() < 0.3 else None
            words.append(str(good) if good is not None else draw_token(random))
    return " ".join(word[:80] for word in map(repr, words)), lambda: check_flags(words, box)


def check_refusal(read: Callable[[], object]) -> None:
    """Run a reader, which may refuse its input."""
    with suppress(ZcptError):
        read()


def check_sentence(text: str) -> None:
    assert len(text) < 2_000, f"a message of {len(text)} characters"
    assert "Traceback" not in text


class Result:
    """What the command under test has printed; set by the harness."""

    read: Callable[[], str] = staticmethod(lambda: "")


def check_flags(words: Sequence[str], box: Path) -> None:
    """Run a command up to the point where it begins to search."""
    with mock.patch("zcpt.cli.search.run_search", accept):
        check_command(words, box)


def check_command(words: Sequence[str], box: Path) -> None:
    """Run a command in the folder ``cwd`` of a box, and check that it ends as it should and touches no other folder."""
    guard = list_content(box / "guard")
    os.chdir(box / "cwd")
    try:
        code: object = main(words)
    except SystemExit as end:  # help and version
        code = end.code
    finally:
        os.chdir(box.parent)
        assert list_content(box / "guard") == guard, "a file outside the run folder was changed"
    text = Result.read()
    sentences = [line for line in text.splitlines() if re.match("zcpt: ", line)]
    if code == 2:
        assert len(sentences) == 1, f"{len(sentences)} sentences: {text[-500:]!r}"
        check_sentence(sentences[0])
        assert sentences[0].isprintable(), f"not on one line: {sentences[0]!r}"
    else:
        allowed = (0, 1) if words[:1] == ["replay"] else (0,)
        assert code in allowed, f"exit code {code}: {text[-500:]!r}"
    assert "Traceback" not in text, text[-2000:]


def list_content(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder with their content."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


TARGETS: dict[str, tuple[int, MakeInput]] = {
    "texts": (46, make_notation),
    "files": (46, make_file),
    "flags": (3, make_flags),
    "files of flags": (1, make_flag_file),
    "run folders": (2, make_run_folder),
    "pictures": (2, make_pictures),
}
"""Share of each kind of input in 100, and the function that makes one. Those that start a command take longest."""
