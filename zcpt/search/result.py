"""The result of a search: the chosen architecture, and the architectures that it was chosen from."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.errors import SpaceError
from zcpt.options import pluralize
from zcpt.printing import escape_text
from zcpt.search.config import SearchConfig
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space


@dataclass(frozen=True)
class ValidatedArchitecture:
    """A distinct network among the proposals, represented by the first architecture that builds it."""

    architecture: Architecture
    proposals: tuple[int, ...]
    """Numbers of the proposals that build this network."""
    scores: tuple[float, ...]
    """Proxy value on each validation batch; empty if it was the only candidate."""

    @property
    def mean(self) -> float | None:
        """Mean validation score; None if it was the only candidate."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    def __repr__(self) -> str:
        score = "" if self.mean is None else f", mean score {self.mean:.2f}"
        return f"<{type(self).__name__} of proposals {', '.join(map(str, self.proposals))}{score}>"


@dataclass(frozen=True)
class Finalist:
    """One of the best proposals, measured after stage 2, for example by a short training."""

    architecture: Architecture
    value: float
    """What was measured; higher is better. -inf if the measurement failed."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, which did not guide."""
    seconds: float = 0.0
    failure: str = ""
    """Why the measurement failed; empty if it did not."""


@dataclass(frozen=True)
class SearchResult:
    """Result of ``zcpt.search``."""

    architecture: Architecture
    candidates: tuple[ValidatedArchitecture, ...]
    """All distinct networks among the proposals, in the order of the first proposal that builds each."""
    config: SearchConfig
    run_dir: Path | None
    """Run folder; None if nothing was written."""
    finalists: tuple[Finalist, ...] = ()
    """The best proposals by validation, the best first, with their values; empty if none were measured."""

    def __repr__(self) -> str:
        proposals = pluralize(sum(len(candidate.proposals) for candidate in self.candidates), "proposal")
        folder = "" if self.run_dir is None else f", run folder {escape_text(str(self.run_dir))}"
        count = f"{len(self.candidates)} distinct of {proposals}"
        return f"<{type(self).__name__} of {self.architecture.space}: {count}{folder}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show: a picture of the architecture, and a table of the candidates."""
        from zcpt.cell_pictures import draw_architecture  # matplotlib takes long to import
        from zcpt.figures import encode_png

        try:
            space = get_space(self.architecture.space)
        except SpaceError:  # a space that is not registered has no picture here
            picture = ""
        else:
            png = base64.b64encode(encode_png(draw_architecture(space, self.architecture))).decode()
            picture = f'<img alt="chosen architecture" src="data:image/png;base64,{png}">'
        return f"<p>{html.escape(repr(self))}</p>{picture}{self._format_table()}"

    def _format_table(self) -> str:
        values = {finalist.architecture: finalist.value for finalist in self.finalists}
        title = "<th>value</th>" if values else ""
        rows = [f"<tr><th>proposals</th><th>mean score</th>{title}<th>chosen</th></tr>"]
        for candidate in self.candidates:
            mean = "" if candidate.mean is None else f"{candidate.mean:.2f}"
            chosen = "yes" if candidate.architecture == self.architecture else ""
            proposals = ", ".join(map(str, candidate.proposals))
            value = values.get(candidate.architecture)
            cell = "" if not values else f"<td>{'' if value is None else f'{value:.6g}'}</td>"
            rows.append(f"<tr><td>{proposals}</td><td>{mean}</td>{cell}<td>{chosen}</td></tr>")
        return f"<table>{''.join(rows)}</table>"


def group_proposals(space: SearchSpace, proposals: Sequence[Architecture]) -> dict[Architecture, tuple[int, ...]]:
    """Group proposals that build the same network; return the first architecture of each group -> proposal numbers."""
    numbers: dict[Architecture, list[int]] = {}
    for number, architecture in enumerate(proposals):
        numbers.setdefault(space.canonicalize(architecture), []).append(number)
    return {proposals[same[0]]: tuple(same) for same in numbers.values()}
