"""Finalists: the best proposals are measured, and the best value wins."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import TRUSTED
from tests.zcpt.search.conftest import run_small_search
from tests.zcpt.test_processes import run_in_group
from tests.zcpt.trials.values import Convolutions, Interrupted, hash_architecture
from train.data import load_data
from train.reduced import prepare_training
from zcpt.errors import ConfigError, DataError
from zcpt.monitor import Progress, TensorBoard
from zcpt.search import Finalist, SearchResult
from zcpt.search.validate import rank_candidates
from zcpt.trials import Measurement, Value

SPACE = zcpt.get_space("nasbench201")
OPTIONS: dict[str, Any] = {"proxy": "hashed", "validation_proxy": "sized", "proposals": 4, "finalists": 3}


@zcpt.register_proxy
class Sized(zcpt.Proxy):
    """A number that looks random and depends on the number of parameters, so that networks differ."""

    name, summary, higher_is_better, min_batch = "sized", "", True, 1

    def score(self, net: Any, batch: zcpt.Batch, mixture: zcpt.Mixture | None) -> float:
        """Hash the number of parameters and the images."""
        return zlib.crc32(repr((sum(p.numel() for p in net.parameters()), batch.images.sum().item())).encode()) / 2**32


TRUSTED.add(Sized)


class Fails:
    """Fails for some architectures by an error, for others by a value that is not finite."""

    name = "fails"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
        """Fail for all architectures where none are named; else for the named ones."""
        text = SPACE.format(architecture)
        if not self.texts or text == self.texts[0]:
            raise DataError("no images.")
        return Measurement(math.nan if text in self.texts else hash_architecture(architecture))

    def describe(self) -> Mapping[str, Any]:
        """Return the names."""
        return {"texts": self.texts}


class Seeds(Convolutions):
    """Records the seeds."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
        """Record the seed."""
        self.seeds.append(seed)
        return super().measure(architecture, seed)


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.texts.append(record.getMessage())


class Records(zcpt.Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_finalists_start(self, finalists: Any) -> None:
        self.events.append(len(finalists))

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        self.events.append((finalist.architecture, replayed))


def search(pictures: TensorDataset, value: Value | None = None, **options: Any) -> SearchResult:
    return run_small_search(SPACE, pictures, finalist_value=value or Convolutions(), **{**OPTIONS, **options})[0]


@pytest.fixture(scope="module")
def whole(pictures: TensorDataset) -> SearchResult:
    """Return the result of a search that nothing has stopped."""
    return search(pictures)


def rank(result: SearchResult) -> list[zcpt.Architecture]:
    """Return the candidates in the order of validation."""
    order = rank_candidates([candidate.scores for candidate in result.candidates], result.config)
    return [result.candidates[index].architecture for index in order]


def read_journal(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "journal" / "finalists.jsonl").read_text().splitlines()]


def test_the_best_value_of_the_best_proposals_wins(pictures: TensorDataset, tmp_path: Path) -> None:
    run, value = tmp_path / "run", Seeds()
    without = run_small_search(SPACE, pictures, **{**OPTIONS, "finalists": 0})[0]
    result = search(pictures, value, run_dir=run)
    assert result.candidates == without.candidates
    assert without.finalists == ()
    assert [finalist.architecture for finalist in result.finalists] == rank(result)[:3]
    assert result.finalists[0].architecture == without.architecture
    assert result.architecture == max(result.finalists, key=lambda finalist: finalist.value).architecture
    assert len(set(value.seeds)) == 1
    records = read_journal(run)
    assert [record["architecture"] for record in records] == [SPACE.format(f.architecture) for f in result.finalists]
    assert [record["value"] for record in records] == [finalist.value for finalist in result.finalists]
    assert all(record["by"] == {"name": "convolutions"} and record["seconds"] == 0.25 for record in records)
    config = json.loads((run / "config.json").read_text())
    assert config["search"]["finalists"] == 3
    assert config["finalist_value"] == {"name": "convolutions"}
    proposals = json.loads((run / "proposals.json").read_text())
    values = {proposal["text"]: proposal["finalist"]["value"] for proposal in proposals if "finalist" in proposal}
    assert values == {record["architecture"]: record["value"] for record in records}
    assert "<th>value</th>" in result._repr_html_()


def test_a_search_that_is_stopped_goes_on_with_the_missing_finalists(
    whole: SearchResult, pictures: TensorDataset, tmp_path: Path
) -> None:
    for calls in (0, 2):
        run, value, records = tmp_path / str(calls), Seeds(), Records()
        with pytest.raises(KeyboardInterrupt):
            search(pictures, Interrupted(calls), run_dir=run)
        path = run / "journal" / "finalists.jsonl"
        if calls == 2:  # a kill cuts the last line short
            path.write_text(path.read_text()[:-5])
        result = zcpt.search(
            SPACE, pictures, zcpt.SearchConfig(**json.loads((run / "config.json").read_text())["search"]),
            num_classes=10, run_dir=run, resume=True, finalist_value=value, callbacks=[records],
        )  # fmt: skip
        assert (result.architecture, result.finalists) == (whole.architecture, whole.finalists)
        assert records.events[0] == 3
        assert [replayed for _, replayed in records.events[1:]] == [True] * (3 - len(value.seeds)) + [False] * len(
            value.seeds
        )


def test_failed_finalists_rank_last_and_are_named(
    whole: SearchResult, pictures: TensorDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [SPACE.format(architecture) for architecture in rank(whole)]
    result = search(pictures, Fails(*texts[:2]), run_dir=tmp_path / "run")
    assert SPACE.format(result.architecture) == texts[2]
    assert [finalist.failure for finalist in result.finalists] == ["no images.", "the value is nan", ""]
    assert [finalist.value for finalist in result.finalists[:2]] == [-math.inf, -math.inf]
    assert [text in caplog.text for text in texts[:3]] == [True, True, False]
    assert caplog.text.count("failed") == 2
    assert zcpt.replay(tmp_path / "run", pictures).difference == ""


def test_where_all_finalists_fail_another_value_can_measure_them(
    whole: SearchResult, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="none of 3 finalists got a finite value by fails: no images. Resume"):
        search(pictures, Fails(), run_dir=run)
    assert not (run / "architecture.json").exists()
    result = search(pictures, Convolutions(), run_dir=run, resume=True)
    assert result.finalists == whole.finalists
    assert [record["by"]["name"] for record in read_journal(run)] == ["fails"] * 3 + ["convolutions"] * 3
    assert json.loads((run / "config.json").read_text())["finalist_value"] == {"name": "convolutions"}
    assert zcpt.replay(run, pictures).finalists == 3


def test_a_finished_search_is_extended_by_finalists(
    whole: SearchResult, pictures: TensorDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, value = tmp_path / "run", Seeds()
    run_small_search(SPACE, pictures, run_dir=run, **{**OPTIONS, "finalists": 0})
    assert search(pictures, value, run_dir=run, resume=True).finalists == whole.finalists
    more = search(pictures, value, run_dir=run, resume=True, finalists=50)
    assert len(more.finalists) == len(more.candidates) == len(value.seeds) == 4
    assert more.finalists[:3] == whole.finalists
    assert "is extended from 0 to 3 finalists" in caplog.text
    with pytest.raises(ConfigError, match="has --finalists 50 already"):
        search(pictures, run_dir=run, resume=True)


def test_a_replay_does_not_measure_again(pictures: TensorDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = search(pictures, run_dir=run)
    outcome = zcpt.replay(run, pictures)
    assert (outcome.difference, outcome.finalists) == ("", 3)
    records = read_journal(run)
    first = next(r for r in records if r["architecture"] == SPACE.format(result.architecture))
    first["value"] = -1.0
    path = run / "journal" / "finalists.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "another finalist has the best value" in zcpt.replay(run, pictures).difference
    path.write_text("".join(json.dumps(record) + "\n" for record in records[1:]))
    assert "finalists.jsonl in the journal has no |" in zcpt.replay(run, pictures).difference


def test_damaged_lines_are_refused(pictures: TensorDataset, tmp_path: Path) -> None:
    search(pictures, run_dir=tmp_path / "run")
    path = tmp_path / "run" / "journal" / "finalists.jsonl"
    path.write_text(path.read_text().replace('"seconds"', '"second"', 1))
    with pytest.raises(ConfigError, match=r"line 1 of .*finalists.jsonl is damaged: it has no 'seconds'"):
        search(pictures, run_dir=tmp_path / "run", resume=True)


def test_proposals_that_are_all_the_same_are_not_measured(pictures: TensorDataset) -> None:
    value = Seeds()
    assert search(pictures, value, proposals=1).finalists == ()
    assert value.seeds == []


@pytest.mark.parametrize(
    ("value", "count", "complaint"),
    [
        (None, 3, "--finalists 3 needs what measures them"),
        (Convolutions(), 0, "no number of them: add --finalists K"),
        (Convolutions(), 1, "--finalists 1 leaves no choice"),
        (Convolutions(), -2, "--finalists -2 must not be negative"),
        ("econas", 3, "'econas' has no 'measure'"),
    ],
)
def test_finalists_and_their_value_go_together(
    value: Any, count: int, complaint: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    options = {**OPTIONS, "finalists": count, "run_dir": tmp_path / "run"}
    with pytest.raises(ConfigError, match=complaint):
        run_small_search(SPACE, pictures, finalist_value=value, **options)
    assert not (tmp_path / "run").exists()


def test_processes_share_the_finalists_and_say_that_they_use_no_workers(
    whole: SearchResult, pictures: TensorDataset, tmp_path: Path
) -> None:
    def work(rank: int) -> Any:
        value, messages = Seeds(), Messages()
        logging.disable(logging.NOTSET)  # the processes of the tests log nothing otherwise
        logging.getLogger("zcpt.search.finalists").addHandler(messages)
        result = search(pictures, value, run_dir=tmp_path / "two", workers=3)
        return result.architecture, result.finalists, len(value.seeds), messages.texts

    outcomes = run_in_group(2, work, tmp_path)
    assert ["--workers 3 is not used" in " ".join(outcome[3]) for outcome in outcomes] == [True, False]
    assert [outcome[:2] for outcome in outcomes] == [(whole.architecture, whole.finalists)] * 2
    assert [outcome[2] for outcome in outcomes] == [2, 1]
    texts = [record["architecture"] for record in read_journal(tmp_path / "two")]
    assert texts == [SPACE.format(finalist.architecture) for finalist in whole.finalists]


@pytest.mark.slow
def test_worker_processes_measure_the_same(whole: SearchResult, pictures: TensorDataset) -> None:
    assert search(pictures, workers=2).finalists == whole.finalists


def test_monitors_show_the_finalists(pictures: TensorDataset, tmp_path: Path, blank_pictures: None) -> None:
    settings = {"num_classes": 10, "batch_size": 4, "validation_batches": 2, "validation_batch_size": 4, "channels": 4}
    monitors = [Progress(), TensorBoard(tmp_path / "tensorboard")]
    result = zcpt.search(
        SPACE, pictures, finalist_value=Convolutions(), callbacks=monitors, **{**OPTIONS, **settings, "proposals": 2}
    )
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = sorted(event.value for event in events.Scalars("finalists/value"))
    assert scalars == pytest.approx(sorted(finalist.value for finalist in result.finalists))
    (text,) = events.Tensors("result/finalists/text_summary")
    assert SPACE.format(result.architecture) in text.tensor_proto.string_val[0].decode()


def test_short_trainings_choose_among_finalists(pictures: TensorDataset) -> None:
    """One epoch of a few digits, for real; the search is repeated bit for bit, trainings included."""
    training = prepare_training(SPACE, load_data("digits"), "econas", epochs=1, layers=1, samples=0.1, channels=4)
    results = [search(pictures, training, proposals=2, finalists=2) for _ in range(2)]
    for result in results:
        assert [round(finalist.report["epochs"]) for finalist in result.finalists] == [1, 1]
        assert all(0 <= finalist.value <= 100 and finalist.seconds > 0 for finalist in result.finalists)
    first, second = ([finalist.value for finalist in result.finalists] for result in results)
    assert first == second
