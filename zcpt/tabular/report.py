"""Results as pages of Markdown, with pictures and with published figures beside them."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zcpt.errors import ConfigError
from zcpt.files import read_json, write_atomically
from zcpt.options import pluralize
from zcpt.space_registry import get_space
from zcpt.tabular import published
from zcpt.tabular._folder import PAGE, RESULT
from zcpt.tabular.pictures import bars, by_correlation, heat_maps, scatter
from zcpt.tabular.proxies import SCORES

Result = Mapping[str, Any]
Pictures = Mapping[str, Figure | None]
"""By name; None where there is no more to draw it from."""
_PREFACE = """# Results

Measured by `zcpt benchmark`, each with the settings named below its table, and written by `zcpt benchmark report`.
"""
_SHOWN = ("proxy", "validation_proxy", "order", "proposals", "validation_batches")
_KEYS = ("protocol.benchmark", "protocol.space", "protocol.table", "results")


def write_report(folder: Path) -> Path:
    """Write the page and the pictures of one result into its folder."""
    return write_page([folder], folder / PAGE)


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write one page for several results, with the pictures in their folders.

    A scatter plot needs ``scores.csv``; where only the picture is left of it, the page shows that.

    Raises:
        ConfigError: A folder holds no result.
    """
    parts = []
    for group in _grouped(folders):
        result, folder = group[0]
        if len(group) > 1:
            text, pictures = _searches([each for each, _ in group])
        else:
            text, pictures = _PAGES[result["protocol"]["benchmark"]](result, folder)
        for name, picture in pictures.items():
            path = folder / f"{name}.png"
            if picture is not None:
                picture.savefig(path, dpi=120)
            elif not path.exists():
                continue
            text += f"\n![{name}]({Path(os.path.relpath(path, out.parent)).as_posix()})\n"
        parts.append(text)
    if len(folders) > 1:
        parts = [_PREFACE + _contents(parts) + _sources("".join(parts)), *(f"#{text}" for text in parts)]
    else:
        parts = [parts[0] + _sources(parts[0])]
    write_atomically(out, "\n".join(parts))
    return out


def _contents(parts: Sequence[str]) -> str:
    """Links to the parts, as GitHub names their headings."""
    lines, before = [], Counter[str]()
    for part in parts:
        title = part.partition("\n")[0].removeprefix("# ")
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        lines.append(f"- [{title}](#{anchor}{f'-{before[anchor]}' if before[anchor] else ''})\n")
        before[anchor] += 1
    return "\n" + "".join(lines)


def _grouped(folders: Sequence[Path]) -> Iterable[list[tuple[Result, Path]]]:
    """The results: searches that were judged alike share a group, the others stand alone."""
    groups: dict[object, list[tuple[Result, Path]]] = {}
    for folder in folders:
        result = read_json(folder / RESULT, _KEYS)
        protocol = result["protocol"]
        kind, table = protocol["benchmark"], protocol["table"]
        if kind not in _PAGES:
            raise ConfigError(f"{folder / RESULT} is damaged: there is no benchmark '{kind}'.")
        alike = (protocol["space"], table["data_set"], table["metric"], table["content"])
        groups.setdefault(alike if kind == "search" else folder, []).append((result, folder))
    return groups.values()


def _proxies(result: Result, folder: Path) -> tuple[str, Pictures]:
    protocol, table = result["protocol"], result["protocol"]["table"]
    header = (
        "proxy | Spearman | Kendall | in the best 10 % | best 10 % found | best 5 % in 64 | arg max | s / network | "
    )
    header += "failed | published"
    rows = []
    for name in by_correlation(result["results"]):
        found = result["results"][name]
        inside = found["in_best"]
        rows.append(
            [
                name if found["higher_is_better"] else f"{name} (lower is better)",
                _with_interval(found["spearman"]),
                _with_interval(found["kendall"]),
                f"{_shown(inside['spearman'])} / {_shown(inside['kendall'])}",
                _shown(found["best_found"], percent=True),
                _shown(found["of_64"], 0),
                _shown(found["argmax_accuracy"], 2),
                _shown(found["seconds"], 3),
                str(found["failures"]),
                "; ".join(map(_published, published.find_correlations(_judged(protocol), name))),
            ]
        )
    number = next(iter(result["results"].values()))
    size, shape, options = number["networks"] + number["failures"], protocol["networks"], protocol["options"]
    layers = get_space(protocol["space"]).describe_layers(shape["layers"])
    text = (
        f"# Proxies on {_title(protocol)}: {size:,} networks of C={shape['channels']}, {layers}\n\n"
        f"{size:,} of {table['architectures']:,} architectures; best of them {_shown(result['best_drawn'], 2)} %, best "
        f"of the table {_shown(table['best'], 2)} %. Correlations with accuracy '{table['metric']}' are signed: "
        "positive is as the proxy declares. In brackets: 95 % intervals by bootstrap over the architectures. Networks "
        "without a finite score are left out and counted as failed; for an aggregate they are last. Published: "
        "Spearman / Kendall.\n\n"
        f"{_markdown(header, rows)}\n"
        f"{shape['image_size'][0]}x{shape['image_size'][1]} images, {shape['num_classes']} classes; one mini-batch of "
        f"{options['batch_size']} from {_images(protocol)}; {options['weights']} weights; seed {options['seed']}. "
        f"{_surroundings(protocol)}\n"
    )
    if result["failures"]:
        lines = (
            f"- {f['proxy']}, {pluralize(f['count'], 'network')}, first `{f['first']}`: {f['reason']}"
            for f in result["failures"]
        )
        text += "\nFailures:\n\n" + "\n".join(lines) + "\n"
    title = f"{_title(protocol)}, {size:,} networks"
    scores = folder / SCORES
    drawn = scatter(*_read_scores(scores, list(result["results"])), title) if scores.exists() else None
    return text, {"scatter": drawn, "correlations": bars(result["results"], title)}


def _operations(result: Result, folder: Path) -> tuple[str, Pictures]:
    protocol, table = result["protocol"], result["protocol"]["table"]
    header = "score | best-acc | avg-acc | Kendall best-acc | Kendall avg-acc | best of each edge | rank | seconds | "
    header += "published best-acc / avg-acc"
    rows = []
    for name, found in result["results"].items():
        known = published.find_agreements(_judged(protocol), name)
        chosen = [each for each in found["chosen"] if each]
        by_reference = [found["agreement"][reference] for reference in ("best-acc", "avg-acc")]
        rows.append(
            [
                name,
                *(_mean_sd(each["spearman"]) for each in by_reference),
                *(_mean_sd(each["kendall"]) for each in by_reference),
                ", ".join(map(_accuracy, chosen)),
                ", ".join(str(each["rank"] or "-") for each in chosen),
                _shown(found["seconds"], 1),
                "; ".join(map(_published_agreement, known)),
            ]
        )
    text = (
        f"# Scores of operations on {_title(protocol)}, accuracy '{table['metric']}'\n\n"
        "Spearman's correlation over the candidates of an edge, mean over the edges, in the undecided supernet: with "
        "the best (best-acc) and the mean (avg-acc) of the accuracies of all architectures that have the operation "
        f"there. Mean and standard deviation over seeds {_listed(protocol['seeds'])}.\n\n"
        f"{_markdown(header, rows)}\n{_supernets(protocol)}{_surroundings(protocol)}\n"
    )
    values = {name: found["values"] for name, found in result["results"].items()}
    return text, {"operations": heat_maps(values, result["candidates"], _title(protocol))}


def _search(result: Result, folder: Path) -> tuple[str, Pictures]:
    rows = [
        [
            str(row["seed"]),
            f"`{row['architecture']}`",
            _shown(row["accuracy"], 2),
            str(row["rank"] or "-"),
            _shown(row["seconds"], 0),
        ]
        for row in result["searches"]
    ]
    summary, settings = result["results"], result["protocol"]["search"]
    found = summary["accuracy"]
    text = (
        f"{_searched(result)}: mean {_shown(found['mean'], 2)}{_interval(found, 2)}, mean of all proposals "
        f"{_shown(summary['proposals'], 2)}; {_about_table(result)} Not in the table: {summary['not_in_table']}.\n\n"
        f"{_markdown('seed | found | accuracy | rank | seconds', rows)}\n"
        f"{_compared(settings)}, {settings['order']} order, N={settings['proposals']}, "
        f"V={settings['validation_batches']}. {_batches(result)} {_surroundings(result['protocol'])}\n"
    )
    return text + _published_searches(result), {}


def _searches(results: Sequence[Result]) -> tuple[str, Pictures]:
    """One line for each of several ways of searching, the best first."""
    each_has = [result["protocol"]["search"] for result in results]
    others = [name for name in each_has[0] if name not in _SHOWN and len({str(s.get(name)) for s in each_has}) > 1]
    lacking = ["not in the table"] * any(result["results"]["not_in_table"] for result in results)
    rows = []
    for result in sorted(results, key=lambda each: -(each["results"]["accuracy"]["mean"] or 0.0)):
        summary, settings = result["results"], result["protocol"]["search"]
        rows.append(
            [
                _compared(settings),
                settings["order"],
                str(settings["proposals"]),
                str(settings["validation_batches"]) if settings["proposals"] > 1 else "-",
                _shown(summary["accuracy"]["mean"], 2) + _interval(summary["accuracy"], 2),
                ", ".join(_shown(row["accuracy"], 2) for row in result["searches"]),
                _shown(summary["proposals"], 2),
                _shown(summary["seconds"], 0),
                *(str(settings.get(name, "-")) for name in others),
                *(str(summary["not_in_table"]) for _ in lacking),
            ]
        )
    header = "proxy | order | N | V | mean | seed by seed | mean of the proposals | seconds"
    header = " | ".join([header, *others, *lacking])
    protocols = dict.fromkeys(f"{_batches(result)} {_surroundings(result['protocol'])}" for result in results)
    text = (
        f"{_searched(results[0])}, by several ways of searching; {_about_table(results[0])}\n\n"
        f"{_markdown(header, rows)}\n"
        f"{' '.join(protocols)}\n"
    )
    return text + _published_searches(results[0]), {}


def _searched(result: Result) -> str:
    table = result["protocol"]["table"]
    return f"# Searches on {_title(result['protocol'])}\n\nAccuracy '{table['metric']}' in percent of what was found"


def _about_table(result: Result) -> str:
    table = result["protocol"]["table"]
    return (
        f"optimum {_shown(table['best'], 2)} of {table['architectures']:,} architectures, mean of the table "
        f"{_shown(table['mean'], 2)}. In brackets: Student's 95 % interval."
    )


def _compared(settings: Mapping[str, Any]) -> str:
    """By what a search decides, and by what it compares the proposals."""
    after = settings["validation_proxy"]
    return f"{settings['proxy']}, validated by {after}" if after else str(settings["proxy"])


def _batches(result: Result) -> str:
    settings = result["protocol"]["search"]
    return (
        f"Batches of {settings['batch_size']} and {settings['validation_batch_size']} from "
        f"{_images(result['protocol'])}."
    )


def _published_searches(result: Result) -> str:
    known = published.find_searches(_judged(result["protocol"]))
    facts = [[fact.method, fact.accuracy, fact.source] for fact in known]
    return f"\nPublished:\n\n{_markdown('method | accuracy | source', facts)}" if facts else ""


_PAGES: dict[str, Callable[[Result, Path], tuple[str, Pictures]]] = {
    "proxies": _proxies,
    "operations": _operations,
    "search": _search,
}


def _read_scores(path: Path, names: Sequence[str]) -> tuple[list[float], dict[str, list[float]]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row["accuracy"]) for row in rows], {n: [float(row[n] or "nan") for row in rows] for n in names}


def _markdown(header: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {header} |", "|---" * (header.count("|") + 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]) + "\n"


def _escaped(cell: str) -> str:
    """The text of a cell: NAS-Bench-201 writes architectures with bars, and names may have line breaks."""
    return " ".join(cell.split()).replace("|", "\\|")


def _shown(value: float | None, digits: int = 3, percent: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.0f} %" if percent else f"{value:.{digits}f}"


def _interval(found: Mapping[str, float | None], digits: int) -> str:
    return "" if found["low"] is None else f" [{_shown(found['low'], digits)}, {_shown(found['high'], digits)}]"


def _with_interval(found: Mapping[str, float | None]) -> str:
    return _shown(found["value"]) + _interval(found, 2)


def _mean_sd(found: Mapping[str, float | None]) -> str:
    return _shown(found["mean"], 2) + ("" if found["sd"] is None else f" ± {_shown(found['sd'], 2)}")


def _published_agreement(figure: published.PublishedAgreement) -> str:
    avg_acc = "-" if figure.avg_acc is None else f"{figure.avg_acc:g}"
    return f"{figure.best_acc:g} / {avg_acc} ({figure.source}, {pluralize(figure.seeds, 'seeds')})"


def _published(fact: published.PublishedCorrelation) -> str:
    bar = "|" * (fact.source in published.ABSOLUTE)
    figures = ("-" if figure is None else f"{bar}{figure:g}{bar}" for figure in (fact.spearman, fact.kendall))
    return f"{' / '.join(figures)} ({fact.source})"


def _title(protocol: Result) -> str:
    """The benchmark, with the space where its name is another one, and the data set."""
    table, space = protocol["table"], protocol["space"]
    own = table["title"].lower().replace("-", "") == space.replace("-", "")
    return f"{table['title']}{'' if own else f' ({space})'}, {table['data_set']}"


def _judged(protocol: Result) -> published.GroundTruth:
    return published.GroundTruth(protocol["space"], protocol["table"]["data_set"], protocol["table"]["metric"])


def _accuracy(chosen: Mapping[str, Any]) -> str:
    equals = chosen.get("equals", 1)
    return f"{_shown(chosen['accuracy'], 2)}{f' (mean of {equals} equals)' if equals > 1 else ''}"


def _sources(text: str) -> str:
    """What the names of the sources on a page stand for."""
    named = [
        name for name in published.SOURCES if re.search(rf"[(|] ?{re.escape(name)}[,)]|\| {re.escape(name)} \|", text)
    ]
    lines = "".join(f"- {name}: {published.SOURCES[name]}.\n" for name in named)
    return f"\nSources of published figures, whose protocols differ:\n\n{lines}" if named else ""


def _images(protocol: Result) -> str:
    return str(protocol["images"].get("dataset", "data of Python"))


def _supernets(protocol: Result) -> str:
    about = protocol["about"]
    settings = next(iter(about.get("scores", {}).values()), None)
    if settings is None:
        return ""
    layers = get_space(protocol["space"]).describe_layers(settings["layers"])
    return (
        f"Supernets of C={settings['channels']}, {layers}; mini-batches of {settings['batch_size']} from "
        f"{about.get('dataset', 'data of Python')}. "
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _surroundings(protocol: Result) -> str:
    hardware, found = protocol["hardware"], protocol["versions"]
    return (
        f"Made with zcpt {found['zcpt']}, torch {found['torch']} on {hardware['name']} ({hardware['device']}, "
        f"{pluralize(hardware['workers'], 'process', 'processes')}, {pluralize(hardware['cores'], 'core')})."
    )
