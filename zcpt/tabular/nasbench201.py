"""Tables of NAS-Bench-201 (Dong and Yang, ICLR 2020): CSV, and the .pth file of its own API.

CSV: ``arch_str``, and of these what is there, in percent: PREFIX is ``c10``, ``c100`` or ``in16``.

- ``PREFIX_test_acc_200ep_pct`` (metric ``test``), ``PREFIX_test_acc_12ep_pct`` (``test-12``);
- ``PREFIX_valid_acc_200ep_pct`` (``valid``), ``PREFIX_valid_acc_12ep_pct`` (``valid-12``), where CIFAR-10 has the
  prefix ``c10valid_``: those were trained on half of the images;
- ``c10_test_acc_200ep_nb201_per_seed_pct`` (``best-test``): each training's, divided by semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace
from zcpt.tabular._rows import Builder, Row, checked_percent, mean_and_best, read_rows
from zcpt.tabular._table import Key, Table

TITLE = "NAS-Bench-201"
_PREFIXES = {"cifar10": ("c10", "c10valid"), "cifar100": ("c100", "c100"), "imagenet16-120": ("in16", "in16")}
_EACH_RUN = "c10_test_acc_200ep_nb201_per_seed_pct"
_EPOCHS = {"200ep": "", "12ep": "-12"}
_OFFICIAL = {
    "cifar10": {"test": ("cifar10", "ori-test"), "valid": ("cifar10-valid", "x-valid")},
    "cifar100": {"test": ("cifar100", "x-test"), "valid": ("cifar100", "x-valid")},
    "imagenet16-120": {"test": ("ImageNet16-120", "x-test"), "valid": ("ImageNet16-120", "x-valid")},
}
"""Where the API's files have what: the name of the training, and that of the evaluation."""


def read(path: Path, space: SearchSpace) -> Table:
    """Read either kind of file.

    Raises:
        DataError: It is missing, damaged, or can only be read by running code of its own.
    """
    builder = Builder(TITLE, space, path, space.train_size)
    if ".pth" in path.suffixes:
        document = _loaded(path)
        for index, text in enumerate(document["meta_archs"]):
            if index in document["arch2infos"]:
                try:
                    accuracies = dict(_trained(document["arch2infos"][index]))
                    builder.add(space.parse(text), accuracies, f"architecture {index}")
                except (KeyError, TypeError, IndexError, ValueError, AttributeError, SpaceError) as error:
                    raise DataError(
                        f"{path}, architecture {index} is not of the form that {TITLE}'s API reads: {error!r}."
                    ) from None
    else:
        _refuse_pickles(path)
        for row in read_rows(path, ("arch_str",)):
            builder.add(row.parsed(space.parse, row.text("arch_str")), dict(_columns(row)), f"line {row.line}")
    return builder.table()


def _columns(row: Row) -> Iterator[tuple[Key, float]]:
    for data_set, (test, valid) in _PREFIXES.items():
        for epochs, suffix in _EPOCHS.items():
            for metric, prefix in (("test", test), ("valid", valid)):
                text = row.fields.get(f"{prefix}_{metric}_acc_{epochs}_pct", "")
                yield (data_set, f"{metric}{suffix}"), row.percent(text)
    runs = row.fields.get(_EACH_RUN, "")
    if runs:
        yield ("cifar10", "best-test"), max(map(row.percent, runs.split(";")))


def _refuse_pickles(path: Path) -> None:
    if ".pickle" in path.suffixes or ".pkl" in path.suffixes or ".pbz2" in path.suffixes:
        raise DataError(
            f"{path} is a pickle, and reading one runs whatever code is in it: write a CSV of it with the benchmark's "
            "own API, as docs/benchmarks.md shows, and give that with --table."
        )


def _loaded(path: Path) -> dict[str, Any]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"there is no table {path}: give the file of the benchmark with --table.") from None
    except Exception as error:  # pickles of other kinds fail in many ways
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it would call {named[1]}" if named else "it is damaged, or a pickle of another kind"
        raise DataError(
            f"{path} cannot be read as plain data ({reason}): write a CSV of it with the benchmark's own API, as "
            "docs/benchmarks.md shows, and give that with --table."
        ) from None
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    if not isinstance(found.get("meta_archs"), list) or not isinstance(found.get("arch2infos"), dict):
        raise DataError(f"{path} is no file of {TITLE}: it has no list 'meta_archs' and no dict 'arch2infos'.")
    return found


def _trained(information: Mapping[str, Any]) -> Iterator[tuple[Key, float]]:
    for schedule, suffix in (("full", ""), ("less", "-12")):
        for data_set, metrics in _OFFICIAL.items():
            for metric, (training, evaluation) in metrics.items():
                runs = _runs(information[schedule]["all_results"], training, evaluation)
                for name, value in mean_and_best(metric, runs).items():
                    if not (suffix and name.startswith("best")):
                        yield (data_set, name + suffix), value


def _runs(results: Mapping[tuple[str, int], Mapping[str, Any]], training: str, evaluation: str) -> list[float]:
    """The accuracies of the last epoch of all trainings that were evaluated so."""
    of = (result for (name, _), result in results.items() if name == training)
    last = ((result["eval_acc1es"], f"{evaluation}@{result['epochs'] - 1}") for result in of)
    return [checked_percent(float(accuracies[key])) for accuracies, key in last if key in accuracies]
