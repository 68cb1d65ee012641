"""Results of the three kinds of measurement as sections of a page."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure

from zcpt.options import pluralize
from zcpt.search import upgrade_settings
from zcpt.space_registry import get_space
from zcpt.tabular import published
from zcpt.tabular.markdown import format_interval, format_mean, format_number, format_table
from zcpt.tabular.measures import compute_mean_interval
from zcpt.tabular.pictures import draw_correlations, draw_heat_maps, draw_scatter_plots, sort_by_correlation
from zcpt.tabular.proxies import SCORES_FILE

Result = Mapping[str, Any]
"""Content of a ``result.json``."""
_COLUMNS = ("proxy", "validation_proxy", "order", "proposals", "validation_batches")
"""Settings of a search that have a column of their own."""


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    text: str
    """Markdown below the heading."""
    pictures: Mapping[str, Callable[[], Figure] | None] = field(default_factory=dict)
    """Functions that draw the pictures, by name; None if their numbers are gone and only a file is left."""


def render_proxies(result: Result, folder: Path) -> Section:
    """Render the measures of proxies, the highest correlation first."""
    protocol, table = result["protocol"], result["protocol"]["table"]
    rows = []
    for name in sort_by_correlation(result["results"]):
        measures = result["results"][name]
        figures = published.find_correlations(_get_ground_truth(protocol), name)
        rows.append(
            [
                name if measures["higher_is_better"] else f"{name} (lower is better)",
                *(_format_value(measures[correlation]) for correlation in ("spearman", "kendall")),
                " / ".join(format_number(measures["in_best"][c]) for c in ("spearman", "kendall")),
                "-" if measures["best_found"] is None else f"{100 * measures['best_found']:.0f} %",
                format_number(measures["of_64"], 0),
                format_number(measures["argmax_accuracy"], 2),
                format_number(measures["seconds"]),
                str(measures["failures"]),
                "; ".join(map(_format_correlation, figures)),
            ]
        )
    header = ["proxy", "Spearman", "Kendall", "in the best 10 %", "best 10 % found", "best 5 % in 64", "arg max"]
    header += ["s / network", "failed", "published"]
    measures = next(iter(result["results"].values()))
    count, networks, options = measures["networks"] + measures["failures"], protocol["networks"], protocol["options"]
    height, width = networks["image_size"]
    text = (
        f"{count:,} of {table['architectures']:,} architectures; best of them {format_number(result['best_drawn'], 2)} "
        f"%, best of the table {format_number(table['best'], 2)} %. Correlations with accuracy '{table['metric']}' are "
        "signed: positive is as the proxy declares. In brackets: 95 % intervals by bootstrap over the architectures. "
        "Networks without a finite score count as failed and are left out; an aggregate ranks them last. "
        f"Published: Spearman / Kendall.\n\n{format_table(header, rows)}\n"
        f"{height}x{width} images, {networks['num_classes']} classes; one mini-batch of {options['batch_size']} from "
        f"{_describe_images(protocol)}; {options['weights']} weights; seed {options['seed']}. "
        f"{describe_environment(protocol)}\n"
    )
    if result["failures"]:
        text += "\nFailures:\n\n" + "".join(
            f"- {failure['proxy']}, {pluralize(failure['count'], 'network')}, first `{failure['first']}`: "
            f"{failure['reason']}\n"
            for failure in result["failures"]
        )
    layers = get_space(protocol["space"]).describe_layers(networks["layers"])
    benchmark, scores = describe_benchmark(protocol), folder / SCORES_FILE
    title = f"{benchmark}, {count:,} networks"
    draw = partial(_draw_scores, scores, result["results"]) if scores.exists() else None
    best = f"the best half by accuracy of {benchmark}, {count:,} networks"
    return Section(
        f"Proxies on {benchmark}: {count:,} networks of C={networks['channels']}, {layers}",
        text,
        {
            "scatter": draw and partial(draw, title, 1.0),
            "scatter-best": draw and partial(draw, best, 0.5),
            "correlations": partial(draw_correlations, result["results"], title),
        },
    )


def _draw_scores(path: Path, results: Mapping[str, Mapping[str, Any]], title: str, best: float) -> Figure:
    """Draw the scores of a file, those of the best share of the networks; the highest correlation first."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {name: [float(row[name] or "nan") for row in rows] for name in sort_by_correlation(results)}
    directions = {name: measures["higher_is_better"] for name, measures in results.items()}
    return draw_scatter_plots([float(row["accuracy"]) for row in rows], scores, title, directions, best)


def render_operations(result: Result, folder: Path) -> Section:
    """Render the agreement of operation scores with the references."""
    protocol, table = result["protocol"], result["protocol"]["table"]
    rows = []
    for name, measures in result["results"].items():
        agreements = [measures["agreement"][reference] for reference in ("best-acc", "avg-acc")]
        chosen = [row for row in measures["chosen"] if row]
        figures = published.find_agreements(_get_ground_truth(protocol), name)
        rows.append(
            [
                name,
                *(_format_mean_sd(agreement["spearman"]) for agreement in agreements),
                *(_format_mean_sd(agreement["kendall"]) for agreement in agreements),
                ", ".join(map(_format_chosen, chosen)),
                ", ".join(str(row["rank"] or "-") for row in chosen),
                format_number(measures["seconds"], 1),
                "; ".join(map(_format_agreement, figures)),
            ]
        )
    header = ["score", "best-acc", "avg-acc", "Kendall best-acc", "Kendall avg-acc", "best of each edge", "rank"]
    header += ["seconds", "published best-acc / avg-acc"]
    text = (
        "Spearman's correlation over the candidates of an edge, averaged over the edges, in the undecided supernet: "
        "with the highest (best-acc) and the mean accuracy (avg-acc) of all architectures that have the operation "
        f"there. Mean and standard deviation over seeds {', '.join(map(str, protocol['seeds']))}.\n\n"
        f"{format_table(header, rows)}\n{_describe_supernets(protocol)}{describe_environment(protocol)}\n"
    )
    benchmark = describe_benchmark(protocol)
    values = {name: measures["values"] for name, measures in result["results"].items() if measures["values"]}
    draw = partial(draw_heat_maps, values, result["candidates"], benchmark) if values else None
    return Section(f"Scores of operations on {benchmark}, accuracy '{table['metric']}'", text, {"operations": draw})


def render_search(result: Result, folder: Path) -> Section:
    """Render one variant of a search, seed by seed."""
    has_finalists = "gain" in result["results"]
    rows = [
        [
            str(row["seed"]),
            f"`{row['architecture']}`",
            format_number(row["accuracy"], 2),
            *([format_number(row["validated"], 2)] if has_finalists else []),
            str(row["rank"] or "-"),
            format_number(row["seconds"], 0),
        ]
        for row in result["searches"]
    ]
    header = ["seed", "found", "accuracy", *(["by validation alone"] if has_finalists else []), "rank", "seconds"]
    summary, settings = result["results"], result["protocol"]["search"]
    text = (
        f"{_introduce_searches(result)}: mean {format_mean(summary['accuracy'])}, mean of all proposals "
        f"{format_number(summary['proposals'], 2)}; {_describe_table(result)} Not in the table: "
        f"{summary['not_in_table']}.\n\n"
        f"{format_table(header, rows)}\n"
        f"{_describe_criteria(settings)}, {settings['order']} order, N={settings['proposals']}, "
        f"V={settings['validation_batches']}. {_describe_batches(result)} {describe_environment(result['protocol'])}\n"
    )
    return _make_search_section([result], text + _describe_finalists(result))


def _describe_finalists(result: Result) -> str:
    """Describe what finalists change; an empty text without finalists."""
    summary, finalists = result["results"], result["protocol"].get("finalists")
    if not finalists or "gain" not in summary:
        return ""
    return (
        f"\nFinalists: the {finalists['number']} best proposals by validation were measured by {finalists['name']}, "
        f"and the best value won: mean {format_mean(summary['accuracy'])}, where validation alone has "
        f"{format_mean(summary['validated'])}; difference of the same seeds {format_mean(summary['gain'])}. Measuring "
        f"them took {format_number(summary['finalist_seconds'], 0)} s of the seconds.\n"
    )


def render_searches(results: Sequence[Result]) -> Section:
    """Render several variants of a search, one in each row, the best first."""
    settings_of = [upgrade_settings(result["protocol"]["search"]) for result in results]
    other_settings = _describe_other_settings(settings_of)
    columns: dict[str, list[str]] = {
        "variant": [result["protocol"].get("variant", "") for result in results],
        "proxy": [_describe_criteria(settings) for settings in settings_of],
        "order": [settings["order"] for settings in settings_of],
        "N": [str(settings["proposals"]) for settings in settings_of],
        "V": [str(s["validation_batches"]) if s["proposals"] > 1 else "-" for s in settings_of],
        "other settings": other_settings,
        "mean": [format_mean(result["results"]["accuracy"]) for result in results],
        "seed by seed": [
            ", ".join(format_number(row["accuracy"], 2) for row in result["searches"]) for result in results
        ],
        "by validation alone": [
            format_mean(r["results"]["validated"]) if "validated" in r["results"] else "-" for r in results
        ],
        "mean of the proposals": [format_number(result["results"]["proposals"], 2) for result in results],
        "networks scored": [_format_evaluations(result["searches"]) for result in results],
        "seconds": [format_number(result["results"]["seconds"], 0) for result in results],
        "not in the table": [str(result["results"]["not_in_table"]) for result in results],
    }
    # Columns in which every cell has the empty value are left out.
    empty = {
        "variant": "",
        "other settings": "",
        "networks scored": "-",
        "by validation alone": "-",
        "not in the table": "0",
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) != {empty.get(name)}}
    best_first = sorted(range(len(results)), key=lambda i: -(results[i]["results"]["accuracy"]["mean"] or 0.0))
    rows = [[cells[i] for cells in columns.values()] for i in best_first]
    environments = dict.fromkeys(
        f"{_describe_batches(result)} {describe_environment(result['protocol'])}" for result in results
    )
    text = (
        f"{_introduce_searches(results[0])}, by several ways of searching; {_describe_table(results[0])}\n\n"
        f"{format_table(list(columns), rows)}\n"
    )
    text += "".join(f"- {environment}\n" for environment in environments)
    return _make_search_section([results[i] for i in best_first], text)


def _make_search_section(results: Sequence[Result], text: str) -> Section:
    """Add random search and published figures to a table of searches."""
    protocol = results[0]["protocol"]
    text += _render_random_searches([result for result in results if result.get("random_search")])
    figures = published.find_searches(_get_ground_truth(protocol))
    if figures:
        rows = [[figure.method, figure.accuracy, figure.source] for figure in figures]
        text += f"\nPublished:\n\n{format_table(['method', 'accuracy', 'source'], rows)}"
    return Section(f"Searches on {describe_benchmark(protocol)}", text)


def _render_random_searches(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        searches = result["random_search"]
        means = [compute_mean_interval([row[name] for row in searches]) for name in ("accuracy", "validated")]
        correlations = [row["spearman"] for row in searches if row["spearman"] is not None]
        rows.append(
            [
                result["protocol"].get("variant", "") or _describe_criteria(result["protocol"]["search"]),
                str(len(searches)),
                f"{median(row['evaluations'] for row in searches):.0f}",
                *map(format_mean, means),
                f"{mean(row['best_drawn'] for row in searches):.2f}",
                format_number(compute_mean_interval(correlations)["mean"], 2),
                f"{mean(row['seconds'] for row in searches):.0f}",
            ]
        )
    if not rows:
        return ""
    header = ["beside", "seeds", "networks scored", "one score each", "validated", "best drawn", "Spearman", "seconds"]
    return (
        "\nRandom search of as many evaluations: as many architectures of the table as the search scored networks, "
        "drawn evenly and scored by the same proxy, as networks of the search's width and depth. 'One score each': on "
        "one batch at one initialisation, and the best score wins. 'Validated': only as many as stage 1 scored, and "
        "the N best of them are compared by stage 2. 'Best drawn' is what a perfect score would select, 'Spearman' the "
        "correlation of the single scores with the accuracies. Seconds are of both ways together.\n\n"
        f"{format_table(header, rows)}"
    )


def _describe_other_settings(settings_of: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each search its settings without a column that differ from the most common value."""
    names = [name for name in settings_of[0] if name not in _COLUMNS]
    common = {name: Counter(str(settings.get(name)) for settings in settings_of).most_common(1)[0][0] for name in names}
    return [
        ", ".join(f"{name}={settings[name]}" for name in names if str(settings.get(name)) not in (common[name], "None"))
        for settings in settings_of
    ]


def _introduce_searches(result: Result) -> str:
    return f"Accuracy '{result['protocol']['table']['metric']}' in percent of the architectures that searches found"


def _describe_table(result: Result) -> str:
    table = result["protocol"]["table"]
    return (
        f"optimum {format_number(table['best'], 2)} of {table['architectures']:,} architectures, mean of the table "
        f"{format_number(table['mean'], 2)}. In brackets: Student's 95 % interval."
    )


def _describe_criteria(settings: Mapping[str, Any]) -> str:
    """Return the proxy of stage 1, with that of stage 2 if it is another one."""
    validation = settings["validation_proxy"]
    return f"{settings['proxy']}, validated by {validation}" if validation else str(settings["proxy"])


def _describe_batches(result: Result) -> str:
    settings = result["protocol"]["search"]
    images = _describe_images(result["protocol"])
    return f"Batches of {settings['batch_size']} and {settings['validation_batch_size']} from {images}."


def describe_benchmark(protocol: Result) -> str:
    """Return the name of the benchmark, with the space if it is named otherwise, and the data set."""
    title, space = protocol["table"]["title"], protocol["space"]
    is_same = title.lower().replace("-", "") == space.replace("-", "")
    return f"{title}{'' if is_same else f' ({space})'}, {protocol['table']['data_set']}"


def _describe_images(protocol: Result) -> str:
    return str(protocol["images"].get("dataset", "data of Python"))


def _describe_supernets(protocol: Result) -> str:
    about = protocol["about"]
    settings = next(iter(about.get("scores", {}).values()), None)
    if settings is None:
        return ""
    layers = get_space(protocol["space"]).describe_layers(settings["layers"])
    return (
        f"Supernets of C={settings['channels']}, {layers}; mini-batches of {settings['batch_size']} from "
        f"{about.get('dataset', 'data of Python')}. "
    )


def describe_environment(protocol: Result) -> str:
    """Return versions, hardware and day, as far as they were recorded."""
    hardware, versions = protocol["hardware"], protocol["versions"]
    software = ", ".join(f"{name} {versions[name]}" for name in ("zcpt", "torch") if versions[name])
    count = hardware.get("machines", 1)
    machines = f" on {pluralize(count, 'machine')}" if count > 1 else ""
    cores = f", {pluralize(hardware['cores'], 'core')}" if hardware["cores"] else ""
    day = f", {protocol['date']}" if protocol.get("date") else ""
    origin = ", converted from the results of an earlier program" if protocol.get("converted") else ""
    return (
        f"Measured with {software} on {hardware['name']} ({hardware['device']}, "
        f"{pluralize(hardware['workers'], 'process', 'processes')}{machines}{cores}{day}){origin}."
    )


def _get_ground_truth(protocol: Result) -> published.GroundTruth:
    table = protocol["table"]
    return published.GroundTruth(protocol["space"], table["data_set"], table["metric"])


def _format_evaluations(searches: Sequence[Mapping[str, Any]]) -> str:
    """Return the median number of networks that a search scored, in both stages."""
    if any("evaluations" not in row for row in searches):
        return "-"
    return f"{median(sum(row['evaluations'].values()) for row in searches):.0f}"


def _format_value(statistics: Mapping[str, float | None]) -> str:
    return format_number(statistics["value"]) + format_interval(statistics)


def _format_mean_sd(statistics: Mapping[str, float | None]) -> str:
    sd = statistics["sd"]
    return format_number(statistics["mean"], 2) + ("" if sd is None else f" ± {format_number(sd, 2)}")


def _format_chosen(chosen: Mapping[str, Any]) -> str:
    tied = chosen.get("equals", 1)
    return format_number(chosen["accuracy"], 2) + (f" (mean of {tied} that tie)" if tied > 1 else "")


def _format_correlation(figure: published.PublishedCorrelation) -> str:
    bar = "|" if figure.source in published.ABSOLUTE else ""
    values = ("-" if value is None else f"{bar}{value:g}{bar}" for value in (figure.spearman, figure.kendall))
    return f"{' / '.join(values)} ({figure.source})"


def _format_agreement(figure: published.PublishedAgreement) -> str:
    avg_acc = "-" if figure.avg_acc is None else f"{figure.avg_acc:g}"
    return f"{figure.best_acc:g} / {avg_acc} ({figure.source}, {pluralize(figure.seeds, 'seed')})"
