"""Tables and figures of papers, measured again: what is run, what is published, and our numbers beside it."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from zcpt.errors import ConfigError
from zcpt.files import read_json, write_atomically
from zcpt.printing import quote_words
from zcpt.tabular import published
from zcpt.tabular._folder import PAGE, RESULT, write_json
from zcpt.tabular._sections import describe_environment
from zcpt.tabular.markdown import format_mean, format_table
from zcpt.tabular.measures import compute_mean_interval

Scale = Literal["small", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)
MEASUREMENTS = "measurements"
"""Folder of the measurements, which entries share, beside the folders of the entries."""

TABLES: dict[str, tuple[str, ...]] = {
    "nasbench201": ("nb201.csv", "nb201.csv.gz", "nb201_accuracy.csv.gz", "NAS-Bench-201-v1_*.pth"),
    **{f"nasbench1shot1-{space}": ("nb1shot1.csv", "nb1shot1.csv.gz", "nb1shot1_spaces1_2.csv.gz") for space in (1, 2)},
    "nasbench1shot1-3": ("nb1shot1_space3.csv", "nb1shot1_space3.csv.gz"),
    "darts": ("nb301.csv", "nb301.csv.gz", "darts_nb301_zcproxies_naslib_early.csv.gz"),
}
"""Space -> names of the files that can be its table."""
IMAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cifar10": ("cifar-10-batches-py", ()),
    "cifar100": ("cifar-100-python", ()),
    "imagenet16-120": ("", ("--image-size", "16")),
}
"""Data set -> folder of its official files, '' if they are not read, and flags with which its pictures are read."""


@dataclass(frozen=True)
class Files:
    """The folders of tables and of images."""

    table_dir: Path
    data_dir: Path

    def find_table(self, space: str) -> Path | None:
        """Return the table of a space, or None if it is not there."""
        found = (path for name in TABLES[space] for path in sorted(self.table_dir.glob(name)))
        return next(found, None)

    def find_images(self, data_set: str) -> list[str] | None:
        """Return the flags that read a data set, or None if it is not there."""
        official, flags = IMAGES[data_set]
        if (self.data_dir / data_set / "train").is_dir():
            return ["--dataset", f"folder:{self.data_dir / data_set}", *flags]
        if official and (self.data_dir / official).is_dir():
            return ["--dataset", data_set, "--data-dir", str(self.data_dir)]
        return None


@dataclass(frozen=True)
class Need:
    """A file or a machine that a measurement needs."""

    name: str
    """In a list, such as ``cifar10``."""
    how: str
    """Part of a sentence: what it is and how it is given."""
    is_there: bool


@dataclass(frozen=True)
class Measurement:
    """A command of ``zcpt benchmark`` with its settings at two scales."""

    name: str
    """Name of its folder."""
    kind: Literal["proxies", "operations", "search", "trials"]
    space: str
    data_set: str
    """Data set of the accuracies, and of the images unless ``kind`` is ``trials``."""
    flags: str
    """Flags at both scales."""
    full: str = ""
    """Further flags at full scale."""
    small: str | None = None
    """Further flags at small scale; None if the measurement has none that a CPU does in minutes."""
    scaled: str = ""
    """What is smaller at small scale, and why."""
    minutes: float | None = None
    """Minutes at small scale on two CPU cores, from the seconds in ``benchmarks/results``; None: not measured."""
    needs_gpu: bool = True
    """Whether the full scale takes days without a GPU."""
    variants: str = ""
    """Text of the file of ``--variants``."""
    scores: str = ""
    """Name of the measurement whose folder is given as ``--scores``."""

    def list_needs(self, files: Files, scale: Scale, has_gpu: bool) -> list[Need]:
        """Return what the measurement needs."""
        tables = " or ".join(TABLES[self.space])
        table = f"the table of {self.space} ({tables} in the folder of --table-dir)"
        needs = [Need(self.space, table, files.find_table(self.space) is not None)]
        if self.kind != "trials":
            official = IMAGES[self.data_set][0]
            folders = f"{self.data_set}/train/CLASS/" + (f" or {official}/" if official else "")
            images = f"images of {self.data_set} ({folders} in the folder of --data-dir)"
            needs.append(Need(self.data_set, images, files.find_images(self.data_set) is not None))
            if scale == "full" and self.needs_gpu:
                needs.append(Need("GPU", "a GPU (or days on the CPU: --device cpu)", has_gpu))
        return needs

    def build_words(
        self, folder: Path, table: Path, images: Sequence[str], scale: Scale, device: str = ""
    ) -> list[str]:
        """Return the words of the command.

        Args:
            folder: Folder of all measurements.
            table: File of the table.
            images: Flags that read the images.
            scale: Scale of the settings.
            device: Device, if one is given.
        """
        words = ["benchmark", self.kind, "--space", self.space, "--table", str(table)]
        if self.kind != "trials":
            words += [*images, *(["--device", device] if device else [])]
        words += ["--accuracy-on", self.data_set, *shlex.split(self.flags)]
        words += shlex.split((self.small or "") if scale == "small" else self.full)
        if self.variants:
            words += ["--variants", str(self.get_variants_path(folder))]
        if self.scores:
            words += ["--scores", str(folder / self.scores)]
        return [*words, "--out", str(folder / self.name)]

    def get_variants_path(self, folder: Path) -> Path:
        """Return the path of the file of ``--variants``, which is written before the command runs."""
        return folder / f"{self.name}.yaml"


class Published(NamedTuple):
    """A published number, and where ours is in the result of a measurement."""

    row: str
    column: str
    value: str
    """As published."""
    source: str
    """One of ``published.SOURCES``."""
    measurement: str
    path: str
    """Keys of ``result.json`` with slashes between them; ``*`` takes the mean over the items of a list."""
    digits: int = 2


@dataclass(frozen=True)
class Entry:
    """A table or figure of a paper."""

    name: str
    paper: str
    """One of ``papers.PAPERS``."""
    title: str
    measurements: tuple[Measurement, ...]
    """In the order in which they run."""
    numbers: tuple[Published, ...]
    note: str = ""
    """What to know when reading the numbers."""

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Scales at which all measurements have settings."""
        return tuple(s for s in SCALES if s == "full" or all(m.small is not None for m in self.measurements))

    @property
    def minutes(self) -> float | None:
        """Minutes at small scale on two CPU cores; None if they are not known for all measurements."""
        known = [m.minutes for m in self.measurements if m.minutes is not None]
        return sum(known) if "small" in self.scales and len(known) == len(self.measurements) else None

    def list_needs(self, files: Files, scale: Scale, has_gpu: bool) -> list[Need]:
        """Return what the entry needs, each once."""
        needs = [need for m in self.measurements for need in m.list_needs(files, scale, has_gpu)]
        return list(dict.fromkeys(needs))

    def check_needs(self, files: Files, scale: Scale, has_gpu: bool) -> None:
        """Raise ConfigError if the entry has no such scale, or something that it needs is not there."""
        if scale not in self.scales:
            raise ConfigError(f"{self.name} has no small scale: give --scale full on a machine with a GPU.")
        missing = [need.how for need in self.list_needs(files, scale, has_gpu) if not need.is_there]
        if missing:
            raise ConfigError(f"{self.name} at {scale} scale needs {', and '.join(missing)}.")


def read_number(result: Any, path: str) -> dict[str, float | None]:
    """Return the number at a path of a result, as ``mean``, ``low`` and ``high`` of its 95 % interval.

    A number of a single measurement has no interval, and what the result lacks is None.
    """
    key, _, rest = path.partition("/")
    if not path:
        if isinstance(result, Mapping):
            return {"mean": result.get("mean", result.get("value")), "low": result["low"], "high": result["high"]}
        return {"mean": result, "low": None, "high": None}
    if key == "*":
        means = [read_number(item, rest)["mean"] for item in result if item is not None]
        statistics = compute_mean_interval([float(mean) for mean in means if mean is not None])
        return {name: None if math.isnan(statistics[name]) else statistics[name] for name in ("mean", "low", "high")}
    return read_number(result[int(key)] if isinstance(result, list) else result[key], rest)


def hash_journal(folder: Path) -> str:
    """Return a hash of all lines in the journals of a measurement."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("journal/*.jsonl")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_entry(entry: Entry, scale: Scale, out: Path, files: Files) -> dict[str, Any]:
    """Read the finished measurements of an entry, and write its ``result.json`` and ``report.md``.

    Args:
        entry: The entry.
        scale: Scale at which it was run.
        out: Folder of the scale, with the measurements in ``measurements``.
        files: Where tables and images were.

    Returns:
        The content of ``result.json``.
    """
    folders = {m.name: out / MEASUREMENTS / m.name for m in entry.measurements}
    results = {name: read_json(folder / RESULT, ["protocol", "results"]) for name, folder in folders.items()}
    document: dict[str, Any] = {
        "entry": entry.name,
        "paper": entry.paper,
        "title": entry.title,
        "scale": scale,
        "scaled": [m.scaled for m in entry.measurements if m.scaled and scale == "small"],
        "measurements": {
            m.name: {
                "command": _format_command(m, scale, files),
                "journal": hash_journal(folders[m.name]),
                "environment": describe_environment(results[m.name]["protocol"]),
            }
            for m in entry.measurements
        },
        "numbers": [
            {**number._asdict(), "ours": read_number(results[number.measurement], number.path)}
            for number in entry.numbers
        ],
        "note": entry.note,
    }
    (out / entry.name).mkdir(exist_ok=True)
    write_json(out / entry.name / RESULT, document)
    write_atomically(out / entry.name / PAGE, render_entry(document))
    return document


def write_overview(out: Path, names: Sequence[str]) -> Path:
    """Write one page of all finished entries, in the order of their names, and return its path."""
    documents = [
        read_json(out / name / RESULT, ["entry", "numbers"]) for name in names if (out / name / RESULT).exists()
    ]
    write_atomically(out / PAGE, "\n".join(map(render_entry, documents)))
    return out / PAGE


def render_entry(document: Mapping[str, Any]) -> str:
    """Return the page of an entry: published numbers beside ours, settings, commands and hashes."""
    rows = [
        [
            number["row"],
            number["column"],
            number["value"] + (" (absolute)" if number["source"] in published.ABSOLUTE else ""),
            number["source"],
            format_mean(number["ours"], number["digits"]),
        ]
        for number in document["numbers"]
    ]
    table = format_table(["", "measure", "published", "source", "ours"], rows)
    sources = dict.fromkeys(number["source"] for number in document["numbers"])
    measurements = document["measurements"]
    notes = [document["note"]] if document["note"] else []
    if document["scaled"]:
        notes.append(f"Smaller than published: {'; '.join(dict.fromkeys(document['scaled']))}.")
    environments = (f"- {name}: journal {m['journal']}. {m['environment']}" for name, m in measurements.items())
    return "\n".join(
        [
            f"# {document['entry']}: {document['title']}\n",
            f"Paper: {document['paper']}; {document['scale']} scale. In brackets: 95 % intervals.\n",
            table,
            *(f"{note}\n" for note in notes),
            "```",
            *(m["command"] for m in measurements.values()),
            "```\n",
            *environments,
            "\nSources:\n",
            *(f"- {source}: {published.SOURCES[source]}." for source in sources),
            "",
        ]
    )


def _format_command(measurement: Measurement, scale: Scale, files: Files) -> str:
    """Return the command with the names of the files only, as folders differ from machine to machine."""
    table = files.find_table(measurement.space)
    images = ["--dataset", measurement.data_set, *IMAGES[measurement.data_set][1]]
    name = Path(table.name if table else TABLES[measurement.space][0])
    return f"zcpt {quote_words(measurement.build_words(Path(MEASUREMENTS), name, images, scale))}"
