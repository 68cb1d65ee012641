"""NAS-Bench-201 (Dong and Yang, ICLR 2020): CSV, and the .pth file of its own API.

Columns of the CSV: ``arch_str`` and any of these, in percent. PREFIX is ``c10``, ``c100`` or ``in16``.

- ``PREFIX_test_acc_200ep_pct`` (metric ``test``), ``PREFIX_test_acc_12ep_pct`` (``test-12``);
- ``PREFIX_valid_acc_200ep_pct`` (``valid``), ``PREFIX_valid_acc_12ep_pct`` (``valid-12``). For CIFAR-10 the prefix of
  these is ``c10valid``, since those networks were trained on half of the images;
- ``c10_test_acc_200ep_nb201_per_seed_pct`` (``best-test``): the accuracy of each training, separated by semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace
from zcpt.tabular._benchmark import Key, TabularBenchmark
from zcpt.tabular._csv import BenchmarkBuilder, Row, check_percent, check_table_path, read_rows, summarize_trainings

TITLE = "NAS-Bench-201"
_PREFIXES = {"cifar10": ("c10", "c10valid"), "cifar100": ("c100", "c100"), "imagenet16-120": ("in16", "in16")}
_PER_TRAINING = "c10_test_acc_200ep_nb201_per_seed_pct"
_EPOCHS = {"200ep": "", "12ep": "-12"}
_OFFICIAL = {
    "cifar10": {"test": ("cifar10", "ori-test"), "valid": ("cifar10-valid", "x-valid")},
    "cifar100": {"test": ("cifar100", "x-test"), "valid": ("cifar100", "x-valid")},
    "imagenet16-120": {"test": ("ImageNet16-120", "x-test"), "valid": ("ImageNet16-120", "x-valid")},
}
"""Data set -> metric -> names that the API gives to the training and to the evaluation."""


def read(path: Path, space: SearchSpace) -> TabularBenchmark:
    """Read a CSV or .pth file.

    Raises:
        DataError: The file is missing or damaged, or reading it would run code that it contains.
    """
    builder = BenchmarkBuilder(TITLE, space, path, space.train_size)
    if ".pth" in path.suffixes:
        document = _load_pth(path)
        for index, text in enumerate(document["meta_archs"]):
            if index in document["arch2infos"]:
                try:
                    accuracies = dict(_read_information(document["arch2infos"][index]))
                    builder.add(space.parse(text), accuracies, f"architecture {index}")
                except (KeyError, TypeError, IndexError, ValueError, AttributeError, SpaceError) as error:
                    raise DataError(
                        f"{path}, architecture {index} does not have the format of {TITLE}'s API: {error!r}."
                    ) from None
    else:
        _refuse_pickles(path)
        for row in read_rows(path, ("arch_str",)):
            builder.add(
                row.parse_architecture(space.parse, row.get_text("arch_str")),
                dict(_read_columns(row)),
                f"line {row.line}",
            )
    return builder.build()


def _read_columns(row: Row) -> Iterator[tuple[Key, float]]:
    for data_set, (test, valid) in _PREFIXES.items():
        for epochs, suffix in _EPOCHS.items():
            for metric, prefix in (("test", test), ("valid", valid)):
                text = row.fields.get(f"{prefix}_{metric}_acc_{epochs}_pct", "")
                yield (data_set, f"{metric}{suffix}"), row.parse_percent(text)
    runs = row.fields.get(_PER_TRAINING, "")
    if runs:
        yield ("cifar10", "best-test"), max(map(row.parse_percent, runs.split(";")))


def _refuse_pickles(path: Path) -> None:
    if ".pickle" in path.suffixes or ".pkl" in path.suffixes or ".pbz2" in path.suffixes:
        raise DataError(
            f"{path} is a pickle, and reading one runs whatever code is in it: write a CSV of it with the benchmark's "
            "own API, as docs/benchmarks.md shows, and give that with --table."
        )


def _load_pth(path: Path) -> dict[str, Any]:
    """Load a .pth file of the API as plain data."""
    check_table_path(path)
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever the file makes it raise
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it would call {named[1]}" if named else "it is damaged, or a pickle of another kind"
        raise DataError(
            f"{path} cannot be read as plain data ({reason}): write a CSV of it with the benchmark's own API, as "
            "docs/benchmarks.md shows, and give that with --table."
        ) from None
    entries: dict[str, Any] = document if isinstance(document, dict) else {}
    if not isinstance(entries.get("meta_archs"), list) or not isinstance(entries.get("arch2infos"), dict):
        raise DataError(f"{path} is no file of {TITLE}: it has no list 'meta_archs' and no dict 'arch2infos'.")
    return entries


def _read_information(information: Mapping[str, Any]) -> Iterator[tuple[Key, float]]:
    for schedule, suffix in (("full", ""), ("less", "-12")):
        for data_set, metrics in _OFFICIAL.items():
            for metric, (training, evaluation) in metrics.items():
                runs = _read_trainings(information[schedule]["all_results"], training, evaluation)
                for name, value in summarize_trainings(metric, runs).items():
                    if not (suffix and name.startswith("best")):  # the short schedule was trained once
                        yield (data_set, name + suffix), value


def _read_trainings(
    results: Mapping[tuple[str, int], Mapping[str, Any]], training: str, evaluation: str
) -> list[float]:
    """Return the accuracies of all trainings that have this evaluation, each after its last epoch."""
    accuracies = []
    for (name, _), result in results.items():
        if name == training:
            key = f"{evaluation}@{result['epochs'] - 1}"  # the API names evaluations by their epoch, counted from 0
            if key in result["eval_acc1es"]:
                accuracies.append(check_percent(float(result["eval_acc1es"][key])))
    return accuracies
