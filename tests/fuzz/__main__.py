"""Run random inputs, each of which must be read, or refused by one sentence, within seconds.

Input N of a seed is always the same: ``--first N --inputs 1`` repeats it.
"""

from __future__ import annotations

import argparse
import io
import logging
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from unittest import mock

import torch

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS, Accepted, Result, accept

SECONDS = 60
"""Time after which an input counts as a hang."""
MEMORY = 12 * 2**30
"""Address space in bytes: what asks for more has to be refused."""
EVALUATIONS = 300
"""Evaluations of a proxy after which an input counts as accepted."""


class Hang(BaseException):
    """An input that was not finished in time."""


def stop(*_: object) -> NoReturn:
    """Interrupt an input."""
    raise Hang


def run_input(seed: int, number: int, folder: Path, only: str | None) -> tuple[str, str, str]:
    """Run one input; return its target, its description, and its traceback if it failed."""
    random = Random(f"{seed} {number}")
    names = [only] if only else list(TARGETS)
    name = random.choices(names, [TARGETS[name][0] for name in names])[0]
    box = folder / "box"
    shutil.rmtree(box, ignore_errors=True)
    for part in ("cwd", "guard"):
        (box / part).mkdir(parents=True)
    (box / "guard" / "file").write_text("mine")
    description, failure = "", ""
    output = io.StringIO()
    Result.read = staticmethod(output.getvalue)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with redirect_stdout(output), redirect_stderr(output):
            description, run = TARGETS[name][1](random, box)
            run()
    except Accepted:
        description += " (accepted)"
    except (Exception, Hang):
        failure = traceback.format_exc(limit=-12)
    finally:
        signal.alarm(0)
        logging.getLogger().handlers.clear()
    return name, description, failure


def limit_evaluations() -> object:
    """Patch the evaluator to end an input that computes for long."""
    from zcpt.scoring.evaluator import Evaluator

    count = Counter[int]()
    original = Evaluator.score_mixtures

    def score(self: Evaluator, *values: object) -> torch.Tensor:
        count[0] += 1
        if count[0] % EVALUATIONS == 0:
            raise Accepted
        return original(self, *values)  # type: ignore[arg-type]

    return mock.patch.object(Evaluator, "score_mixtures", score)


def fuzz(seed: int, first: int, inputs: int, seconds: float, only: str | None = None) -> int:
    """Run inputs until their number or the time is reached; return the number of failures."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    counts, failures = Counter[str](), 0
    long_functions = [
        "train.loop.Trainer.run_epoch",
        "zcpt.cli.latency.measure_latency",
        "zcpt.cli.benchmark.measure_proxies",
        "zcpt.cli.benchmark.measure_operations",
        "zcpt.cli.benchmark.measure_searches",
        "zcpt.cli.benchmark.measure_variants",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redirect_stdout(sys.stderr):
            targets.write_templates(folder / "templates")
        patches: list[Any] = [mock.patch(function, accept) for function in long_functions]
        patches.append(limit_evaluations())
        patches.append(mock.patch("os.fsync", return_value=None))
        for patch in patches:
            patch.start()
        started = time.monotonic()
        for number in range(first, first + inputs):
            if time.monotonic() - started > seconds:
                break
            target, description, failure = run_input(seed, number, folder, only)
            counts[target] += 1
            if failure:
                failures += 1
                sys.stdout.write(f"\n--- input {number} of seed {seed}, {target}: {description[:600]}\n{failure}\n")
                sys.stdout.flush()
        spent = time.monotonic() - started
    kinds = ", ".join(f"{count} {target}" for target, count in sorted(counts.items()))
    sys.stdout.write(f"{sum(counts.values())} inputs in {spent:.0f} s ({kinds}): {failures} failed\n")
    return failures


def main() -> int:
    """Read the flags, and run the inputs."""
    parser = argparse.ArgumentParser("python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--inputs", type=int, default=10**9, help="number of inputs")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", choices=list(TARGETS))
    args = parser.parse_args()
    return int(fuzz(args.seed, args.first, args.inputs, args.seconds, args.only) > 0)


if __name__ == "__main__":
    sys.exit(main())
