"""The measured rows of a space as a page of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import zcpt
from benchmarks.variants import AGREEMENTS, BY_ORDER, SEARCHES, VARIANTS, networks_scored, settings

Row = dict[str, Any]

PAGE = """\
# Zero-Cost-PT on {title}, CIFAR-10

Written by `python benchmarks/tabular.py --space {name} --report` from `{name}.json`.

All figures are CIFAR-10 test {what} in percent after {trained}, looked up: best of the
{architectures:,} architectures {best}, mean, which is what picking one blindly comes to, {mean}. 'Mean proposal' is the
mean over all proposals before validation, 'best proposal' that of the best one of each seed. Evaluations (networks
scored, in both stages) and seconds are medians over the seeds. The table lacks {missing} of {proposals} proposals.
"""
SEARCHED = """
## {title}

{table}
"""
DRAWN = """
## Random search of as many evaluations

As many architectures of the table as the search scored networks, drawn evenly and scored by the same proxy, as
networks of the search's width and depth. 'One score each': on one batch at one initialisation, and the best score wins.
'Validated': only as many as stage 1 scored, and the N best of them are compared by stage 2; that scores at least as
many networks as the search does. 'Best drawn' is what a faultless score would find, 'Spearman' the correlation of the
single scores with the accuracies. Seconds are those of both ways together.

{table}
"""
AGREED = """
## Agreement of the first importances with trained accuracy

Spearman's correlation over the operations of a choice, mean over the choices: the importances in the undecided
supernet, against the best training and the mean accuracy of all architectures with the operation there.

{table}
"""


class Page(NamedTuple):
    """What a page says besides its figures."""

    title: str
    trained: str
    """How the architectures of the table were trained."""
    error: bool = False
    """Whether the field speaks of errors here; rows hold accuracies all the same."""
    searches: str = ""
    agreement: str = ""


ONE_SHOT = Page("NAS-Bench-1Shot1, space", "108 epochs of training, mean of three runs", error=True)
PAGES = {
    "nasbench201": Page(
        "NAS-Bench-201",
        "200 epochs of training",
        searches="Published for fixed order and N=1 with B=256, seeds 0-3: 93.34, 94.36, 94.30, 94.00, "
        "mean 94.00 +- 0.47.",
        agreement="Published: 0.758 with the best training (four seeds) and 0.83 with the mean accuracy (one seed).",
    ),
    "nasbench-macro": Page("NAS-Bench-Macro", "training, mean of three runs"),
    "nasbench1shot1-1": ONE_SHOT._replace(
        title=f"{ONE_SHOT.title} 1",
        searches="Best single run of the table: 5.4487. Published for one trained DARTS search: 6.75, 6.70, 6.65.",
        agreement="Published: 0.75 with the best training and 0.625 with the mean accuracy.",
    ),
    "nasbench1shot1-2": ONE_SHOT._replace(
        title=f"{ONE_SHOT.title} 2",
        searches="Best single run of the table: 5.7792.",
        agreement="Published: 0.375 with the best training and 0.625 with the mean accuracy.",
    ),
}


class Report:
    """Writes the page of a space."""

    def __init__(self, space: str, document: dict[str, Any]) -> None:
        self.space, self.page = zcpt.get_space(space), PAGES[space]
        self.table, self.rows = document["table"], document["rows"]

    def text(self) -> str:
        """All of it."""
        proposals = [a for row in self.rows if row["kind"] == "search" for a in row["proposals"]]
        head = PAGE.format(
            title=self.page.title,
            name=self.space.name,
            what="error" if self.page.error else "accuracy",
            trained=self.page.trained,
            architectures=self.table["architectures"],
            best=self.shown([self.table["best"]]),
            mean=self.shown([self.table["mean"]]),
            missing=proposals.count(None),
            proposals=len(proposals),
        )
        searches = self.searches("Searches", SEARCHES, self.page.searches)
        return head + searches + self.searches("Orders", BY_ORDER) + self.random() + self.agreement()

    def shown(self, accuracies: Iterable[float | None], digits: int = 2) -> str:
        """Accuracies as the page has them."""
        sign, start = (-1, 100) if self.page.error else (1, 0)
        return ", ".join("-" if a is None else f"{start + sign * a:.{digits}f}" for a in accuracies)

    def averaged(self, accuracies: Iterable[float | None], digits: int = 2) -> str:
        """The mean of those that are known."""
        known = [a for a in accuracies if a is not None]
        return self.shown([statistics.mean(known) if known else None], digits)

    def both(self, accuracies: Sequence[float | None]) -> str:
        """All, and their mean."""
        return f"{self.shown(accuracies)} | {self.averaged(accuracies, digits=3)}"

    def of(self, kind: str, variants: Iterable[str]) -> dict[str, list[Row]]:
        """The rows of each variant that has some."""
        found = {v: [row for row in self.rows if (row["kind"], row["variant"]) == (kind, v)] for v in variants}
        return {variant: rows for variant, rows in found.items() if rows}

    def searches(self, title: str, variants: Iterable[str], remark: str = "") -> str:
        """A section with searches; empty if there are none."""
        header = "variant | seeds | found | mean | mean proposal | best proposal | evaluations | seconds | measured"
        lines = []
        for variant, rows in self.of("search", variants).items():
            best = [max((a for a in row["proposals"] if a is not None), default=None) for row in rows]
            columns = [
                self.both([row["accuracy"] for row in rows]),
                self.averaged(a for row in rows for a in row["proposals"]),
                self.averaged(best),
                f"{statistics.median(self.evaluations(row) for row in rows):.0f}",
                f"{statistics.median(row['seconds']['all'] for row in rows):.0f}",
            ]
            lines.append(_line(variant, rows, columns))
        return _section(SEARCHED, header, lines, remark, title=title)

    def evaluations(self, row: Row) -> int:
        """How many networks a search scored."""
        config = settings(self.space, VARIANTS[row["variant"]], row["seed"])
        return sum(networks_scored(self.space, config, len(row["candidates"])))

    def random(self) -> str:
        """The section with random search; empty if there is none."""
        header = (
            "as many as | seeds | one score each | mean | validated | mean | best drawn | Spearman | seconds | measured"
        )
        lines = []
        for variant, rows in self.of("random", VARIANTS).items():
            columns = [
                self.both([row["accuracy"] for row in rows]),
                self.both([row["validated"] for row in rows]),
                self.averaged(row["best drawn"] for row in rows),
                f"{statistics.mean(row['spearman'] for row in rows):.2f}",
                f"{statistics.median(row['seconds']['all'] for row in rows):.0f}",
            ]
            lines.append(_line(variant, rows, columns))
        return _section(DRAWN, header, lines)

    def agreement(self) -> str:
        """The section with the first importances; empty if there is none."""
        lines = []
        for variant, rows in self.of("agreement", AGREEMENTS).items():
            columns = [
                f"{', '.join(f'{row[name]:.3f}' for row in rows)} | {statistics.mean(row[name] for row in rows):.3f}"
                for name in ("best", "mean")
            ]
            lines.append(_line(variant, rows, columns))
        header = "variant | seeds | best training | mean | mean accuracy | mean | measured"
        return _section(AGREED, header, lines, self.page.agreement)


def report(space: str, document: dict[str, Any]) -> str:
    """The page of a space."""
    return Report(space, document).text()


def _section(template: str, header: str, lines: Sequence[str], remark: str = "", title: str = "") -> str:
    if not lines:
        return ""
    table = "\n".join([f"| {header} |", "|---" * (header.count("|") + 1) + "|", *lines])
    return template.format(table=table, title=title) + (f"\n{remark}\n" if remark else "")


def _line(variant: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    seeds, on = ", ".join(str(row["seed"]) for row in rows), rows[-1]["on"]
    return f"| {variant} | {seeds} | {' | '.join(columns)} | {on['date']}, {on['device']}, torch {on['torch']} |"
