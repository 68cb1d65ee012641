"""Bars on a terminal, and lines in a log."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from types import SimpleNamespace

import pytest

import zcpt.progress
from zcpt.progress import show_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of all bars, which the test advances."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then_with_the_time_left(
    clock: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "zcpt"), show_progress(title="training", total=10_000, smoothing=0) as bar:
        for epoch in range(10_000):
            clock[0] += 1
            bar.set_postfix_str(f"epoch {epoch}", refresh=False)
            bar.update()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "training: 0 % after 00:20, 2:46:20 left, epoch 19"
    assert lines[-1] == "training: 100 % after 2:46:40, 00:00 left, epoch 9999"
    assert 50 < len(lines) < 150
    assert capsys.readouterr().err == ""


def test_short_work_logs_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "zcpt"):
        for _ in show_progress(range(100), "work"):
            clock[0] += 0.1
    assert caplog.records == []


def test_iterating_logs_lines_too(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "zcpt"):
        for _ in show_progress(range(100), "work"):
            clock[0] += 2
    assert len(caplog.records) > 3
    assert caplog.records[0].getMessage().startswith("work: 1")


class _Notebook:
    """The module IPython inside a Jupyter kernel, or in its shell on a terminal."""

    def __init__(self, shell: object) -> None:
        self.shell = shell

    def get_ipython(self) -> object:
        return self.shell


@pytest.mark.parametrize(
    ("shell", "shows"), [(SimpleNamespace(kernel=1), True), (SimpleNamespace(), False), (None, False)]
)
def test_a_notebook_gets_a_bar_although_its_streams_are_no_terminals(
    shell: object, shows: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", _Notebook(shell))
    assert list(show_progress(range(3), "work")) == [0, 1, 2]
    assert ("work: 100%" in capsys.readouterr().err) == shows


def test_a_terminal_that_claims_to_have_no_columns_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers and 'script' give such terminals; tqdm then prints empty lines."""
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((0, 0)))
    list(show_progress(range(3), "work"))
    assert "work: 100%" in terminal.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    before = threading.active_count()
    assert list(show_progress(range(3), "work")) == [0, 1, 2]
    assert "work: 100%" in terminal.getvalue()
    assert threading.active_count() == before


@pytest.mark.parametrize("seconds", [0.1, 5, 7, 19, 21, 300, 4000])
def test_iterating_counts_every_item_once(
    seconds: float, clock: list[float], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tqdm's iterator keeps the interval that it began with."""
    with caplog.at_level(logging.INFO, "zcpt"):
        for _ in show_progress(range(1000), "work"):
            clock[0] += seconds
    shown = [int(record.getMessage().split()[1]) for record in caplog.records]
    assert shown == sorted(shown)
    assert not shown or 90 <= shown[-1] <= 100


def test_work_of_unknown_size_is_counted(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "zcpt"):
        for _ in show_progress(iter(range(30)), "work"):
            clock[0] += 2
    assert caplog.records[0].getMessage() == "work: 10 after 00:20"


@pytest.mark.parametrize("stream", ["none", "closed"])
def test_a_closed_stream_is_no_terminal(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed if stream == "closed" else None)
    assert list(show_progress(range(3))) == [0, 1, 2]
    assert zcpt.progress._SECONDS > 1
