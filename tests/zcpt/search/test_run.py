"""A whole search: its run folder, its repetition, its resumption."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import zcpt
from tests.conftest import FEW, SPACES
from tests.zcpt.search.conftest import run_small_search
from zcpt import ConfigError, DataError
from zcpt.errors import CallbackError
from zcpt.monitor import TensorBoard
from zcpt.options import parse_number
from zcpt.space import SearchSpace

SMALL: dict[str, Any] = {"proxy": "hashed", "proposals": 3, "validation_batches": 4, "validation_inits": 2}


def content(run: Any) -> Any:
    """Read every file that must be the same for the same search; seconds are left out."""
    files = {}
    for path in sorted(run.rglob("*")):
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            files[path.name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        elif path.is_file() and "tfevents" not in path.name:
            files[path.name] = path.read_text()
    return files


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: TensorDataset) -> Any:
    """Return a finished search of each space."""

    class Runs(dict[str, Path]):
        def __missing__(self, name: Any) -> Any:
            self[name] = tmp_path_factory.mktemp("runs") / name
            run_small_search(zcpt.get_space(name), pictures, run_dir=self[name], **SMALL)
            return self[name]

    return Runs()


@pytest.mark.few_spaces
def test_the_run_folder_holds_all_files(space: SearchSpace, finished: Any) -> None:
    run = finished[space.name]
    config = json.loads((run / "config.json").read_text())
    assert config["space"] == space.name
    assert config["search"]["proposals"] == 3
    assert set(config["seeds"]) == {"weights", "alpha", "order", "batch", "init", "validation"}
    assert len(set(config["seeds"].values())) == 6
    assert config["images"] == {"size": [8, 8], "channels": 3, "classes": 10}
    assert set(config["versions"]) == {"zcpt", "torch", "python"}
    proposals = json.loads((run / "proposals.json").read_text())
    assert sorted(n for p in proposals for n in p["proposals"]) == [0, 1, 2]
    chosen = [p for p in proposals if p["chosen"]]
    assert len(chosen) == 1
    architecture = zcpt.Architecture.from_json((run / "architecture.json").read_text())
    assert chosen[0]["architecture"] == architecture.to_json()
    assert space.parse((run / "genotype.txt").read_text()) == architecture
    lines = (run / "journal" / "proposal_001.jsonl").read_text().splitlines()
    assert len(lines) == sum(len(choice.round_sizes) for choice in space.choices)


def test_the_docs_list_every_journal_field_and_every_file(finished: Any) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "run-folder.md").read_text()
    tables = [re.findall(r"^\| `(\w+)` \|", table, re.M) for table in manual.split("| field of ")[1:]]
    run = finished["nasbench201"]
    for file, fields in zip(("proposal_000", "validation"), tables[:2], strict=True):  # the third is of trials
        line = (run / "journal" / f"{file}.jsonl").read_text().splitlines()[0]
        assert list(json.loads(line)) == fields
    for path in run.rglob("*"):
        if path.is_file() and path.name != ".lock":
            name = re.sub(r"proposal_\d+", "proposal_000", str(path.relative_to(run)))
            assert f"`{name}`" in manual


@pytest.mark.few_spaces
def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    space: SearchSpace, finished: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    run_small_search(space, pictures, run_dir=tmp_path / "again", **SMALL)
    run_small_search(space, pictures, run_dir=tmp_path / "other", seed=1, **SMALL)
    first, again, other = content(finished[space.name]), content(tmp_path / "again"), content(tmp_path / "other")
    assert again == first
    assert other["proposal_000.jsonl"] != first["proposal_000.jsonl"]


def test_random_numbers_of_the_caller_do_not_matter_and_are_not_touched(pictures: TensorDataset) -> None:
    space = zcpt.get_space("nasbench201")
    torch.manual_seed(1)
    one = run_small_search(space, pictures, proxy="hashed")[0]
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert run_small_search(space, pictures, proxy="hashed")[0].architecture == one.architecture


@pytest.mark.parametrize(
    ("space", "share"),
    [
        *(("nasbench201", share) for share in (0.0, 0.13, 0.37, 0.66, 0.71, 0.9, 0.999)),
        *((name, share) for name in FEW[1:] for share in (0.13, 0.66, 0.9)),
        *(pytest.param(name, 0.37, marks=pytest.mark.slow) for name in SPACES if name not in FEW),
    ],
    indirect=["space"],
)
def test_a_search_stopped_anywhere_ends_the_same(
    space: SearchSpace, share: float, finished: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    """Truncate the journal at any byte, as a kill does, and resume."""
    whole = finished[space.name]
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(whole / "config.json", run)
    journal = sorted((whole / "journal").iterdir())
    left = int(share * sum(path.stat().st_size for path in journal))
    (run / "journal").mkdir()
    for path in journal:
        kept = path.read_bytes()[: max(left, 0)]
        left -= path.stat().st_size
        if kept:
            (run / "journal" / path.name).write_bytes(kept)
    run_small_search(space, pictures, run_dir=run, resume=True, **SMALL)
    assert content(run) == content(whole)


@pytest.mark.few_spaces
def test_resuming_a_finished_search_changes_nothing(
    space: SearchSpace, finished: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = shutil.copytree(finished[space.name], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result, recorder = run_small_search(space, pictures, run_dir=run, resume=True, **SMALL)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert len(recorder.architectures) == 3
    assert result.run_dir == run


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"seed": 1}, "its seed is 0, not 1"), ({"order": "fixed"}, "its order is 'random', not 'fixed'")],
)
def test_resuming_with_other_settings_is_refused(
    changes: Any, complaint: str, finished: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = shutil.copytree(finished["nasbench201"], tmp_path / "run")
    before = content(run)
    with pytest.raises(ConfigError, match=complaint):
        run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, resume=True, **{**SMALL, **changes})
    assert content(run) == before


def test_resuming_on_other_images_is_refused(finished: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    run = shutil.copytree(finished["nasbench201"], tmp_path / "run")
    images, labels = pictures.tensors
    other = torch.utils.data.TensorDataset(images + 1e-3, labels)
    with pytest.raises(ConfigError, match="fingerprint"):
        run_small_search(zcpt.get_space("nasbench201"), other, run_dir=run, resume=True, **SMALL)


def test_a_resume_with_another_version_warns(
    finished: Any, pictures: TensorDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(finished["nasbench201"], tmp_path / "run")
    document = json.loads((run / "config.json").read_text())
    document["versions"]["torch"] = "1.0"
    (run / "config.json").write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING):
        run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, resume=True, **SMALL)
    assert "scores may differ" in caplog.text


ENGINES = [({}, "fast"), ({"engine": "fast"}, "fast"), ({"engine": "plain"}, "plain"), ({"proxy": "hashed"}, "plain")]


@pytest.mark.parametrize(("options", "engine"), ENGINES)
def test_the_folder_records_the_engine(options: Any, engine: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=tmp_path / "run", **options)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["engine"] == engine
    assert config["search"]["engine"] == options.get("engine", "auto")


def test_a_resume_with_another_engine_warns(
    pictures: TensorDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space, run = zcpt.get_space("nasbench201"), tmp_path / "run"
    run_small_search(space, pictures, run_dir=run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "engine": "plain"}))  # as before the fast engine existed
    with caplog.at_level(logging.WARNING):
        run_small_search(space, pictures, run_dir=run, resume=True)
    (remark,) = [record.message for record in caplog.records]
    assert remark == "the search began with engine plain and is resumed with fast: scores may differ"


@pytest.mark.parametrize("name", ["nasbench201", "toy"])
@pytest.mark.parametrize("proposals", [1, 2])
def test_engines_and_memory_limits_give_the_same_result(name: str, proposals: int, pictures: TensorDataset) -> None:
    space = zcpt.get_space(name)
    plain, decisions = run_small_search(space, pictures, engine="plain", proposals=proposals)
    fast = run_small_search(space, pictures, engine="fast", proposals=proposals)
    for found, others in (fast, run_within_least_memory(space, pictures, proposals)):
        for (_, one), (_, other) in zip(decisions.all, others.all, strict=True):
            assert [one.choice, one.kept] == [other.choice, other.kept]
            assert one.scores == pytest.approx(other.scores, abs=1e-3, nan_ok=True)
        assert found.architecture == plain.architecture


def run_within_least_memory(space: SearchSpace, pictures: TensorDataset, proposals: int) -> Any:
    """Search with the limit that refusals name: the first one is of the supernet, a second one of the validation."""
    error = refuse_memory_limit(space, pictures, proposals)
    for _ in range(2):
        match = re.search(r"needs (\S+) bytes", str(error))
        assert match
        try:
            return run_small_search(space, pictures, proposals=proposals, max_memory=parse_number(match[1]))
        except ConfigError as refusal:
            error = refusal
    raise error


def refuse_memory_limit(space: SearchSpace, pictures: TensorDataset, proposals: Any) -> Any:
    with pytest.raises(ConfigError, match="is too little") as error:
        run_small_search(space, pictures, proposals=proposals, max_memory=1000)
    return error.value


def test_a_folder_that_exists_is_refused_and_left_alone(finished: Any, pictures: TensorDataset) -> None:
    run = finished["nasbench201"]
    before = content(run)
    with pytest.raises(ConfigError, match=r"exists already: .* --resume"):
        run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, **SMALL)
    assert content(run) == before


def test_a_folder_below_a_file_cannot_be_made(pictures: TensorDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_images_than_there_are_is_refused(pictures: TensorDataset) -> None:
    with pytest.raises(DataError, match="--batch-size 41 is more than the 40 images .* use --batch-size 40 or less"):
        run_small_search(zcpt.get_space("nasbench201"), pictures, batch_size=41)
    both = "--batch-size 41 and --validation-batch-size 42 are more .* --batch-size 40 --validation-batch-size 40 or"
    with pytest.raises(DataError, match=both):
        run_small_search(zcpt.get_space("nasbench201"), pictures, proposals=2, batch_size=41, validation_batch_size=42)


def test_batches_may_be_a_data_set_a_loader_or_tensors(pictures: TensorDataset) -> None:
    space = zcpt.get_space("nasbench201")
    loader = DataLoader(pictures, batch_size=7, shuffle=True)
    results = [
        run_small_search(space, data, proxy="hashed")[0].architecture for data in (pictures, loader, pictures.tensors)
    ]
    assert results[0] == results[1] == results[2]
    with pytest.raises(ConfigError, match="batches cannot be drawn from int"):
        run_small_search(space, 3)


def test_callbacks_are_closed_on_success_and_failure(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends(zcpt.Callback):
        told: ClassVar[list[str]] = []

        def on_search_end(self, result: Any) -> None:
            self.told.append("finished")

        def on_close(self) -> None:
            self.told.append("closed")

    space = zcpt.get_space("nasbench201")
    options: dict[str, Any] = {"proposals": 1, "batch_size": 4, "validation_batch_size": 4, "channels": 2, "layers": 1}
    options |= {"num_classes": 10, "proxy": "diary"}
    zcpt.search(space, pictures, callbacks=[Ends()], **options)
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: float("nan")))
    with pytest.raises(zcpt.ProxyError):
        zcpt.search(space, pictures, callbacks=[Ends()], **options)
    assert Ends.told == ["finished", "closed", "closed"]


@pytest.mark.parametrize(("scored", "left"), [(0, False), (4, False), (5, True)])
def test_an_error_before_the_first_decision_leaves_no_folder(
    diary: Any, pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: int, left: bool
) -> None:
    def fails(mixture: Any) -> Any:
        if len(diary.shown) > scored:  # nasbench201 has five candidates
            raise zcpt.ProxyError("not this network")
        return 0.0

    space, run = zcpt.get_space("nasbench201"), tmp_path / "run"
    options: dict[str, Any] = {"run_dir": run, "proxy": "diary"}
    with monkeypatch.context() as patch:
        patch.setattr(diary, "value", staticmethod(fails))
        with pytest.raises(zcpt.ProxyError, match="not this network"):
            run_small_search(space, pictures, **options)
    assert run.exists() == left
    run_small_search(space, pictures, resume=left, **options)
    assert (run / "architecture.json").exists()


def test_a_failed_resume_removes_nothing(
    diary: Any, pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, run = zcpt.get_space("nasbench201"), tmp_path / "run"
    options: dict[str, Any] = {"run_dir": run, "proxy": "diary"}
    for resume, error in ((False, KeyboardInterrupt), (True, RuntimeError)):

        def fails(mixture: Any, error: Any = error) -> None:
            raise error

        raised = zcpt.ProxyError if error is RuntimeError else error
        with monkeypatch.context() as patch:
            patch.setattr(diary, "value", staticmethod(fails))
            with pytest.raises(raised):
                run_small_search(space, pictures, resume=resume, **options)
        assert (run / "config.json").exists()
    run_small_search(space, pictures, resume=True, **options)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_a_failed_search_removes_only_what_it_wrote(
    existed: bool,
    writes: bool,
    diary: Any,
    pictures: TensorDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither an empty folder of the user nor a file of a callback is lost."""
    run = tmp_path / "run"

    class Writes(zcpt.Callback):
        def on_search_start(self, space: SearchSpace, config: zcpt.SearchConfig) -> None:
            (run / "notes.txt").write_text("mine")

    def fail(mixture: Any) -> float:
        raise zcpt.ProxyError("not this network")

    if existed:
        run.mkdir()
    monkeypatch.setattr(diary, "value", staticmethod(fail))
    callbacks = [TensorBoard(run / "tensorboard"), *([Writes()] if writes else [])]
    with pytest.raises(zcpt.ProxyError, match="not this network"):
        zcpt.search(
            "nasbench201",
            pictures,
            run_dir=run,
            callbacks=callbacks,
            num_classes=10,
            proxy="diary",
            batch_size=4,
            validation_batch_size=4,
            channels=2,
            layers=1,
        )
    assert run.exists() == (existed or writes)
    assert [path.name for path in run.glob("*")] == (["notes.txt"] if writes else [])


def test_a_callback_that_fails_receives_no_event_twice(pictures: TensorDataset) -> None:
    class Fails(zcpt.Callback):
        told = 0

        def on_decision(self, proposal: Any, decision: Any, replayed: Any) -> None:
            self.told += 1
            raise RuntimeError("enough")

    recorder = Fails()
    options: dict[str, Any] = {"batch_size": 4, "validation_batch_size": 4, "channels": 2, "layers": 1}
    with pytest.raises(CallbackError, match="the callback .*Fails.on_decision raised RuntimeError: enough"):
        zcpt.search("nasbench201", pictures, callbacks=[recorder], proxy="hashed", num_classes=10, **options)
    assert recorder.told == 1
