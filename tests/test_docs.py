"""README and docs: length, links, contents page, and the examples, which are executed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

from tests.test_house import LAYERS
from train.recipe import describe_recipe, list_recipes, read_recipe
from zcpt.cli import main
from zcpt.cli._parser import parse

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = {
    "search": "--channels 4 --layers 1 --proposals 2 --validation-batches 2 --batch-size 8 --validation-batch-size 8",
    "train": "--channels 4 --epochs 1 --batch-size 300",
    "evaluate": "",
    "export": "",
    "latency": "--repeats 1",
}
"""Flags that are appended to documented commands; the last one of a name wins."""


def read_blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Return language and text of the code blocks of a page, in their order."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in blocks if language in languages]


def read_labels(answer: str) -> list[str]:
    """Return the label that begins each line of a command's answer."""
    return re.findall(r"^[a-z]+(?: [a-z]+)?", answer, re.MULTILINE)


def name_page(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def in_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the examples in an empty folder, as the installed command ``zcpt``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["zcpt"])
    return tmp_path


def test_the_readme_has_at_most_600_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 600


@pytest.mark.parametrize("command", ["bash scripts/search_darts.sh", "bash scripts/test.sh"])
def test_the_readme_has_the_commands_that_set_everything_up(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()


def make_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{name_page(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in map(make_anchor, headings), f"{name_page(page)} links to {target}"


def test_the_contents_list_every_page() -> None:
    contents = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"]({name})" in contents, f"docs/index.md does not list {name}"


def test_the_page_on_the_architecture_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for file, name in re.findall(r"`([\w/]+(?:\.py|/))(?:::(\w+))?`", text):
        assert (ROOT / file).exists(), file
        if name:
            tree = ast.parse((ROOT / file).read_text())
            defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)}
            assert name in defined, f"{file} has no {name}"


def test_the_page_on_the_architecture_shows_the_layers_that_are_checked() -> None:
    (table,) = [text for _, text in read_blocks("docs/architecture.md", "") if "zcpt.errors" in text]
    assert [line.split() for line in table.splitlines()] == [layer.split() for layer in reversed(LAYERS)]


def test_pictures_are_small_and_shown() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size <= 100_000
        assert f"images/{picture.name})" in shown


def test_the_worked_example_of_the_concepts_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (_, code), (_, expected) = read_blocks("docs/concepts.md", "python", "text")
    exec(code, {})
    assert capsys.readouterr().out == expected


SPACES_WITH_SPELLINGS = ["darts", "nasbench201", "nasbench1shot1", "nasbench-macro", "proxyless"]


@pytest.mark.parametrize("space", SPACES_WITH_SPELLINGS)
def test_the_spellings_on_the_page_of_a_space_are_read(space: str) -> None:
    ((_, code),) = read_blocks(f"docs/spaces/{space}.md", "python")
    exec(code, {})


@pytest.mark.usefixtures("in_new_folder")
def test_the_tutorial_can_be_followed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import zcpt

    search: Callable[..., Any] = zcpt.search
    small = {"channels": 4, "layers": 1, "proposals": 2, "validation_batches": 2, "batch_size": 8}
    monkeypatch.setattr(zcpt, "search", lambda space, data, **options: search(space, data, **{**options, **small}))
    namespace: dict[str, Any] = {}
    answer = printed = ""
    for language, text in read_blocks("docs/tutorial.md", "bash", "text", "python"):
        if language == "python":
            exec(text, namespace)
            printed += capsys.readouterr().out
        elif language == "text":
            assert read_labels(text) == read_labels(answer)
        else:
            program, command, *words = shlex.split(text)
            assert program == "zcpt"
            assert main([command, *words, *SMALL[command].split()]) == 0
            answer = capsys.readouterr().out
    assert " keeps " in printed
    assert "predicted" in printed


@pytest.mark.slow
def test_the_page_on_exports_can_be_followed(
    in_new_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.syspath_prepend(in_new_folder)
    answer = ""
    for language, text in read_blocks("docs/export.md", "bash", "text", "python"):
        if language == "python":
            exec(text, {})
            assert len(ast.literal_eval(capsys.readouterr().out)) == 5
        elif language == "text":
            assert read_labels(text) == read_labels(answer)
        else:
            _, command, *words = shlex.split(text)
            assert main([command, *words, *SMALL[command].split()]) == 0
            answer = capsys.readouterr().out


@pytest.mark.parametrize("page", ["docs/training.md", "docs/imagenet.md"])
def test_the_commands_of_a_page_have_flags_that_exist(page: str) -> None:
    commands = re.findall(
        r"(?:^|-m )(zcpt \w+ .*)$", "\n".join(text for _, text in read_blocks(page, "bash", "text")), re.M
    )
    assert len(commands) >= 4
    for command in commands:
        parse(shlex.split(command.replace("$WORDS", "").replace("[FLAGS]", ""))[1:])


@pytest.mark.usefixtures("in_new_folder")
def test_the_example_of_the_page_on_training_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, commands),) = read_blocks("docs/training.md", "bash")
    for line in commands.splitlines():
        _, command, *words = shlex.split(line)
        small = ["--epochs", "1", "--batch-size", "300"] if command == "train" else []
        assert main([command, *words, *small]) == 0
    assert "test accuracy" in capsys.readouterr().out
    (_, recipe), *_ = read_blocks("docs/training.md", "yaml")
    Path("mine.yaml").write_text(recipe)
    assert read_recipe("mine.yaml").values["epochs"] == 120


@pytest.mark.usefixtures("in_new_folder")
def test_the_examples_of_the_page_on_reduced_training_run(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, command),) = read_blocks("docs/reduced-training.md", "bash")
    assert main([*shlex.split(command)[1:], "--layers", "1"]) == 0
    ((_, code),) = read_blocks("docs/reduced-training.md", "python")
    exec(compile(code, "docs/reduced-training.md", "exec"), {})
    assert " % in " in capsys.readouterr().out
    for _, text in read_blocks("docs/reduced-training.md", "text"):
        for line in text.splitlines():
            assert parse(shlex.split(line)[1:]).run
    ((_, recipe),) = read_blocks("docs/reduced-training.md", "yaml")
    Path("quick.yaml").write_text(recipe)
    assert read_recipe("quick.yaml").is_reduced


@pytest.mark.usefixtures("in_new_folder")
def test_the_commands_and_the_example_of_supernet_training_are_accepted() -> None:
    for _, text in read_blocks("docs/supernet-training.md", ""):
        parse(shlex.split(text)[1:])
    ((_, code),) = read_blocks("docs/supernet-training.md", "python")
    exec(code, {})


def test_the_page_on_training_shows_the_recipes() -> None:
    rows = re.findall(r"^\| `([\w+-]+)` \| (\d+) \| (\d+) \|", (ROOT / "docs" / "training.md").read_text(), re.M)
    assert {row[0]: row[1:] for row in rows} == {n: describe_recipe(read_recipe(n))[:2] for n in list_recipes()}


def read_readme_example() -> tuple[list[str], str]:
    """Return the command of the README's example, as words, and its answer."""
    (block,) = [text for _, text in read_blocks("README.md", "") if text.startswith("$ ")]
    command, _, answer = block.replace("\\\n", "").partition("\n")
    return shlex.split(command.removeprefix("$ zcpt ")), answer


def test_the_example_of_the_readme_is_the_search_of_the_tutorial() -> None:
    words, answer = read_readme_example()
    (_, command), (_, tutorial_answer), *_ = read_blocks("docs/tutorial.md", "bash", "text")
    assert sorted(words) == sorted(shlex.split(command.removeprefix("zcpt ")))
    assert answer == tutorial_answer


@pytest.mark.slow
@pytest.mark.usefixtures("in_new_folder")
def test_the_example_of_the_readme_gives_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    words, answer = read_readme_example()
    assert main(words) == 0
    assert capsys.readouterr().out == answer


def test_the_python_of_the_page_on_trials_runs(in_new_folder: Path, pictures: TensorDataset) -> None:
    images, labels = pictures.tensors
    names: dict[str, Any] = {"images": images, "labels": labels}
    for _, code in read_blocks("docs/trials.md", "python"):
        exec(code.replace("trials=20", "trials=2, channels=2, layers=1"), names)
    assert names["result"].best.value >= 5
    assert (in_new_folder / "runs" / "convolutions" / "architecture.json").exists()


def test_the_commands_of_the_page_on_trials_are_understood() -> None:
    for _, text in read_blocks("docs/trials.md", ""):
        for line in text.splitlines():
            assert parse(shlex.split(line)[1:]).run


@pytest.mark.usefixtures("in_new_folder")
def test_the_first_run_of_the_page_on_trials_answers_as_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (_, commands), (_, answer) = read_blocks("docs/trials.md", "bash", "text")
    printed = ""
    for line in commands.splitlines():
        assert main([*shlex.split(line)[1:]]) == 0
        printed += capsys.readouterr().out
    assert set(read_labels(answer)) <= set(read_labels(printed))
