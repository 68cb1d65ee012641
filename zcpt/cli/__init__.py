"""The command line: ``zcpt search|train|evaluate|replay|benchmark|latency|list``."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import zcpt
from zcpt.errors import ConfigError, LostError, ZcptError
from zcpt.processes import ProcessGroup, join_torchrun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    An error in the user's input ends with one sentence on the standard error stream and exit code 2.
    """
    try:
        with join_torchrun() as ranks:
            return _run(sys.argv[1:] if arguments is None else arguments, ranks)
    except ConfigError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 2


def _run(arguments: Sequence[str], ranks: ProcessGroup) -> int:
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for package in ("zcpt", "train"):  # of all other libraries only warnings are shown
        logging.getLogger(package).setLevel(logging.INFO)
    args = None
    try:
        with ranks.propagate_errors():
            _check_packages()
            from zcpt.cli._parser import parse

            args = parse(arguments)
            if ranks.size > 1 and args.command != "search":
                raise ConfigError(f"'zcpt {args.command}' runs in one process: start it without torchrun.")
            args.ranks = ranks
            code: int | None = args.run(args)
            sys.stdout.flush()
    except ZcptError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 2
    except LostError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 1
    except BrokenPipeError:
        # The reader has closed the pipe, as head does. Python would flush the rest at exit and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"zcpt: {path}{error.strerror or error}. Check permissions and free disk space.\n")
        return 2
    except KeyboardInterrupt:
        hint = "; finished steps are on disk: resume with --resume RUN" if hasattr(args, "resume") else ""
        sys.stderr.write(f"zcpt: stopped{hint}.\n")
        return 130
    return code or 0


def _check_packages() -> None:
    """Raise ConfigError if another module ``train``, such as a train.py in the current folder, hides zcpt's package."""
    spec = importlib.util.find_spec("train")
    ours = Path(zcpt.__file__).resolve().parents[1] / "train" / "__init__.py"
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
        problem = "is missing" if spec is None else f"is hidden by {spec.origin or 'a folder of that name'}"
        raise ConfigError(
            f"zcpt's package 'train' {problem}: run the command from another folder, or as the installed 'zcpt'."
        )
