"""Worker processes: results of a single process, errors, and processes that are killed."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch

import zcpt
from zcpt.workers import WorkerPool


def square(number: int) -> int:
    return number * number


def describe_process(_: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


def refuse_three(number: int) -> int:
    if number == 3:
        raise zcpt.SpaceError("three is refused.")
    return number


def kill_first(folder: Path, number: int) -> int:
    """Kill this process at the first call with 2."""
    marker = folder / "killed"
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_one_process_computes_here_in_one_thread() -> None:
    torch.set_num_threads(2)
    try:
        with WorkerPool(1, "counts") as pool:
            assert set(pool.map(describe_process, [1, 2])) == {(os.getpid(), 1)}
            assert torch.get_num_threads() == 2
            assert pool.map(square, []) == []
            with pytest.raises(zcpt.SpaceError, match="three is refused"):
                pool.map(refuse_three, [1, 3])
    finally:
        torch.set_num_threads(1)


def test_two_processes_serve_several_functions_and_go_on_after_an_error(tmp_path: Path) -> None:
    with WorkerPool(2, "counts") as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        processes = set(pool.map(describe_process, range(20)))
        assert {threads for _, threads in processes} == {1}
        assert os.getpid() not in {process for process, _ in processes}
        with pytest.raises(zcpt.SpaceError, match="three is refused"):
            pool.map(refuse_three, [1, 2, 3])
        with closing(pool.run(square, range(9))) as results:
            assert next(results) in (0, 1)
        assert pool.map(square, range(3)) == [0, 1, 4]
        # What a killed process was at is repeated.
        assert pool.map(partial(kill_first, tmp_path), range(4)) == [0, 1, 2, 3]
        assert (tmp_path / "killed").exists()
        with pytest.raises(zcpt.ConfigError, match="code that counts cannot be sent .* use --workers 1"):
            pool.map(lambda number: number, [1, 2])
