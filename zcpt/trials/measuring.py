"""Measuring one architecture, in a worker process that may run on another machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from zcpt.architecture import Architecture
from zcpt.values import Outcome, StagedValue, Value, run_measurement


@dataclass(frozen=True)
class MeasuringTask:
    """A trial to be measured."""

    number: int
    architecture: Architecture
    seed: int
    share: float = 1.0
    """Share of the measurement."""
    checkpoint: Path | None = None
    """File of the earlier share; None where there is none, and shares begin anew."""
    content: bytes | None = None
    """Content of that file for a process that does not see it; empty if it does not exist."""


def measure_task(value: Value, task: MeasuringTask) -> tuple[int, Outcome, bytes | None]:
    """Measure the architecture of a task.

    Returns:
        The number of the trial, the outcome, and for a process that does not see the file of the checkpoint the content
        of the new one.
    """
    if task.content is None:
        return task.number, _measure(value, task), None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        if task.content:
            path.write_bytes(task.content)
        outcome = _measure(value, replace(task, checkpoint=path))
        return task.number, outcome, path.read_bytes() if path.exists() else None


def send_checkpoint(task: MeasuringTask) -> MeasuringTask:
    """Return the task with the content of its checkpoint."""
    if task.checkpoint is None:
        return task
    return replace(task, content=task.checkpoint.read_bytes() if task.checkpoint.exists() else b"")


def _measure(value: Value, task: MeasuringTask) -> Outcome:
    if task.share == 1 and task.checkpoint is None:
        return run_measurement(partial(value.measure, task.architecture, task.seed))
    assert isinstance(value, StagedValue)
    return run_measurement(partial(value.measure_share, task.architecture, task.seed, task.share, task.checkpoint))
