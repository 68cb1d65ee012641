"""One search in several processes: the same run folder as in one, and no process that blocks forever."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch.utils.data import TensorDataset

import zcpt
from tests.processes import run_in_processes
from tests.zcpt.search.conftest import run_small_search
from tests.zcpt.search.test_run import content
from zcpt.errors import CallbackError, ConfigError, DataError, LostError, ProxyError, SpaceError
from zcpt.journal import Journal
from zcpt.processes import join_default_group
from zcpt.search.propose import Proposer
from zcpt.search.validate import _assign_trials

SMALL = {"proxy": "hashed", "proposals": 4, "validation_batches": 7, "validation_inits": 3, "num_classes": 10}
SMALL |= {"batch_size": 4, "validation_batch_size": 4, "channels": 4, "layers": 1}


def run_in_group(size: Any, work: Any, tmp_path: Path, seconds: int = 20) -> Any:
    """Return what ``work(rank)`` returns or raises in each process of a group."""
    store = tmp_path / f"store-{len(list(tmp_path.glob('store-*')))}"

    def member(rank: Any) -> Any:
        logging.disable()
        dist.init_process_group("gloo", f"file://{store}", timedelta(seconds=seconds), size, rank)
        return work(rank)

    return run_in_processes(size, member)


def search(pictures: TensorDataset, run: Any, callbacks: Any = (), resume: bool = False, **options: Any) -> Any:
    options = {**SMALL, **options}
    return zcpt.search("nasbench201", pictures, run_dir=run, resume=resume, callbacks=callbacks, **options)


class EventRecorder(zcpt.Callback):
    """Records all events in their order, without the seconds."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def on_decision(self, proposal: Any, decision: Any, replayed: Any) -> None:
        self.all.append(("decided", proposal, decision.step, decision.choice, decision.scores, replayed))

    def on_proposal(self, proposal: Any, architecture: Any) -> None:
        self.all.append(("proposed", proposal, architecture))

    def on_validation_start(self, candidates: Any) -> None:
        self.all.append(("validating", tuple(candidates)))

    def on_validation_batch(self, batch: int, scores: Any, replayed: Any) -> None:
        self.all.append(("validated", batch, scores, replayed))

    def on_search_end(self, result: Any) -> None:
        self.all.append(("finished", result.architecture))

    def on_close(self) -> None:
        self.all.append(("closed",))


def record_events(pictures: TensorDataset, run: Any, **options: Any) -> Any:
    recorder = EventRecorder()
    result = search(pictures, run, [recorder], **options)
    return result.architecture, recorder.all


@contextmanager
def patch_attribute(owner: Any, name: Any, value: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, pictures: TensorDataset) -> Any:
    """Return a search in one process, and its events."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return run, record_events(pictures, run)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_every_number_of_processes_makes_the_same_run(
    size: int, single: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    whole, (architecture, told) = single
    found = run_in_group(size, lambda rank: record_events(pictures, tmp_path / "run"), tmp_path)
    assert found == [(architecture, told)] + [(architecture, [])] * (size - 1)
    assert content(tmp_path / "run") == content(whole)


@pytest.mark.parametrize("changes", [{"order": "global-op-iter"}, {"preset": "paper", "validation_batches": 5}])
def test_processes_make_the_same_run_with_other_settings(changes: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    changes = {"proposals": 3, **changes}
    search(pictures, tmp_path / "whole", **changes)
    run_in_group(2, lambda rank: search(pictures, tmp_path / "run", **changes), tmp_path)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_real_proxy_on_another_space(pictures: TensorDataset, tmp_path: Path) -> None:
    changes = {"proxy": "naswot", "proposals": 2, "layers": 8, "validation_batches": 2}
    space = zcpt.get_space("nasbench-macro")
    run_small_search(space, pictures, run_dir=tmp_path / "whole", **changes)
    run_in_group(2, lambda rank: run_small_search(space, pictures, run_dir=tmp_path / "run", **changes)[0], tmp_path)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def truncate_run(whole: Any, run: Any, share: Any) -> None:
    """Return a run folder as one process leaves it when it is killed."""
    (run / "journal").mkdir(parents=True)
    (run / "config.json").write_bytes((whole / "config.json").read_bytes())
    left = int(share * sum(path.stat().st_size for path in (whole / "journal").iterdir()))
    for path in sorted((whole / "journal").iterdir()):
        (run / "journal" / path.name).write_bytes(path.read_bytes()[: max(left, 0)])
        left -= path.stat().st_size


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_two_processes_resume_what_one_process_began(
    share: float, single: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    whole, (architecture, told) = single
    truncate_run(whole, tmp_path / "run", share)
    found = run_in_group(2, lambda rank: record_events(pictures, tmp_path / "run", resume=True), tmp_path)
    assert [a for a, _ in found] == [architecture] * 2
    assert [event[:-1] for event in found[0][1]] == [event[:-1] for event in told]
    assert content(tmp_path / "run") == content(whole)


@pytest.mark.parametrize(("file", "lines"), [("proposal_001", 3), ("proposal_002", 1), ("validation", 4)])
def test_one_or_three_processes_resume_what_two_began(
    file: str, lines: int, single: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    whole, (architecture, _) = single
    before, names = Journal.append, []

    def dies(self: Any, name: Any, record: Any) -> None:
        before(self, name, record)
        names.append(name)
        if self.folder is not None and names.count(file) == lines:
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(rank: Any) -> None:
        with patch_attribute(Journal, "append", dies):
            search(pictures, tmp_path / "run")

    killed, other = sorted(run_in_group(2, begin, tmp_path), key=lambda outcome: outcome is not None)
    assert killed is None
    assert other[0] is LostError
    assert f"finished work is on disk, and --resume {tmp_path / 'run'} continues with any number" in other[1]
    left = (tmp_path / "run" / "journal" / f"{file}.jsonl").read_text().splitlines()
    assert len(left) == lines
    size = 3 if lines == 3 else 1
    found = run_in_group(size, lambda rank: search(pictures, tmp_path / "run", resume=True).architecture, tmp_path)
    assert found == [architecture] * size
    assert content(tmp_path / "run") == content(whole)


def test_an_error_in_one_process_ends_all_with_the_same_sentence(
    single: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    propose = Proposer.propose

    def fails(self: Any, proposal: Any) -> Any:
        if proposal == 1:
            raise ProxyError("not this network.")
        return propose(self, proposal)

    def begin(rank: Any) -> None:
        with patch_attribute(Proposer, "propose", fails):
            search(pictures, tmp_path / "run")

    found = run_in_group(3, begin, tmp_path)
    assert [outcome[:2] for outcome in found] == [(ProxyError, "not this network.")] * 3
    assert (tmp_path / "run" / "journal" / "proposal_000.jsonl").exists()
    architecture = search(pictures, tmp_path / "run", resume=True).architecture
    assert architecture == single[1][0]
    assert content(tmp_path / "run") == content(single[0])


def test_a_bug_in_one_process_ends_all_with_its_traceback(pictures: TensorDataset, tmp_path: Path) -> None:
    def fails(self: Any, proposal: Any) -> Any:
        return dict[str, int]()["nothing"] if proposal == 1 else None

    def begin(rank: Any) -> None:
        with patch_attribute(Proposer, "propose", fails):
            search(pictures, tmp_path / "run")

    first, second = run_in_group(2, begin, tmp_path)
    assert second[0] is KeyError
    assert first[0] is RuntimeError
    assert first[1].startswith("process 1 failed:\n")
    assert 'return dict[str, int]()["nothing"]' in first[1]
    assert not (tmp_path / "run").exists()  # nothing was decided


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_ends_all(rank: int, single: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    append = Journal.append

    def full(self: Any, name: Any, record: Any) -> None:
        if self.folder is not None and name == ("validation" if rank == 0 else "proposal_003"):
            raise OSError(28, "No space left on device", "journal")
        append(self, name, record)

    def begin(rank: Any) -> None:
        with patch_attribute(Journal, "append", full):
            search(pictures, tmp_path / "run")

    found = run_in_group(2, begin, tmp_path)
    assert [outcome[:2] for outcome in found] == [(OSError, "[Errno 28] No space left on device: 'journal'")] * 2
    assert run_in_group(2, lambda rank: search(pictures, tmp_path / "run", resume=True).architecture, tmp_path)
    assert content(tmp_path / "run") == content(single[0])


def test_an_error_after_the_last_exchange_reaches_all_processes(pictures: TensorDataset, tmp_path: Path) -> None:
    def begin(rank: Any) -> None:
        with patch_attribute(EventRecorder, "on_search_end", lambda self, result: dict[str, int]()["nothing"]):
            record_events(pictures, None)

    first, second = run_in_group(2, begin, tmp_path)
    assert (first[0], second[0]) == (CallbackError, CallbackError)
    assert "EventRecorder.on_search_end raised KeyError: 'nothing'" in second[1]


@pytest.mark.parametrize(
    ("changes", "kind", "complaint"),
    [
        ({"batch_size": 41}, DataError, "more than the 40 images"),
        ({"proposals": "by rank"}, ConfigError, "proposals is 2, not 3 in process 1. Start all with the same"),
        ({"channels": "wrong on 1"}, ConfigError, "channels"),
    ],
)
def test_invalid_arguments_are_refused_in_all_processes_and_leave_no_folder(
    changes: Any, kind: Any, complaint: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    def begin(rank: Any) -> None:
        own = {"by rank": 2 + rank, "wrong on 1": -rank or 4}
        search(pictures, tmp_path / "run", **{name: own.get(value, value) for name, value in changes.items()})

    found = run_in_group(2, begin, tmp_path)
    assert all(outcome[0] is kind and complaint in outcome[1] for outcome in found), found
    assert not (tmp_path / "run").exists()


def test_a_space_that_only_one_process_knows_is_refused_in_all(pictures: TensorDataset, tmp_path: Path) -> None:
    options: Any = SMALL

    def begin(rank: Any) -> None:
        zcpt.search(["nasbench201", "nasbench202"][rank], pictures, run_dir=tmp_path / "run", **options)

    found = run_in_group(2, begin, tmp_path)
    assert all(outcome[0] is SpaceError and "unknown space 'nasbench202'" in outcome[1] for outcome in found), found
    assert not (tmp_path / "run").exists()


def test_a_folder_that_exists_is_refused_in_all(single: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    found = run_in_group(2, lambda rank: search(pictures, single[0]), tmp_path)
    assert all(outcome[0] is ConfigError and "exists already" in outcome[1] for outcome in found)


def test_the_group_of_the_caller_is_left_as_it_was(pictures: TensorDataset, tmp_path: Path) -> None:
    def twice(rank: Any) -> Any:
        results = [search(pictures, None, proposals=2).architecture for _ in range(2)]
        dist.barrier()
        with join_default_group() as ranks:
            return results[0] == results[1], dist.get_world_size(), ranks.gather(rank)

    assert run_in_group(2, twice, tmp_path) == [(True, 2, [0, 1])] * 2


@pytest.mark.slow
def test_a_proposal_may_take_longer_than_the_timeout_of_the_callers_group(
    single: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    propose = Proposer.propose

    def slowly(self: Any, proposal: Any) -> Any:
        time.sleep(6 * proposal)
        return propose(self, proposal)

    def begin(rank: Any) -> Any:
        with patch_attribute(Proposer, "propose", slowly):
            return search(pictures, None, proposals=2).candidates[0].proposals[0]

    assert run_in_group(2, begin, tmp_path, seconds=3) == [0, 0]


def assign_turns(inits: Any, batches: Any, ranks: Any) -> Any:
    return list(
        _assign_trials([(init, batch) for init in range(inits) for batch in range(init, batches, inits)], ranks)
    )


@pytest.mark.parametrize("inits", [1, 3, 4, 10])
@pytest.mark.parametrize("ranks", [1, 2, 4, 13])
def test_validation_is_shared_evenly_and_keeps_an_initialisation_together(inits: int, ranks: int) -> None:
    batches = 40
    dealt = assign_turns(inits, batches, ranks)
    lines = [line for share in dealt for line in share if line is not None]
    assert sorted(lines) == [(init, batch) for init in range(inits) for batch in range(init, batches, inits)]
    assert all(len(share) == ranks for share in dealt)
    assert len(dealt) <= -(-batches // ranks) + 1
    built = [len({share[rank][0] for share in dealt if share[rank]}) for rank in range(ranks)]
    assert max(built) <= inits // ranks + inits % ranks


def test_one_process_scores_the_trials_in_their_order() -> None:
    assert [share[0] for share in assign_turns(3, 7, 1)] == [(0, 0), (0, 3), (0, 6), (1, 1), (1, 4), (2, 2), (2, 5)]
