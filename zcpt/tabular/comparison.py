"""One table of several results: a row for each method, a column for each data set."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.files import read_json, write_atomically
from zcpt.search import upgrade_settings
from zcpt.tabular._folder import RESULT
from zcpt.tabular.markdown import format_interval, format_number, format_table

Result = Mapping[str, Any]


class Cell(NamedTuple):
    """One measure of a method on a data set; nan where it is undefined."""

    measured: int
    """Number of networks or seeds that were measured."""
    mean: float
    sd: float
    """Standard deviation over the seeds; nan for a measure of one sample of networks."""
    low: float
    """Lower end of the 95 % interval."""
    high: float


@dataclass(frozen=True)
class Comparison:
    """Methods on data sets, by one measure that is better the higher it is."""

    measure: str
    methods: tuple[str, ...]
    """Names of the rows, the best of the first column first."""
    data_sets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    """Cells by method and data set. A method that was not measured on a data set has none there."""

    @property
    def digits(self) -> int:
        """Digits after the point: two for accuracies in percent, three for correlations and shares."""
        return 2 if "accuracy" in self.measure else 3

    def is_best(self, method: str, data_set: str) -> bool:
        """Return whether no other method has a higher mean on the data set."""
        means = [cell.mean for (_, column), cell in self.cells.items() if column == data_set]
        cell = self.cells.get((method, data_set))
        return cell is not None and cell.mean == max((mean for mean in means if not math.isnan(mean)), default=None)


def compare_results(folders: Sequence[Path], measure: str = "") -> Comparison:
    """Read the results of several measurements of one kind.

    Args:
        folders: Folders of the results: all of ``zcpt benchmark proxies``, all of ``operations`` or all of ``search``.
        measure: One of ``MEASURES``; by default the first one of the kind.

    Raises:
        ConfigError: A folder holds no result, the folders are of different kinds, or two of them have the same method
            on the same data set.
    """
    results = [read_json(folder / RESULT, ["protocol.benchmark", "protocol.table", "results"]) for folder in folders]
    kinds = list(dict.fromkeys(str(result["protocol"]["benchmark"]) for result in results))
    if len(kinds) > 1:
        raise ConfigError(
            f"a table compares results of one kind, not of {' and '.join(kinds)}: make one table of each."
        )
    if kinds[0] == "trials":
        raise ConfigError(f"{folders[0]} holds curves of trials: 'zcpt benchmark report' makes a page of them.")
    if kinds[0] not in MEASURES:
        raise ConfigError(f"{folders[0] / RESULT} is damaged: there is no benchmark '{kinds[0]}'.")
    measures = MEASURES[kinds[0]]
    measure = measure or measures[0]
    if measure not in measures:
        raise ConfigError(describe_unknown_name(f"--measure of 'zcpt benchmark {kinds[0]}'", measure, measures))
    data_sets = _describe_differences([_list_ground_truth(result) for result in results], "data set")
    cells: dict[tuple[str, str], Cell] = {}
    sources: dict[tuple[str, str], Path] = {}
    for result, folder, data_set, names in zip(results, folders, data_sets, _name_methods(results), strict=True):
        for name, cell in _read_cells(result, measure, names):
            if (name, data_set) in cells:
                raise ConfigError(
                    f"{sources[name, data_set]} and {folder} both have '{name}' on {data_set}: leave one of them out."
                )
            cells[name, data_set], sources[name, data_set] = cell, folder
    columns = tuple(dict.fromkeys(data_sets))
    methods = sorted(dict.fromkeys(name for name, _ in cells), key=lambda name: _rank(cells, name, columns))
    return Comparison(measure, tuple(methods), columns, cells)


MEASURES: dict[str, tuple[str, ...]] = {
    "search": ("accuracy",),
    "operations": ("best-acc", "avg-acc"),
    "proxies": ("spearman", "kendall", "best_found", "argmax_accuracy"),
}
"""Measures of each kind of result, the default first."""


def _list_ground_truth(result: Result) -> dict[str, str]:
    table = result["protocol"]["table"]
    return {"data set": table["data_set"], "space": result["protocol"]["space"], "metric": table["metric"]}


def _describe_differences(settings: Sequence[Mapping[str, Any]], always: str) -> list[str]:
    """Return for each mapping the value of ``always``, and those of other names that are not the same in all."""
    names = dict.fromkeys(name for mapping in settings for name in mapping if name != always)
    varying = [name for name in names if len({str(mapping.get(name)) for mapping in settings}) > 1]
    texts = []
    for mapping in settings:
        others = [f"{name}={mapping.get(name)}" for name in varying if mapping.get(name) not in (None, "")]
        texts.append(", ".join([str(mapping[always]), *others]))
    return texts


def _name_methods(results: Sequence[Result]) -> list[str]:
    """Return the name of each search: that of its variant, or its proxy with the settings that are not the same in all.

    Results of proxies and of operations have several methods, which have names of their own.
    """
    if results[0]["protocol"]["benchmark"] != "search":
        return [""] * len(results)
    settings = [upgrade_settings(result["protocol"]["search"]) for result in results]
    described = _describe_differences(settings, "proxy")
    return [result["protocol"].get("variant") or text for result, text in zip(results, described, strict=True)]


def _read_cells(result: Result, measure: str, name: str) -> Iterator[tuple[str, Cell]]:
    """Yield the methods of a result with their cells; ``name`` is that of a search."""
    if result["protocol"]["benchmark"] == "search":
        statistics = result["results"]["accuracy"]
        listed = len(result["searches"]) - result["results"]["not_in_table"]
        yield name, _make_cell(listed, statistics["mean"], statistics)
        return
    for method, measures in result["results"].items():
        if measure in ("best-acc", "avg-acc"):
            if method not in ("best-acc", "avg-acc"):  # the references themselves
                agreement = measures["agreement"][measure]
                yield (
                    method,
                    _make_cell(len(agreement["by_seed"]), agreement["spearman"]["mean"], agreement["spearman"]),
                )
        elif isinstance(measures[measure], dict):
            yield method, _make_cell(measures["networks"], measures[measure]["value"], measures[measure])
        else:
            yield method, _make_cell(measures["networks"], measures[measure], {})


def _make_cell(count: int, mean: float | None, statistics: Mapping[str, float | None]) -> Cell:
    # JSON has no nan: results hold null instead.
    numbers = [math.nan if value is None else value for value in (mean, *map(statistics.get, ("sd", "low", "high")))]
    return Cell(count, *numbers)


def _rank(cells: Mapping[tuple[str, str], Cell], method: str, columns: Sequence[str]) -> list[float]:
    """Return the key that sorts methods: minus the means of the columns, last where there is none."""
    means = [cells[method, column].mean if (method, column) in cells else math.nan for column in columns]
    return [math.inf if math.isnan(mean) else -mean for mean in means]


def write_comparison(folders: Sequence[Path], out: Path, measure: str = "") -> Path:
    """Write the table of several results as Markdown, LaTeX or CSV, by the ending of the file.

    Raises:
        ConfigError: The ending is another one, or as for ``compare_results``.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"--out {out} must end in {', '.join(FORMATS)}: the ending selects the format.")
    write_atomically(out, FORMATS[out.suffix](compare_results(folders, measure)))
    return out


def format_markdown(comparison: Comparison) -> str:
    """Return a table in Markdown: mean ± standard deviation [interval], the best of a column in bold."""
    rows = [[method, *_format_cells(comparison, method, "±", "**{}**")] for method in comparison.methods]
    return format_table([f"method ({comparison.measure})", *comparison.data_sets], rows)


def format_latex(comparison: Comparison) -> str:
    """Return a tabular of LaTeX, which needs no package."""
    columns = " & ".join(map(_escape_latex, (f"method ({comparison.measure})", *comparison.data_sets)))
    lines = [rf"\begin{{tabular}}{{l{'c' * len(comparison.data_sets)}}}", r"\hline", rf"{columns} \\", r"\hline"]
    for method in comparison.methods:
        cells = _format_cells(comparison, method, r"$\pm$", r"\textbf{{{}}}")
        lines.append(rf"{' & '.join([_escape_latex(method), *cells])} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def format_csv(comparison: Comparison) -> str:
    """Return a line for each cell, with all digits; an undefined value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "data set", "measure", *Cell._fields])
    for (method, data_set), cell in sorted(
        comparison.cells.items(), key=lambda item: (comparison.methods.index(item[0][0]), item[0][1])
    ):
        writer.writerow([method, data_set, comparison.measure, *("" if value != value else value for value in cell)])
    return text.getvalue()


FORMATS: dict[str, Callable[[Comparison], str]] = {".md": format_markdown, ".tex": format_latex, ".csv": format_csv}
"""Formats by the ending of a file."""


def _format_cells(comparison: Comparison, method: str, plus_minus: str, bold: str) -> list[str]:
    """Return the texts of a row; an empty text for a data set on which the method was not measured."""
    texts = []
    for data_set in comparison.data_sets:
        cell = comparison.cells.get((method, data_set))
        if cell is None:
            texts.append("")
            continue
        mean, sd = (format_number(value, comparison.digits) for value in (cell.mean, cell.sd))
        mean = bold.format(mean) if comparison.is_best(method, data_set) else mean
        spread = "" if math.isnan(cell.sd) else f" {plus_minus} {sd}"
        texts.append(mean + spread + format_interval({"low": cell.low, "high": cell.high}, comparison.digits))
    return texts


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
