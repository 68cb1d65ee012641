"""Files of zcpt 0.1.0 are still read, resumed and replayed; ``fixtures/0.1.0/make.py`` made them with that version."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from train.arguments import make_config_from, read_arguments
from train.data import load_data
from train.loop import Trainer
from zcpt.architecture_files import read_architecture
from zcpt.cli import main

OLD = Path(__file__).resolve().parent / "fixtures" / "0.1.0"
SPACES = sorted(path.stem for path in (OLD / "architectures").glob("*.json"))
SEARCHES = ["aggregate", "budgets", "chain", "nasbench201", "one-shot", "paper"]
"""All finished searches but darts, which is slow; its interrupted search is resumed instead."""
INTERRUPTED = ["aggregate", "budgets", "darts", "nasbench201"]
CELLS = "--space nasbench201 --channels 2 --layers 1 --device cpu --batch-size 8"
MEASUREMENTS = {  # as make.py has them: another command is another measurement
    "proxies": "--proxies naswot,synflow,log_rank:naswot+synflow --samples 10 --resamples 20 --workers 1",
    "operations": "--methods zc_pt,disc_zc,random --proxies naswot --seeds 0,1",
    "search": "--proposals 2 --validation-batches 2 --validation-batch-size 8 --seeds 0,1",
}
RENAMED = {"struck_inputs": "removed_inputs"}
"""Settings that have another name now."""
NOT_REPEATED = ("seconds", "versions", "hardware")
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_pictures: None) -> Iterator[Path]:
    """Change to an empty folder, and compute in one thread as when the files were made."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def copy_old(name: str) -> Path:
    """Copy files of the old version to the current folder."""
    return Path(shutil.copytree(OLD / name, Path("copy", name)))


def run(words: str) -> int:
    """Run a command whose arguments contain no spaces, and return its exit code."""
    return main(words.split())


def read(path: Path) -> Any:
    """Read a JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))


def journal(folder: Path) -> dict[str, list[Any]]:
    """All complete lines of a journal, by file."""
    return {path.name: lines(path) for path in sorted((folder / "journal").glob("*.jsonl"))}


def lines(path: Path) -> list[Any]:
    """Return the complete lines of a file of the journal."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def assert_equal_documents(now: object, before: object, where: str = "") -> None:
    """Equal but for times, versions, and the last digits of numbers, which differ between machines."""
    if isinstance(before, dict):
        assert isinstance(now, dict), where
        before = {RENAMED.get(key, key): value for key, value in before.items()}
        assert set(before) <= set(now), where  # later versions may add to it
        for key in set(before) - set(NOT_REPEATED):
            assert_equal_documents(now[key], before[key], f"{where}/{key}")
    elif isinstance(before, list):
        assert isinstance(now, list), where
        assert len(now) == len(before), where
        for i, (one, other) in enumerate(zip(now, before, strict=True)):
            assert_equal_documents(one, other, f"{where}[{i}]")
    elif isinstance(before, float):
        assert now == pytest.approx(before, rel=1e-3, abs=1e-6), where
    else:
        assert now == before, where


def assert_same_result(folder: Path, finished: Path) -> None:
    """Assert that the result of a search, and every line of its journal, is that of another one."""
    assert read(folder / "architecture.json") == read(finished / "architecture.json")
    assert (folder / "genotype.txt").read_text() == (finished / "genotype.txt").read_text()
    assert_equal_documents(read(folder / "proposals.json"), read(finished / "proposals.json"))
    assert_equal_documents(journal(folder), journal(finished))


def rows(training: Path) -> list[dict[str, float]]:
    """Return the summary of a training, without what depends on the machine."""
    names, *values = (line.split(",") for line in (training / "summary.csv").read_text().splitlines())
    table = [dict(zip(names, row, strict=True)) for row in values]  # the first rows may lack columns of later versions
    return [{k: float(v) for k, v in row.items() if v and k not in ("seconds", "images_per_second")} for row in table]


@pytest.mark.parametrize("name", SPACES)
def test_architectures_are_read(name: str) -> None:
    text, notation = ((OLD / "architectures" / f"{name}.{end}").read_text() for end in ("json", "txt"))
    space, architecture = zcpt.get_space(name), zcpt.Architecture.from_json(text)
    assert space.format(architecture) == notation.strip()
    assert space.parse(notation.strip()) == architecture
    assert architecture.to_json() == json.loads(text)


def test_there_is_an_architecture_of_every_space() -> None:
    assert {"darts", "darts-s1", "darts-s2", "darts-s3", "darts-s4", "nasbench201", "nasbench-macro"} < set(SPACES)
    assert {"nasbench1shot1-1", "nasbench1shot1-2", "nasbench1shot1-3", "proxyless"} < set(SPACES)


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_search_ends_as_it_would_have(name: str) -> None:
    folder = copy_old(f"interrupted/{name}")
    before, document = journal(folder), read(folder / "config.json")
    if name == "budgets":  # other versions than any that run this
        document["versions"] = {"zcpt": "0.0.9", "torch": "1.0.0", "python": "3.0.0"}
        (folder / "config.json").write_text(json.dumps(document))
    assert run(f"search --resume {folder}") == 0
    now = journal(folder)
    assert {file: now[file][: len(done)] for file, done in before.items()} == before
    assert_same_result(folder, OLD / "search" / name)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_finished_search_is_the_same_when_it_is_replayed(name: str, capsys: Output) -> None:
    assert run(f"replay {copy_old(f'search/{name}')} --device cpu") == 0
    assert capsys.readouterr().out.startswith("same: ")


@pytest.mark.parametrize("name", ["aggregate", "paper"])
def test_a_finished_search_is_resumed_with_the_same_result(name: str) -> None:
    folder = copy_old(f"search/{name}")
    assert run(f"search --resume {folder}") == 0
    assert journal(folder) == journal(OLD / "search" / name)
    assert_same_result(folder, OLD / "search" / name)


def test_a_latency_table_is_accepted() -> None:
    shutil.copy(OLD / "latency.json", "latency.json")
    words = "--proposals 2 --validation-batches 2 --validation-batch-size 8 --order global-op-once --max-params 2700"
    limits = "--max-latency 2.45 --latency-table latency.json --train-channels 2 --train-layers 1"
    assert run(f"search {CELLS} {words} {limits} --out run") == 0
    assert_same_result(Path("run"), OLD / "search" / "budgets")
    for before in (OLD / "search" / "budgets", OLD / "interrupted" / "budgets"):
        assert_equal_documents(read(Path("run", "config.json")), read(before / "config.json"))


def test_a_training_is_evaluated(capsys: Output) -> None:
    folder = copy_old("search/nasbench201")
    last = rows(folder / "train" / "digits")[-1]
    for place in (folder, folder / "train" / "digits"):
        assert run(f"evaluate {place} --device cpu") == 0
        said = re.search(
            r"test accuracy ([\d.]+) % on the 360 test images of digits \(loss ([\d.]+)\)", capsys.readouterr().out
        )
        assert said
        # Rounding of another machine may change the class of an image, hardly of two.
        assert float(said[1]) == pytest.approx(last["test_accuracy"], abs=0.3)
        assert float(said[2]) == pytest.approx(last["test_loss"], rel=1e-4)


def test_a_training_is_resumed() -> None:
    folder, finished = copy_old("interrupted/training"), OLD / "search" / "nasbench201" / "train" / "digits"
    first = rows(folder)
    assert len(first) == 1
    assert run(f"train --resume {folder}") == 0
    assert rows(folder)[:1] == first
    for one, other in zip(rows(folder), rows(finished), strict=True):  # images are augmented by other numbers now
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=0.05)
        assert (one["epoch"], one["lr"], one["drop_path"]) == (other["epoch"], other["lr"], other["drop_path"])
    assert run(f"evaluate {folder} --device cpu") == 0


def test_a_training_goes_on_with_its_weights_and_momentum() -> None:
    folder = copy_old("interrupted/training")
    space, architecture, _ = read_architecture(str(folder / "architecture.json"), None)
    config = make_config_from(read_arguments(folder), folder)
    trainer = Trainer(space, architecture, load_data("digits"), config, torch.device("cpu"))
    assert trainer.load_checkpoint(folder / "last.pt") == 1
    before, now = torch.load(folder / "last.pt", weights_only=True), trainer.state_dict()
    torch.testing.assert_close(now["network"], before["network"], rtol=0, atol=0)
    momentum, expected = (
        [values["momentum_buffer"] for values in state["optimizer"]["state"].values()] for state in (now, before)
    )
    assert len(momentum) == len(list(trainer.network.parameters()))
    torch.testing.assert_close(momentum, expected, rtol=0, atol=0)
    assert (trainer.epoch, trainer.history) == (1, before["rows"])


def test_a_finished_training_stays_as_it_is() -> None:
    folder = copy_old("search/nasbench201") / "train" / "digits"
    before = rows(folder)
    assert run(f"train --resume {folder}") == 0
    assert rows(folder) == before


def test_what_a_search_found_is_trained() -> None:
    folder = copy_old("search/one-shot")
    size = "--channels 2 --layers 3 --epochs 1 --batch-size 512 --auxiliary-weight 0 --device cpu"
    assert run(f"train --arch {folder}/architecture.json {size}") == 0
    assert read(folder / "train" / "digits" / "architecture.json") == read(folder / "architecture.json")


@pytest.mark.parametrize("name", [*MEASUREMENTS, "proxies-interrupted", "search-interrupted"])
def test_a_measurement_is_resumed_with_the_same_result(name: str) -> None:
    kind, folder = name.removesuffix("-interrupted"), copy_old(f"benchmark/{name}")
    before = journal(folder)
    shutil.copy(OLD / "table.csv", "table.csv")
    assert run(f"benchmark {kind} {CELLS} --table table.csv {MEASUREMENTS[kind]} --out {folder}") == 0
    now = journal(folder)
    assert {file: now[file][: len(done)] for file, done in before.items()} == before
    assert_equal_documents(now, journal(OLD / "benchmark" / kind))
    assert_equal_documents(read(folder / "result.json"), read(OLD / "benchmark" / kind / "result.json"))
    assert (folder / "report.md").exists()


def test_results_are_written_as_one_page() -> None:
    folders = " ".join(str(copy_old(f"benchmark/{kind}")) for kind in MEASUREMENTS)
    assert run(f"benchmark report {folders} --out page.md") == 0
    page = Path("page.md").read_text()
    assert len(re.findall("^## ", page, re.MULTILINE)) == 3
    assert "91.25" in page


def pictures() -> TensorDataset:
    """Return the images that make.py searched on."""
    images = (torch.arange(40 * 3 * 8 * 8) * 7919 % 257).reshape(40, 3, 8, 8) / 256 - 0.5
    return TensorDataset(images, torch.arange(40) % 5)


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_a_search_from_python_is_resumed(name: str) -> None:
    folder = copy_old(f"python/{name}")
    settings = read(folder / "config.json")["search"]
    result = zcpt.search("nasbench201", pictures(), num_classes=5, run_dir=folder, resume=True, **settings)
    assert result.architecture.to_json() == read(OLD / "python" / "finished" / "architecture.json")
    assert_same_result(folder, OLD / "python" / "finished")
    assert zcpt.replay(folder, pictures()).difference == ""
