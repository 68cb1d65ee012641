"""Results of trials as a section of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from zcpt.options import pluralize
from zcpt.tabular._sections import Result, Section, describe_benchmark, describe_environment
from zcpt.tabular.markdown import format_mean, format_number, format_table

_MARKS = (10, 25, 50, 100, 200)
"""Numbers of trials after which the table shows the mean."""
_START = 5
"""Trial from which on the picture shows all of the curves."""


def render_trials(result: Result, folder: Path) -> Section:
    """Render curves of trials, with a row for each variant."""
    protocol, results = result["protocol"], result["results"]
    table, seeds = protocol["table"], protocol["seeds"]
    longest = max(len(measures["curve"]["mean"]) for measures in results.values())
    marks = [mark for mark in _MARKS if mark < longest]
    rows = []
    for name, measures in results.items():
        curve = measures["curve"]["mean"]
        needed = sorted(count for count in measures["trials_needed"] if count is not None)
        middle = (len(measures["trials_needed"]) - 1) // 2
        rows.append(
            [
                name,
                *(format_number(curve[mark - 1], 2) if mark <= len(curve) else "-" for mark in marks),
                f"{format_mean(measures['final'])} after {len(curve)}",
                format_number(measures["optimistic"]["mean"][-1], 2),
                f"{100 * measures['successful']:.0f} %",
                str(needed[middle]) if middle < len(needed) else "-",
                format_mean(measures["mean_trials"], 1),
                *(str(measures["reached"][kind] or "-") for kind in ("curve", "optimistic")),
                f"{format_mean(saved, 1)} ({saved['ratio']:.1f}x)" if (saved := measures.get("saved")) else "-",
            ]
        )
    header = ["variant", *map(str, marks), "at the end", "optimistic", "successful", "median", "mean"]
    header += ["mean curve", "optimistic mean curve", "saved"]
    text = (
        f"Accuracy '{table['metric']}' in percent of the architecture whose accuracy '{protocol['guide']['metric']}' "
        f"is the best so far, the mean of {pluralize(len(seeds), 'seed')} after so many trials; best of the table "
        f"{format_number(table['best'], 2)}. 'Optimistic' is the mean of the highest accuracy '{table['metric']}' of "
        "all trials, by which nobody can choose. A run is successful when its curve comes to "
        f"{format_number(protocol['target'], 2)}; 'median' and 'mean' are the trials until then, where a run without "
        "success counts as one trial longer than it was. 'Mean curve' are the trials after which the mean of all seeds "
        "comes to it. 'Saved' are trials less than the first variant with the same algorithm, with equal seeds, and "
        f"how many times fewer. In brackets: Student's 95 % intervals.\n\n{format_table(header, rows)}\n"
        f"{_describe_variants(protocol['variants'])}{describe_environment(protocol)}\n"
    )
    benchmark = describe_benchmark(protocol)
    algorithms = {name: settings["algorithm"] for name, settings in protocol["variants"].items()}
    has_bands = all("low" in measures["curve"] for measures in results.values())
    draw = partial(draw_trials, results, algorithms, benchmark, table["metric"]) if has_bands else None
    return Section(f"Trials on {benchmark}", text, {"trials": draw})


def _describe_variants(variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each variant with the settings that differ from the first one, whose own are not defaults."""
    first = next(iter(variants.values()))
    lines = []
    for name, settings in variants.items():
        shown = {key: settings[key] for key in ("algorithm", "trials", "proxy", "warmup", "move") if settings.get(key)}
        shown |= {key: value for key, value in settings.items() if value != first.get(key)}
        lines.append(f"- {name}: {', '.join(f'{key} {value}' for key, value in shown.items())}\n")
    return "".join(lines) + "\n"


def draw_trials(
    results: Mapping[str, Mapping[str, Any]], algorithms: Mapping[str, str], title: str, metric: str
) -> Figure:
    """Draw mean accuracies against the number of trials, with bands between the quartiles.

    Each algorithm has a row. The left panel follows the best guiding accuracy, the right one the highest reported
    accuracy.
    """
    names = list(dict.fromkeys(algorithms.values()))
    figure = Figure(figsize=(10, 1.2 + 3 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 2, sharex="row", sharey=True, squeeze=False)
    lowest: list[float] = []
    for row, algorithm in zip(panels, names, strict=True):
        shown = {name: results[name] for name in results if algorithms[name] == algorithm}
        colours = colormaps["tab10" if len(shown) <= 10 else "tab20"]
        for axis, kind in zip(row, ("curve", "optimistic"), strict=True):
            for index, (variant, measures) in enumerate(shown.items()):
                mean, low, high = (_to_array(measures[kind][key]) for key in ("mean", "low", "high"))
                trials = np.arange(1, len(mean) + 1)
                axis.plot(trials, mean, color=colours(index), linewidth=1.2, label=variant)
                axis.fill_between(trials, low, high, color=colours(index), alpha=0.12, linewidth=0)
                started = mean[min(_START, len(mean)) - 1 :]
                lowest += [float(value) for value in started[:1] if math.isfinite(value)]
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("%", fontsize=8)
        row[1].legend(fontsize=7, loc="lower right")
    for axis, reading in zip(panels[0], ("best guiding value", "running maximum"), strict=True):
        axis.set_title(f"accuracy '{metric}', {reading}", fontsize=9)
    for axis in panels[-1]:
        axis.set_xlabel("trials", fontsize=8)
    if lowest:
        panels[0, 0].set_ylim(bottom=min(lowest))
    figure.suptitle(title, fontsize=10)
    return figure


def _to_array(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
