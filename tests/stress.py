"""Kill, race and stop many runs at random moments, and count what went wrong: python -m tests.stress --help.

Kills and races run in forks of this process, which has imported everything already; stops by Ctrl-C run in programs of
their own, because a stop during the imports is one of the moments to be tried.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import zcpt
from tests.conftest import random_architecture
from tests.zcpt.tabular.conftest import cells, write_csv
from zcpt.cli import main
from zcpt.files import to_json_text

ROOT = Path(__file__).parents[1]
SEARCH = ["search", "--space", "nasbench201", "--proposals", "3", "--validation-batches", "12", "--channels", "4"]
SEARCH += ["--layers", "1", "--batch-size", "16", "--validation-batch-size", "16", "--device", "cpu"]
TRAIN = ["train", "--epochs", "4", "--channels", "4", "--layers", "1", "--device", "cpu", "--workers", "0"]
BENCHMARK = ["benchmark", "proxies", "--space", "nasbench201", "--samples", "0", "--workers", "2", "--channels", "8"]
BENCHMARK += ["--layers", "3", "--device", "cpu", "--resamples", "20"]
_FORK = multiprocessing.get_context("fork")


def fork(words: Iterable[Any], output: Path) -> multiprocessing.process.BaseProcess:
    """Run a command of zcpt in a fork that is the leader of its own session, and write what it prints to a file."""
    process = _FORK.Process(target=_run_in_session, args=([str(word) for word in words], output))
    process.start()
    return process


def _run_in_session(words: list[str], output: Path) -> None:
    os.setsid()
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    raise SystemExit(main(words))


def finish(words: Iterable[Any], output: Path) -> None:
    """Run a command to its end; AssertionError with its output if it fails."""
    process = fork(words, output)
    process.join()
    text = output.read_text(errors="replace")
    assert process.exitcode == 0, f"{process.exitcode}: {text}"
    assert "Traceback" not in text, text


def read_search(run: Path) -> Any:
    """Return everything of a search's result except times."""
    journal = {path.name: path.read_text().splitlines() for path in sorted((run / "journal").glob("*.jsonl"))}
    lines = {name: [{**json.loads(line), "seconds": 0} for line in rows] for name, rows in journal.items()}
    return lines, *((run / name).read_bytes() for name in ("architecture.json", "genotype.txt", "proposals.json"))


def read_training(run: Path) -> Any:
    """Return everything of a training's result except times."""
    header, *rows = (line.split(",") for line in (run / "summary.csv").read_text().splitlines())
    measured = [i for i, name in enumerate(header) if "second" in name or name == "memory_mb"]
    summary = [[value for i, value in enumerate(row) if i not in measured] for row in rows]
    state = torch.load(run / "last.pt", weights_only=True)
    weights = {name: tensor.tolist() for name, tensor in state["network"].items()}
    return summary, weights, (run / "model.safetensors").stat().st_size


def kill_and_resume(
    count: int, words: list[Any], read: Callable[[Path], Any], folder: Path, rng: random.Random
) -> Counter[str]:
    """Kill a command at random moments, resume it, and compare the result with that of the command left alone."""
    results: Counter[str] = Counter()
    folder.mkdir()
    started = time.monotonic()
    finish([*words, "--out", folder / "whole"], folder / "log")
    duration = time.monotonic() - started
    expected = read(folder / "whole")
    for number in range(count):
        run = folder / f"run{number}"
        process = fork([*words, "--out", run], folder / "log")
        time.sleep(rng.uniform(0, 1.1 * duration))
        results["killed" if process.exitcode is None else "finished before"] += 1
        process.kill()
        process.join()
        # A kill while the folder is made leaves one without settings, which the same command takes again.
        has_settings = any((run / name).exists() for name in ("config.json", "args.yaml"))
        results["before the settings"] += not has_settings
        try:
            finish([words[0], "--resume", run] if has_settings else [*words, "--out", run], folder / "log")
            results["same result" if read(run) == expected else "OTHER RESULT"] += 1
        except (AssertionError, OSError) as error:
            results["NOT RESUMED"] += 1
            sys.stderr.write(f"{run}: {error}\n")
        shutil.rmtree(run, ignore_errors=True)
        _show(results)
    results["LEFT BEHIND"] = len([path for path in folder.iterdir() if path.name.startswith(".run")])
    return results


def race(count: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Start two searches with one new folder at once; one has to win, and the folder has to be its own."""
    results: Counter[str] = Counter()
    folder.mkdir()
    expected = {}
    for seed in (0, 1):
        finish([*SEARCH, "--seed", seed, "--out", folder / f"whole{seed}"], folder / "log")
        expected[seed] = read_search(folder / f"whole{seed}")
    for number in range(count):
        run = folder / f"run{number}"
        logs = [folder / "log0", folder / "log1"]
        processes = []
        for seed in rng.sample((0, 1), 2):
            processes.append((seed, fork([*SEARCH, "--seed", seed, "--out", run], logs[seed])))
            time.sleep(rng.choice((0, 0, 0.002, 0.01)))
        for _, process in processes:
            process.join()
        winners = [seed for seed, process in processes if process.exitcode == 0]
        losers = [logs[seed].read_text() for seed, process in processes if process.exitcode == 2]
        if len(winners) != 1 or len(losers) != 1:
            results["NOT ONE WINNER"] += 1
        elif read_search(run) != expected[winners[0]]:
            results["MIXED FOLDER"] += 1
        elif losers[0].count("zcpt: ") != 1 or "Traceback" in losers[0]:
            results["NO SENTENCE"] += 1
        else:
            results["one winner and one sentence"] += 1
        _show(results)
    return results


def _show(results: Counter[str]) -> None:
    sys.stderr.write(f"{dict(results)}\n")


def interrupt(count: int, words: list[Any], folder: Path, rng: random.Random) -> Counter[str]:
    """Stop a command by Ctrl-C, sent to all of its processes as by a terminal, and run the command that it names."""
    results: Counter[str] = Counter()
    folder.mkdir()
    duration = _time_program([*words, "--out", str(folder / "whole")], folder)
    slowest = 0.0
    for number in range(count):
        run = folder / f"run{number}"
        process = _start_program([*words, "--out", str(run)], folder)
        time.sleep(rng.uniform(0.1, duration))
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        out, err = process.communicate(timeout=120)
        slowest = max(slowest, time.monotonic() - started)
        # The pipes close a moment before the kernel has done away with the last process that held them.
        results["LEFT A PROCESS"] += bool(wait_for_session(process.pid, seconds=2 - (time.monotonic() - started)))
        results["TRACEBACK"] += "Traceback" in err
        is_finished = process.returncode == 0 or "run folder" in out or "report  " in out  # stopped at its exit
        if is_finished:
            results["finished before"] += 1
        elif process.returncode == 130 and err.count("zcpt: stopped") == 1:
            results["stopped with a sentence"] += 1
        else:
            results["OTHER END"] += 1
            sys.stderr.write(f"{process.returncode}: {err}\n")
        way_on = re.search(r"To go on: (.*)$", err, re.MULTILINE)
        results["LOST"] += way_on is None and (run / "journal").exists() and not is_finished
        if way_on:
            words_on = shlex.split(way_on[1])
            program = _start_program(words_on[words_on.index(words[0]) :], folder)
            program.communicate(timeout=600)
            results["continued" if program.returncode == 0 else "NOT CONTINUED"] += 1
        _show(results)
    results["slowest end in ms"] = round(1000 * slowest)
    return results


def _start_program(words: list[Any], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zcpt", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def _time_program(words: list[Any], folder: Path) -> float:
    started = time.monotonic()
    program = _start_program(words, folder)
    _, err = program.communicate()
    assert program.returncode == 0, err
    return time.monotonic() - started


def wait_for_session(session: int, seconds: float) -> list[int]:
    """Wait until no process of a session is alive, and return those that still are after this time."""
    deadline = time.monotonic() + seconds
    while (alive := list_session(session)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return alive


def list_session(session: int) -> list[int]:
    """Return the processes of a session that are still alive."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it ended just now
        if int(own_session) == session and state != "Z":
            alive.append(int(path.parent.name))
    return alive


def import_all() -> None:
    """Import what commands import when they need it, so that forks need not."""
    for name in ("matplotlib.pyplot", "sklearn.datasets", "torch.utils.tensorboard", "zcpt.event_files", "zcpt.plot"):
        importlib.import_module(name)


def run_all(counts: argparse.Namespace, folder: Path) -> dict[str, Counter[str]]:
    """Run all parts with a count above 0, and return what happened how often."""
    rng = random.Random(counts.seed)
    architecture = folder / "architecture.json"
    space = zcpt.get_space("nasbench201")
    architecture.write_text(to_json_text(random_architecture(space, 1).to_json()))
    table = folder / "table.csv"
    rows = [[cell, 60 + i % 7 + i / 100, 30 + i / 10] for i, cell in enumerate(cells(40))]
    write_csv(table, ["arch_str", "c10_test_acc_200ep_pct", "c100_test_acc_200ep_pct"], *rows)
    train = [*TRAIN, "--arch", architecture]
    benchmark = [*BENCHMARK, "--table", table]
    parts: dict[str, Callable[[Path], Counter[str]]] = {}
    if counts.searches:
        parts["kill -9 of searches"] = lambda path: kill_and_resume(counts.searches, SEARCH, read_search, path, rng)
    if counts.trainings:
        parts["kill -9 of trainings"] = lambda path: kill_and_resume(counts.trainings, train, read_training, path, rng)
    if counts.races:
        parts["races for a folder"] = lambda path: race(counts.races, path, rng)
    if counts.interrupts:
        for name, words in (("search", SEARCH), ("train", train), ("benchmark", benchmark)):
            parts[f"Ctrl-C of {name}"] = lambda path, words=words: interrupt(counts.interrupts, words, path, rng)  # type: ignore[misc]
    results = {}
    for number, (name, run) in enumerate(parts.items()):
        results[name] = run(folder / f"part{number}")
        sys.stderr.write(f"{name}: {dict(results[name])}\n")
    return results


def find_faults(results: dict[str, Counter[str]]) -> list[str]:
    """Return a line for each kind of fault, which are those in capitals."""
    return [f"{name}: {kind} {n}" for name, row in results.items() for kind, n in row.items() if kind.isupper() and n]


def parse_counts(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the counts of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    for name, count in (("searches", 100), ("trainings", 40), ("races", 50), ("interrupts", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"(default: {count})")
    return parser.parse_args(words)


if __name__ == "__main__":
    torch.set_num_threads(1)
    import_all()
    with tempfile.TemporaryDirectory() as temporary:
        faults = find_faults(run_all(parse_counts(), Path(temporary)))
    raise SystemExit("\n".join(faults) or 0)
