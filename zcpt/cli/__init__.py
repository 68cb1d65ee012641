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
from zcpt.processes import ProcessGroup, launched


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one sentence on the standard error stream and exit code 2."""
    try:
        with launched() as ranks:
            return _run(sys.argv[1:] if arguments is None else arguments, ranks)
    except ConfigError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 2


def _run(arguments: Sequence[str], ranks: ProcessGroup) -> int:
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for package in ("zcpt", "train"):  # libraries say no more than their warnings
        logging.getLogger(package).setLevel(logging.INFO)
    args = None
    try:
        with ranks.together():
            _check_packages()
            from zcpt.cli._parser import parse

            args = parse(arguments)
            if ranks.size > 1 and args.command != "search":
                raise ConfigError(f"'zcpt {args.command}' works in one process: start it without torchrun.")
            args.ranks = ranks
            code: int | None = args.run(args)
            sys.stdout.flush()
    except ZcptError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 2
    except LostError as error:
        sys.stderr.write(f"zcpt: {error}\n")
        return 1
    except BrokenPipeError:  # the reader of our answer has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"zcpt: {where}{error.strerror or error}. Is it readable, and writable, and is there space?\n")
        return 2
    except KeyboardInterrupt:
        goes_on = "; what is done is on disk, and --resume with the run folder goes on" * hasattr(args, "resume")
        sys.stderr.write(f"zcpt: stopped{goes_on}.\n")
        return 130
    return code or 0


def _check_packages() -> None:
    """ConfigError where a ``train`` of the user's own, in the current folder, hides the package that belongs to us."""
    spec = importlib.util.find_spec("train")
    ours = Path(zcpt.__file__).resolve().parents[1] / "train" / "__init__.py"
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
        found = "is missing" if spec is None else f"is hidden by {spec.origin or 'a folder of that name'}"
        raise ConfigError(
            f"zcpt's package 'train' {found}: run the command from another folder, or as the installed 'zcpt'."
        )
