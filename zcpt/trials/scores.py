"""Scores of architectures by a proxy or an aggregate: of networks that are built now, or from a table."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from zcpt.architecture import Architecture
from zcpt.errors import DataError, SpaceError, describe_unknown_name
from zcpt.journal import Journal, Record
from zcpt.progress import show_progress
from zcpt.proxies import Aggregate, Criterion, get_components
from zcpt.scoring import NetworkScorer
from zcpt.space import SearchSpace
from zcpt.workers import Pool, WorkerPool

_log = logging.getLogger(__name__)
_JOURNAL_NAME = "scores"
_SCORES_FILE = "scores.csv"
"""File of scores in the folder of 'zcpt benchmark proxies'."""


class ScoreSource(Protocol):
    """Where the scores of an architecture by several proxies come from. It must be picklable."""

    is_cheap: bool
    """Whether a score takes no time, so that none is kept in the journal."""

    def compute(self, architecture: Architecture) -> Record:
        """Return ``scores`` by the names of the proxies, ``failures`` and ``seconds``."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return all that the scores depend on, as JSON can hold it."""
        ...


class NetworkScores:
    """Scores of freshly initialised networks, all with weights of the same seed and on the same mini-batch."""

    is_cheap = False

    def __init__(self, scorer: NetworkScorer) -> None:
        self.scorer = scorer

    def compute(self, architecture: Architecture) -> Record:
        """Build the network, and score it by all proxies."""
        return self.scorer.score_network((0, architecture))

    def describe(self) -> dict[str, Any]:
        """Return width, depth and the number of images; the settings of a run have the rest."""
        config = self.scorer.network_config
        return {"source": "networks", "channels": config.channels, "layers": config.layers}


class ScoreTable:
    """Scores by ``zcpt benchmark proxies``: the folder of a measurement, or its ``scores.csv``, gzipped or not.

    Args:
        path: The folder or file.
        space: Space of the architectures.
        criterion: The proxy or aggregate whose scores are wanted.

    Raises:
        DataError: The file is missing or damaged, or lacks a proxy.
    """

    is_cheap = True

    def __init__(self, path: str | Path, space: SearchSpace, criterion: Criterion) -> None:
        self.space = space
        file = Path(path) / _SCORES_FILE if Path(path).is_dir() else Path(path)
        self.names = [component.name for component in get_components(criterion)]
        self._scores: dict[str, dict[str, float]] = {}
        self._records: dict[Architecture, Record] = {}
        """Records that were read before: runs with many seeds ask for the same ones."""
        content = _read_bytes(file)
        self.about = {"source": file.name, "content": hashlib.sha256(content).hexdigest()[:16]}
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        known = [name for name in rows.fieldnames or [] if name not in ("index", "architecture", "accuracy")]
        if "architecture" not in (rows.fieldnames or []):
            raise DataError(f"{file} has no column 'architecture': give a folder of 'zcpt benchmark proxies'.")
        for name in self.names:
            if name not in known:
                raise DataError(describe_unknown_name(f"proxy in {file}", name, known))
        for row in rows:
            try:
                key = space.isomorphism_class(space.parse(row["architecture"]))
                self._scores[key] = {name: float(row[name]) for name in self.names if row[name]}
            except (SpaceError, ValueError, TypeError) as error:
                raise DataError(f"{file}, line {rows.line_num}: {str(error).rstrip('.')}.") from None

    def __len__(self) -> int:
        return len(self._scores)

    def compute(self, architecture: Architecture) -> Record:
        """Return the scores in the table."""
        if architecture not in self._records:
            scores = self._scores.get(self.space.isomorphism_class(architecture), {})
            failures = {name: "the table has no score" for name in self.names if name not in scores}
            self._records[architecture] = {"scores": scores, "failures": failures, "seconds": {}}
        return self._records[architecture]

    def describe(self) -> dict[str, Any]:
        """Return the name of the file and a hash of its content."""
        return dict(self.about)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        content.decode()
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"the scores in {path} cannot be read: {reason}.") from None
    return content


class ProxyScores:
    """Scores of architectures by a proxy or an aggregate: higher is better, and -inf where there is none.

    The network of an architecture is scored once, in whatever call. The values of an aggregate compare architectures
    with each other: each call compares all that have been scored so far, those of the call included.

    Args:
        space: The search space.
        criterion: Proxy or aggregate.
        source: Where the scores come from.
        workers: Processes that score networks; None scores in this one.
        journal: Journal that keeps scores, so that a resumed run need not compute them again.
    """

    def __init__(
        self,
        space: SearchSpace,
        criterion: Criterion,
        source: ScoreSource,
        workers: Pool | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.space = space
        self.criterion = criterion
        self.source = source
        self._workers = workers or WorkerPool(1, "scores networks")
        self._journal = journal or Journal()
        self._known: dict[str, Record] = {
            record["architecture"]: record for record in self._journal.records(_JOURNAL_NAME)
        }
        """Records by the text of the architecture, also of those that a resumed run has not asked for yet."""
        self._population: dict[str, Record] = {}
        """Records of all architectures that were asked for, in this order."""

    def __call__(self, architectures: Sequence[Architecture]) -> list[float]:
        """Return the score of each architecture."""
        self.fetch(architectures)
        return self.compare(architectures)

    def fetch(self, architectures: Sequence[Architecture], title: str = "") -> list[Record]:
        """Score those architectures that have not been scored yet, and return the records of all.

        Args:
            architectures: The architectures.
            title: Title of a progress bar; without it there is none.
        """
        by_text = {self._get_text(architecture): architecture for architecture in architectures}
        missing = [text for text in by_text if text not in self._known]
        if self.source.is_cheap:
            for text in missing:
                self._known[text] = self.source.compute(by_text[text])
        elif missing:
            representatives = [self.space.canonicalize(by_text[text]) for text in missing]
            bar = show_progress(title=title, total=len(by_text), initial=len(by_text) - len(missing), disable=not title)
            with bar, closing(self._workers.run(self.source.compute, representatives)) as records:
                for record in records:
                    self._known[record["architecture"]] = record
                    self._journal.append(_JOURNAL_NAME, record)
                    bar.update()
        for text in by_text:
            self._population.setdefault(text, self._known[text])
        return [self._known[self._get_text(architecture)] for architecture in architectures]

    def compare(self, architectures: Sequence[Architecture]) -> list[float]:
        """Return the scores of architectures that have been fetched."""
        texts = [self._get_text(architecture) for architecture in architectures]
        if isinstance(self.criterion, Aggregate):
            records = list(self._population.values())
            names = [component.name for component in self.criterion.components]
            columns = {name: [record["scores"].get(name, math.nan) for record in records] for name in names}
            values = dict(zip(self._population, self.criterion.compute_values(columns), strict=True))
            oriented = [values[text] for text in texts]
        else:
            sign = 1 if self.criterion.higher_is_better else -1
            name = self.criterion.name
            oriented = [sign * self._known[text]["scores"].get(name, math.nan) for text in texts]
        return [score if math.isfinite(score) else -math.inf for score in oriented]

    def get_scores(self, architecture: Architecture) -> dict[str, float]:
        """Return the scores that were fetched, by the names of the proxies; empty if there are none."""
        record = self._population.get(self._get_text(architecture))
        return dict(record["scores"]) if record else {}

    def explain_failure(self, architectures: Sequence[Architecture]) -> str:
        """Return the first reason why an architecture has no score; empty if there is none."""
        records = (self._known.get(self._get_text(architecture), {}) for architecture in architectures)
        return next((reason for record in records for reason in record.get("failures", {}).values()), "")

    def _get_text(self, architecture: Architecture) -> str:
        return self.space.format(self.space.canonicalize(architecture))
