"""Stops and lack of memory from the first moment of the program on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zcpt
from zcpt._startup import Stopped, _report_failed_thread, raise_stopped

ROOT = Path(zcpt.__file__).parents[1]
SITE = """
import importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            {action}
sys.meta_path.insert(0, Finder())
"""


def start_with(action: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m zcpt list``, or other words after ``python``, with an action at the import of torch."""
    (folder / "sitecustomize.py").write_text(SITE.format(action=action))
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, *(words or ("-m", "zcpt", "list"))]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stop_during_the_imports_gives_one_sentence(name: str, tmp_path: Path) -> None:
    done = start_with(f"os.kill(os.getpid(), signal.{name})", tmp_path)
    assert (done.returncode, done.stderr) == (128 + signal.Signals[name], "zcpt: stopped; nothing was written.\n")


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "ImportError('libtorch_cpu.so: failed to map segment from shared object')",
        "OSError(12, 'Cannot allocate memory')",
        "RuntimeError('std::bad_alloc')",
    ],
)
def test_too_little_memory_for_the_imports_gives_one_sentence(error: str, tmp_path: Path) -> None:
    done = start_with(f"raise {error}", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("zcpt: memory ran out: ")
    assert done.stderr.count("\n") == 1


def test_another_program_that_imports_zcpt_keeps_its_handlers(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import zcpt")
    done = start_with("os.kill(os.getpid(), signal.SIGINT)", tmp_path, "own.py")
    assert "KeyboardInterrupt" in done.stderr
    done = start_with("raise MemoryError()", tmp_path, "own.py")
    assert "MemoryError" in done.stderr


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with raise_stopped():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_in_the_block_and_the_handler_is_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, raise_stopped():
        signal.raise_signal(number)
    assert caught.value.number == number
    assert signal.getsignal(number) == before


def test_a_stop_that_python_drops_is_sent_again() -> None:
    """Let the handler raise in a destructor, whose exceptions Python only prints."""

    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def drop_and_wait() -> None:
        Dropping()
        time.sleep(20)

    before = sys.unraisablehook
    sys.unraisablehook = _report_failed_thread
    try:
        with pytest.raises(Stopped) as stop, raise_stopped():
            drop_and_wait()
    finally:
        sys.unraisablehook = before
    assert stop.value.number == signal.SIGTERM


WORKER = """
import multiprocessing, time
from pathlib import Path
from zcpt._startup import block_interrupts
if __name__ == "__main__":
    with block_interrupts():
        workers = [multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,)) for _ in range(2)]
        for worker in workers:
            worker.start()
    for worker in workers:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
        print(int(status["SigBlk"], 16) >> 1 & 1)
        worker.kill()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the mask of a process is read from /proc")
def test_ctrl_c_is_blocked_in_all_processes_that_are_started(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(Path(zcpt.__file__).parents[1])}
    done = subprocess.run([sys.executable, tmp_path / "start.py"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr
