"""One sentence when the program is told to stop, or memory runs out, from its first moment on.

Importing torch takes seconds, in which Python would answer Ctrl-C with the traceback of an import. So ``zcpt`` imports
this module first. It changes nothing where zcpt is imported by another program.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from zcpt.errors import OUT_OF_MEMORY, ConfigError, is_out_of_memory

_SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
_Handler = Callable[[int, "FrameType | None"], None]


class Stopped(KeyboardInterrupt):
    """The program was told to stop by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _is_program() -> bool:
    """Return whether this process was started as ``zcpt`` or ``python -m zcpt``."""
    # Python's own options come before the name of the program, and its arguments after it.
    place = len(sys.orig_argv) - len(sys.argv)
    name = sys.orig_argv[place] if 0 < place < len(sys.orig_argv) else ""
    return name in ("zcpt", "-mzcpt") if sys.argv[0] == "-m" else Path(name).stem == "zcpt"


def _exit_while_importing(number: int, frame: FrameType | None) -> NoReturn:
    # An exception could be caught by the module that is being imported.
    if os.environ.get("RANK", "0") == "0":  # of several processes only the first prints
        os.write(2, b"zcpt: stopped; nothing was written.\n")
    os._exit(128 + number)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


_OWN: tuple[object, ...] = (_exit_while_importing, _exit_at_once, _raise_stopped)


def _set_handlers(handler: _Handler) -> dict[int, Any]:
    """Handle the signals that end a program; return the handlers before.

    A signal that is ignored, as under nohup, or has a handler of somebody else, is left alone.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # only there Python takes handlers
        for number in _SIGNALS:
            current = signal.getsignal(number)
            if current in (signal.SIG_DFL, signal.default_int_handler, *_OWN):
                before[number] = signal.signal(number, handler)
    return before


@contextmanager
def raise_stopped() -> Iterator[None]:
    """Raise ``Stopped`` in the block when the program is told to stop, and restore the handlers after it."""
    before = _set_handlers(_raise_stopped)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block Ctrl-C for the processes that are started in the block; in this one it waits for the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # It starts with the first process, and unblocks Ctrl-C when it does.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_without_waiting(code: int) -> None:
    """End the program and its processes at once; in another program that calls zcpt, do nothing.

    Readers of images, and libraries at exit, would take several seconds. Everything of zcpt is on disk by now.
    """
    if _IS_PROGRAM:
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(code)


def exit_on_next_signal() -> None:
    """End the program at once when it is told to stop again; in another program that calls zcpt, do nothing."""
    if _IS_PROGRAM:
        _set_handlers(_exit_at_once)


def _report_failed_import(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report what no function has caught: that memory is too little for the libraries, or else a bug."""
    if is_out_of_memory(error):
        os.write(2, f"zcpt: {OUT_OF_MEMORY}.\n".encode())
        os._exit(2)
    sys.__excepthook__(kind, error, trace)


def _report_failed_thread(failure: sys.UnraisableHookArgs | threading.ExceptHookArgs) -> None:
    """Act on an error that Python would only print: a lack of memory in a thread, and a stop that was not raised.

    Others wait for ever for a thread without memory, so the program ends. Python drops the exception of a signal that
    arrives in a destructor or in a callback of a weak reference, so the signal is sent again a little later.
    """
    if isinstance(failure.exc_value, Stopped):
        again = threading.Timer(0.02, os.kill, (os.getpid(), failure.exc_value.number))
        again.daemon = True
        again.start()
        return
    if is_out_of_memory(failure.exc_value):
        os.write(2, f"zcpt: {OUT_OF_MEMORY}.\n".encode())
        os._exit(2)
    if isinstance(failure, threading.ExceptHookArgs):
        threading.__excepthook__(failure)
    else:
        sys.__unraisablehook__(failure)


_IS_PROGRAM = _is_program()  # runpy changes sys.argv after the import
if _IS_PROGRAM:
    _set_handlers(_exit_while_importing)
    sys.excepthook = _report_failed_import
    sys.unraisablehook = threading.excepthook = _report_failed_thread


def check_packages() -> None:
    """Raise ConfigError if another module ``train``, such as a train.py in the current folder, hides zcpt's package."""
    spec = importlib.util.find_spec("train")
    ours = Path(__file__).resolve().parents[1] / "train" / "__init__.py"
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
        problem = "is missing" if spec is None else f"is hidden by {spec.origin or 'a folder of that name'}"
        raise ConfigError(
            f"zcpt's package 'train' {problem}: run the command from another folder, or as the installed 'zcpt'."
        )
