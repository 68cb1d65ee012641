"""``zcpt show``."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from train.arguments import ARGUMENTS, read_arguments
from train.recipe import TrainConfig
from train.run import SUMMARY
from train.supernet import SUPERNET, SupernetConfig
from train.supernet.run import is_supernet_run, read_supernet_run
from zcpt.architecture_files import ARCHITECTURE, read_run_architecture
from zcpt.cli._options import format_program
from zcpt.errors import ConfigError
from zcpt.files import describe_os_error, open_file, parse_json, read_json, read_run_file
from zcpt.options import pluralize
from zcpt.printing import print_lines, quote_words
from zcpt.search import SearchConfig, read_run_config
from zcpt.search import is_finished as is_search_finished
from zcpt.trials import TrialsConfig, is_run_of_trials, read_trials_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="RUN",
        help="folder of a search, of trials, of a training, a supernet or a benchmark",
    )


def run(args: argparse.Namespace) -> None:
    """Print what a run folder holds, how far the run has come, and the command that continues it; write nothing."""
    folder: Path = args.folder
    if (folder / ARGUMENTS).exists():
        lines = _describe_training(folder)
    elif is_supernet_run(folder):
        lines = _describe_supernet(folder)
    elif _is_benchmark(folder):
        lines = _describe_benchmark(folder)
    elif is_run_of_trials(folder):
        lines = _describe_trials(folder)
    else:
        lines = _describe_search(folder)
    print_lines(*lines)


def _is_benchmark(folder: Path) -> bool:
    document = parse_json(read_run_file(folder / "config.json"), folder / "config.json")
    return isinstance(document, dict) and "benchmark" in document


def _describe_search(folder: Path) -> list[str]:
    document = read_run_config(folder)
    search = document["search"]
    images = document["data"].get("dataset", "images of a Python program")
    changed = _describe_changes(search, SearchConfig)
    lines = [
        f"search        of {document['space']} on {images}, on {document['device']}, by {_describe_versions(document)}",
        f"settings      {changed or 'the defaults'}",
    ]
    proposals, decisions, seconds = _count_records(folder / "journal", "proposal_*.jsonl")
    _, validated, more = _count_records(folder / "journal", "validation.jsonl")
    finalists, trained = _describe_finalists(folder, document)
    lines.append(
        f"work          {pluralize(proposals, 'proposal')} of {search.get('proposals')} begun, "
        f"{pluralize(decisions, 'decision')}, {validated} of {search.get('validation_batches')} validation batches, "
        f"{seconds + more:.0f} s of scoring{finalists and f', {finalists}'}"
    )
    program, quoted = format_program(), quote_words([str(folder)])
    if not (folder / ARCHITECTURE).exists() or not trained:
        way = (
            f"{program} search --resume {quoted}" if "dataset" in document["data"] else "zcpt.search(..., resume=True)"
        )
        return [*lines, f"next          {way}"]
    lines += _describe_proposals(folder / "proposals.json")
    trainings = sorted(path.parent for path in (folder / "train").glob(f"*/{ARGUMENTS}"))
    for training in trainings:
        lines += _describe_training(training)
    if not trainings:
        lines.append(f"next          {program} train --arch {quote_words([str(folder / ARCHITECTURE)])}")
    return lines


def _describe_finalists(folder: Path, document: Mapping[str, Any]) -> tuple[str, bool]:
    """Return how many finalists are measured, '' if there are none, and whether all are."""
    count = document["search"].get("finalists", 0)
    if not count:
        return "", True
    _, lines, seconds = _count_records(folder / "journal", "finalists.jsonl")
    name = (document.get("finalist_value") or {}).get("name", "?")
    is_finished = (folder / ARCHITECTURE).exists() and is_search_finished(folder, document)
    return f"{lines} of at most {count} finalists measured by {name} in {seconds:.0f} s", is_finished


def _describe_trials(folder: Path) -> list[str]:
    document = read_trials_config(folder)
    trials, value = document["trials"], document["value"].get("name", "?")
    _, finished, seconds = _count_records(folder / "journal", "trials.jsonl")
    _, scored, more = _count_records(folder / "journal", "scores.jsonl")
    lines = [
        f"trials        of {document['space']} by {value}, on {document['device']}, by {_describe_versions(document)}",
        f"settings      {_describe_changes(trials, TrialsConfig) or 'the defaults'}",
        f"work          {finished} of {pluralize(int(trials['trials']), 'trial')} and "
        f"{pluralize(scored, 'network')} scored, {seconds + more:.0f} s",
    ]
    program, quoted = format_program(), quote_words([str(folder)])
    if not (folder / ARCHITECTURE).exists():
        has_command = "command" in document
        way = f"{program} trials --resume {quoted}" if has_command else "zcpt.run_trials(..., resume=True)"
        return [*lines, f"next          {way}"]
    space, architecture = read_run_architecture(folder)
    lines.append(f"architecture  {space.format(architecture)}")
    trainings = sorted(path.parent for path in (folder / "train").glob(f"*/{ARGUMENTS}"))
    for training in trainings:
        lines += _describe_training(training)
    if not trainings:
        lines.append(f"next          {program} train --arch {quote_words([str(folder / ARCHITECTURE)])}")
    return lines


def _describe_proposals(path: Path) -> list[str]:
    """Return a line for each distinct proposal, the chosen one first."""
    proposals = parse_json(read_run_file(path), path)
    try:
        if not isinstance(proposals, list) or not proposals:
            raise TypeError
        rows = [
            (not one["chosen"], one["text"], one["proposals"], one["mean"], one.get("finalist", {}).get("value"))
            for one in proposals
        ]
        rows.sort(key=lambda row: row[0])
        return [
            f"{'other' if other else 'architecture':12}  {text} (proposed {pluralize(len(numbers), 'time')}"
            f"{'' if mean is None else f', mean validation score {float(mean):.6g}'}"
            f"{'' if value is None else f', finalist with value {float(value):.6g}'})"
            for other, text, numbers, mean, value in rows
        ]
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path} is damaged: it is no list of proposals.") from None


def _describe_training(folder: Path) -> list[str]:
    arguments = read_arguments(folder)
    space, architecture = read_run_architecture(folder)
    accuracies = _read_summary(folder / SUMMARY, "test_accuracy", "test accuracy")
    changed = _describe_changes(arguments, TrainConfig)
    lines = [
        f"training      {folder}: {space.format(architecture)} of {space.name} on {arguments['data']['name']}, "
        f"on {arguments['device']}",
        f"settings      {changed or 'the defaults'}",
    ]
    if accuracies:
        lines.append(
            f"accuracy      {accuracies[-1]:.2f} % on the test images after {pluralize(len(accuracies), 'epoch')} of "
            f"{arguments['epochs']} (largest of all epochs {max(accuracies):.2f} %)"
        )
    is_finished = len(accuracies) == arguments["epochs"]
    words = ["evaluate", str(folder)] if is_finished else ["train", "--resume", str(folder)]
    return [*lines, f"next          {format_program()} {quote_words(words)}"]


def _describe_supernet(folder: Path) -> list[str]:
    document = read_supernet_run(folder)
    accuracies = _read_summary(folder / SUMMARY, "valid_accuracy", "accuracy on the validation half")
    epochs = document["supernet"]["epochs"]
    lines = [
        f"supernet      of {document['space']} on {document['data']['name']}, on {document['device']}, by "
        f"{_describe_versions(document)}",
        f"settings      {_describe_changes(document['supernet'], SupernetConfig) or 'the defaults'}",
    ]
    if accuracies:
        lines.append(
            f"accuracy      {accuracies[-1]:.2f} % on the validation half after "
            f"{pluralize(len(accuracies), 'epoch')} of {epochs}"
        )
    if (folder / SUPERNET).exists():
        return [*lines, f"weights       {folder / SUPERNET}"]
    return [*lines, f"next          {format_program()} train-supernet --resume {quote_words([str(folder)])}"]


def _read_summary(path: Path, column: str, noun: str) -> list[float]:
    if not path.exists():
        return []
    try:
        return [float(row[column]) for row in csv.DictReader(read_run_file(path).splitlines())]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ConfigError(f"{path} is damaged: it has no {noun} of every epoch.") from None


def _describe_benchmark(folder: Path) -> list[str]:
    document = read_json(folder / "config.json", ["benchmark"])
    _, records, _ = _count_records(folder / "journal", "*.jsonl")
    is_finished = (folder / "result.json").exists()
    settings = {key: value for key, value in document.items() if isinstance(value, str | int | list)}
    kind, space = document["benchmark"], document.get("space", "a space")
    return [
        f"benchmark     {kind} of {space}, by {_describe_versions(document)}",
        f"settings      {_describe_settings({k: v for k, v in settings.items() if k not in ('benchmark', 'space')})}",
        f"work          {'finished' if is_finished else 'not finished'}, {pluralize(records, 'line')} in the journal",
        f"report        {folder / 'report.md'}" if is_finished else "next          repeat its command to go on",
    ]


def _describe_versions(document: Mapping[str, Any]) -> str:
    versions = document.get("versions")
    return f"zcpt {versions.get('zcpt', 'of an unknown version') if isinstance(versions, dict) else '?'}"


def _describe_changes(settings: Mapping[str, Any], kind: type[Any]) -> str:
    """Return the settings that differ from the defaults of their fields, as flags are written."""
    defaults = {field.name: field.default for field in fields(kind)}
    return _describe_settings({k: v for k, v in settings.items() if k in defaults and v != defaults[k]})


def _describe_settings(settings: Mapping[str, Any]) -> str:
    texts = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in settings.items()}
    return ", ".join(f"{key.replace('_', '-')} {value}" for key, value in texts.items())


def _count_records(folder: Path, pattern: str) -> tuple[int, int, float]:
    """Return the number of files and complete lines in a journal, and the seconds in them, without changing a file."""
    lines, seconds, paths = 0, 0.0, sorted(folder.glob(pattern))
    for path in paths:
        try:
            with open_file(path, os.O_RDONLY) as file:
                complete = file.read().split(b"\n")[:-1]  # the last part is a line that is being written
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {describe_os_error(error)}.") from None
        for number, line in enumerate(complete, 1):
            record = parse_json(line, f"line {number} of {path}")
            value = record.get("seconds", 0) if isinstance(record, dict) else None
            if not isinstance(value, int | float):
                value = sum(value.values()) if isinstance(value, dict) else 0
            seconds += value
        lines += len(complete)
    return len(paths), lines, seconds
