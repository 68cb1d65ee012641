"""``zcpt search`` in several processes: one output, one exit code, one folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.processes import run_in_processes
from tests.test_kill import journal
from tests.zcpt.cli.conftest import QUICK, content
from zcpt.cli import main
from zcpt.journal import Journal

ROOT = Path(__file__).parents[3]
SEARCH = ["search", "--space", "nasbench201", "--proxy", "hashed", *QUICK, "--proposals", "3"]


def join_torchrun(
    size: int, folder: Path, *words: object, before: Callable[[int], None] = lambda rank: None
) -> list[tuple[int | None, str, str]]:
    """Run a command in several processes with the environment of torchrun.

    Returns:
        Exit code, standard output and standard error of each process; code None for one that was killed.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(size)}
    streams = folder.parent / f"{folder.name}-streams"
    streams.mkdir(exist_ok=True)

    def run_command(rank: int) -> int:
        os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank))
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(streams / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        before(rank)
        try:
            code = main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    codes = run_in_processes(size, run_command)
    texts = [[_read_own_lines(streams / f"{rank}.{name}") for name in ("out", "err")] for rank in range(size)]
    return [(code, *both) for code, both in zip(codes, texts, strict=True)]


def _read_own_lines(path: Path) -> str:
    """Read what zcpt wrote, without the lines of torch's own logger."""
    return "".join(line for line in path.read_text().splitlines(keepends=True) if not re.match(r"\[[WI]\d+ ", line))


def results(run: Path) -> tuple[dict[str, Any], list[bytes]]:
    names = ("architecture.json", "genotype.txt", "proposals.json", "config.json")
    return journal(run), [(run / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main([*SEARCH, "--out", str(run)]) == 0
    return run


def test_the_first_process_prints_the_result(alone: Path, cwd: Path) -> None:
    first, second = join_torchrun(2, cwd, *SEARCH, "--out", "run")
    assert first[0] == 0, first[2]
    assert second == (0, "", "")
    assert [line.split()[0] for line in first[1].splitlines()] == ["architecture", "chosen", "size", "run", "next"]
    assert results(cwd / "run") == results(alone)
    assert (cwd / "run" / "cells.png").exists()
    assert len(list((cwd / "run" / "tensorboard").iterdir())) == len(list((alone / "tensorboard").iterdir()))


def test_all_processes_use_one_folder_named_after_the_time(cwd: Path) -> None:
    codes = [code for code, _, _ in join_torchrun(2, cwd, *SEARCH, "--proposals", "2")]
    assert codes == [0, 0]
    (run,) = (cwd / "runs").iterdir()
    assert (run / "architecture.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*SEARCH, "--propsals", "3"], "unknown flag '--propsals': did you mean '--proposals'?"),
        ([*SEARCH, "--batch-size", "100000"], "--batch-size 100000 is more than the"),
        ([*SEARCH, "--max-macs", "1k"], "--max-macs 1k cannot be met"),
        (["evaluate", "run"], "'zcpt evaluate' runs in one process: start it without torchrun."),
    ],
)
def test_a_mistake_is_reported_once(words: list[str], sentence: str, cwd: Path) -> None:
    first, second = join_torchrun(2, cwd, *words)
    assert second == (2, "", "")
    assert first[:2] == (2, "")
    assert first[2].startswith("zcpt: ")
    assert first[2].count("\n") == 1
    assert sentence in first[2]
    assert content(cwd) == {}


def test_an_error_of_another_process_is_reported_once(cwd: Path) -> None:
    append = Journal.append

    def fail(self: Journal, name: str, record: Any) -> None:
        if name == "proposal_001":
            raise zcpt.ProxyError("not this network.")
        append(self, name, record)

    def before(rank: int) -> None:
        Journal.append = fail  # type: ignore[method-assign]

    first, second = join_torchrun(2, cwd, *SEARCH, "--out", "run", before=before)
    assert second == (2, "", "")
    assert first[0] == 2
    assert first[2].count("zcpt: not this network.\n") == 1


def test_a_bug_in_another_process_is_reported_once(cwd: Path) -> None:
    append = Journal.append

    def before(rank: int) -> None:
        def fail(self: Journal, name: str, record: Any) -> None:
            if rank:
                raise KeyError(0)
            append(self, name, record)

        Journal.append = fail  # type: ignore[method-assign]

    first, second = join_torchrun(2, cwd, *SEARCH, "--out", "run", before=before)
    assert second == (1, "", "")
    assert first[0] == 1
    assert "process 1 failed:\n" in first[2]
    assert "KeyError: 0" in first[2]


def test_a_killed_process_ends_all_with_a_sentence(alone: Path, cwd: Path) -> None:
    append = Journal.append

    def append_or_die(self: Journal, name: str, record: Any) -> None:
        append(self, name, record)
        if name == "proposal_001" and len(self.records(name)) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(rank: int) -> None:
        Journal.append = append_or_die  # type: ignore[method-assign]

    first, second = join_torchrun(2, cwd, *SEARCH, "--out", "run", before=before)
    assert second[0] is None
    assert first[0] == 1
    assert first[2].splitlines()[-1] == (
        "zcpt: another process was lost, or torchrun was stopped; finished work is on disk, and "
        "--resume run continues with any number of processes."
    )
    assert [code for code, _, _ in join_torchrun(3, cwd, "search", "--resume", "run")] == [0, 0, 0]
    assert results(cwd / "run") == results(alone)


def test_an_environment_that_is_not_torchruns(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(SEARCH) == 2
    assert re.fullmatch(
        r"zcpt: WORLD_SIZE is set, but .* RANK .*: start them with torchrun, or unset it\.\n", capsys.readouterr().err
    )


LONG = ["search", "--space", "nasbench201", "--proposals", "3", "--validation-batches", "12", "--channels", "8"]
LONG += ["--layers", "1", "--device", "cpu"]


def torchrun(size: int, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", size, "-m", "zcpt", *words]
    # One thread, so that sums have the same order in one process and in several.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def find_ranks(process: subprocess.Popen[str]) -> dict[str, int]:
    """Find the process ids of the ranks that torchrun has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    variables = {pid: Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in children}
    return {name[5:]: int(pid) for pid, names in variables.items() for name in names if name.startswith("RANK=")}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("long") / "run"
    assert main([*LONG, "--out", str(run)]) == 0
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("file", "rank"), [("proposal_001", "1"), ("proposal_002", "0"), ("validation", "2")])
def test_torchrun_with_a_killed_process_ends_and_resumes(file: str, rank: str, long: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = run / "journal" / f"{file}.jsonl"
    process = torchrun(3, *LONG, "--out", run)
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 2):
        time.sleep(0.002)
    os.kill(find_ranks(process)[rank], signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate()
    assert time.monotonic() - began < 30
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL)" in err
    assert err.count(f"--resume {run} continues with any number of processes.\n") == (rank != "0")
    again = torchrun(2, "search", "--resume", run)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert out.count("architecture  ") == 1
    assert results(run) == results(long)
