"""The command line: ``zcpt search|train|evaluate|replay|benchmark|latency|list``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zcpt._startup import Stopped, check_packages, exit_on_next_signal, exit_without_waiting, raise_stopped
from zcpt.errors import OUT_OF_MEMORY, ConfigError, LostError, StorageError, ZcptError, is_out_of_memory
from zcpt.printing import escape_text, quote_words
from zcpt.processes import ProcessGroup, join_torchrun

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_ADDRESS_SPACE = 2**30
"""Bytes that libraries and the smallest search take after the import of zcpt."""


_MAX_SHOWN = 1_000
"""Longest error message that is shown whole, in characters."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    An error in the user's input ends with one sentence on the standard error stream and exit code 2.
    """
    _open_closed_streams()
    try:
        with join_torchrun() as ranks:
            return _run(sys.argv[1:] if arguments is None else arguments, ranks)
    except ConfigError as error:
        _report(str(error))
        return 2


def _run(arguments: Sequence[str], ranks: ProcessGroup) -> int:
    _log_to_stderr()
    words: Sequence[str] | None = arguments
    args = Namespace()
    code: int | None = 0
    try:
        with ranks.propagate_errors():
            _check_address_space()
            check_packages()
            _check_words(arguments)
            from zcpt.cli._parser import parse

            while words is not None and not code:
                args = parse(words)
                if ranks.size > 1 and args.command not in ("search", "train"):
                    raise ConfigError(f"'zcpt {args.command}' runs in one process: start it without torchrun.")
                args.ranks, args.words = ranks, words
                with raise_stopped():
                    code = args.run(args)
                words = getattr(args, "next_words", None)  # as set by search --then-train
            exit_on_next_signal()  # the command has finished, and only the end of the program is left
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        exit_on_next_signal()
        end = _describe_end(error, args)
        if end is None:
            raise
        text, code = end
        if text:
            _report(text)
        _silence_broken_streams()
        if isinstance(error, KeyboardInterrupt | LostError) and ranks.size == 1:
            exit_without_waiting(code)
    return code or 0


def _describe_end(error: BaseException, args: Namespace) -> tuple[str, int] | None:
    """Return the sentence and the exit code for an error that ends a command; None for a bug."""
    hint = _format_way_on(args)
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        return f"stopped.{hint}", 128 + number
    if isinstance(error, BrokenPipeError):
        return "", 1  # the reader has closed the pipe, as head does
    if is_out_of_memory(error):
        return f"{OUT_OF_MEMORY}.{hint}", 2
    if isinstance(error, StorageError):
        return f"{error}{hint}", 2
    if isinstance(error, ZcptError):
        return str(error), 2
    if isinstance(error, LostError):
        is_known = "--resume" in str(error) or "to resume" in str(error)
        return f"{error}{'' if is_known else hint}", 1
    if isinstance(error, OSError):
        path = f"{error.filename}: " if error.filename else ""
        return f"{path}{error.strerror or error}. Check permissions and free disk space.{hint}", 2
    return None


def _format_way_on(args: Namespace) -> str:
    """Return a sentence with the command that continues an ended one; '' where nothing was written."""
    folder: Path | None = getattr(args, "run_folder", None)
    settings = ("config.json", "args.yaml", "*/config.json")  # the last of a benchmark of several variants
    try:
        if folder is None or not any(any(folder.glob(pattern)) for pattern in settings):
            return ""
    except OSError:  # no permission to look
        return ""
    from zcpt.cli._options import format_program

    is_repeated = args.command.startswith(("benchmark", "reproduce"))
    words = args.words if is_repeated else [args.command, "--resume", str(folder)]
    if getattr(args, "then_train", False):
        words = [*words, "--then-train"]
    return f" Finished work is in {folder}. To go on: {format_program()} {quote_words(words)}"


class _OneLineFormatter(logging.Formatter):
    """Format of a log whose messages may hold any name."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return escape_text(super().formatMessage(record))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    for package in ("zcpt", "train"):  # of all other libraries only warnings are shown
        logging.getLogger(package).setLevel(logging.INFO)


def _report(text: str) -> None:
    if len(text) > _MAX_SHOWN:  # the user's own words can be of any length
        text = f"{text[: _MAX_SHOWN // 2]} ... {text[-_MAX_SHOWN // 2 :]}"
    with suppress(OSError):  # a closed terminal: the exit code says it
        sys.stderr.write(f"zcpt: {escape_text(text)}\n")
        sys.stderr.flush()


def _silence_broken_streams() -> None:
    """Send what a stream cannot take to the null device: Python would write it at exit, and fail once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_streams() -> None:
    """Open the null device in place of a closed standard stream: a file of the run would else take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # open as long as the program


def _check_address_space() -> None:
    """Raise ConfigError if a limit leaves too little memory: libraries that are imported later would wait for ever."""
    if resource is None or not Path("/proc/self/statm").exists():
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if limit != resource.RLIM_INFINITY and limit < used + _ADDRESS_SPACE:
        raise ConfigError(
            f"memory is limited to {limit / 2**30:.1f} GiB of address space, of which libraries take "
            f"{used / 2**30:.1f}: at least {(used + _ADDRESS_SPACE) / 2**30:.1f} are needed ('ulimit -v unlimited')."
        )


def _check_words(words: Sequence[str]) -> None:
    """Raise ConfigError for a word that is no UTF-8: TensorBoard and JSON cannot hold the name of such a folder."""
    for word in words:
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise ConfigError(f"'{word}' is not valid UTF-8: rename the file or folder, or give another one.")
