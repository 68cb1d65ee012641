"""Bars on a terminal, and lines in a log."""

from __future__ import annotations

import io
import logging
import threading

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


def test_a_closed_stream_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert list(show_progress(range(3))) == [0, 1, 2]
    assert zcpt.progress._SECONDS > 1
