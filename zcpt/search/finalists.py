"""Stage 3, where it is wanted: measure the best proposals, for example by short trainings; the best value wins."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError
from zcpt.files import to_json_text
from zcpt.items import describe_value
from zcpt.journal import Journal, Record
from zcpt.search.config import SearchConfig
from zcpt.search.context import SearchContext
from zcpt.search.records import check_finalist_record
from zcpt.search.result import Finalist
from zcpt.seeding import derive_seed
from zcpt.values import Measurement, Outcome, Value, run_measurement
from zcpt.workers import WorkerPool

_log = logging.getLogger(__name__)
JOURNAL_NAME = "finalists"


def check_finalists(config: SearchConfig, value: Value | None, workers: int = 1) -> None:
    """Raise ConfigError unless a search that measures finalists has a value, and no other search has one."""
    if config.finalists and value is None:
        raise ConfigError(
            f"--finalists {config.finalists} needs what measures them: --finalist-setting RECIPE, such as econas; in "
            "Python finalist_value, an object with the methods of zcpt.trials.Value."
        )
    if value is not None and not config.finalists:
        raise ConfigError(
            "what measures finalists is given, and no number of them: add --finalists K, such as 5; in Python "
            "finalists=5."
        )
    if value is not None and (not callable(getattr(value, "measure", None)) or isinstance(value, type)):
        raise ConfigError(
            "the value of finalists must have the methods of zcpt.trials.Value, and "
            f"{describe_value(value)} has no 'measure'."
        )
    if workers < 1:
        raise ConfigError(f"--workers {workers} is too small: it must be at least 1.")


def describe_finalist_value(value: Value | None) -> dict[str, Any] | None:
    """Return the name of a value and all that it depends on, as a journal keeps it: tuples are lists."""
    if value is None:
        return None
    document: dict[str, Any] = json.loads(to_json_text({"name": value.name, **value.describe()}))
    return document


def measure_finalists(context: SearchContext, ranked: Sequence[Architecture]) -> tuple[Finalist, ...]:
    """Measure the best candidates of stage 2, and return them in their order there.

    All have one seed, so the same candidate has the same value in a larger search. Those of the journal are not
    measured again. Several processes of a search share them.

    Args:
        context: The search.
        ranked: Candidates of stage 2, the best first.

    Raises:
        ConfigError: No finalist got a finite value.
    """
    value, processes = context.finalist_value, context.processes
    assert value is not None
    finalists = list(ranked[: context.config.finalists])
    if len(finalists) < context.config.finalists and processes.is_main:
        _log.info(
            f"the proposals are {len(ranked)} distinct networks, fewer than --finalists {context.config.finalists}: "
            "all are finalists"
        )
    if context.workers > 1 and processes.size > 1 and processes.is_main:
        _log.warning(f"--workers {context.workers} is not used: each of {processes.size} processes measures finalists")
    context.callback.on_finalists_start(finalists)
    by = describe_finalist_value(value)
    # The first process alone reads and writes the file, as in stage 2.
    journal = context.journal if processes.is_main else Journal()
    records = processes.gather(read_finalists(journal, by))[0]
    texts = [context.space.format(architecture) for architecture in finalists]
    measured = {}
    for text, architecture in zip(texts, finalists, strict=True):
        if text in records:
            measured[text] = _make_finalist(architecture, records[text])
            context.callback.on_finalist(measured[text], replayed=True)
    missing = [text for text in texts if text not in records]
    architectures = dict(zip(texts, finalists, strict=True))
    for text, outcome in _measure(context, [architectures[text] for text in missing]):
        record = {"architecture": text, "by": by, **vars(outcome), "report": dict(outcome.report)}
        journal.append(JOURNAL_NAME, record)
        measured[text] = _make_finalist(architectures[text], record)
        if outcome.failure and processes.is_main:
            _log.warning(f"finalist {text} failed: {outcome.failure}")
        context.callback.on_finalist(measured[text], replayed=False)
    return tuple(measured[text] for text in texts)


def _measure(context: SearchContext, missing: Sequence[Architecture]) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcome of each finalist, as soon as it is there."""
    processes = context.processes
    assert context.finalist_value is not None
    seed = derive_seed(context.config.seed, "finalists")
    # One object, since worker processes receive a function once.
    function = partial(_measure_finalist, context.finalist_value, seed, context.space.format)
    with WorkerPool(context.workers if processes.size == 1 else 1, "measures finalists") as workers:
        if processes.size == 1:
            yield from workers.run(function, missing)
            return
        for first in range(0, len(missing), processes.size):
            turn = missing[first : first + processes.size]
            own = workers.map(function, turn[processes.rank : processes.rank + 1])
            for outcomes in processes.gather(own):
                yield from outcomes


def _measure_finalist(
    value: Value, seed: int, format_text: Callable[[Architecture], str], architecture: Architecture
) -> tuple[str, Outcome]:
    """Measure one finalist, in a worker process; the text of its architecture tells it from others."""
    return format_text(architecture), run_measurement(partial(value.measure, architecture, seed))


def _make_finalist(architecture: Architecture, record: Record) -> Finalist:
    value = record["value"] if math.isfinite(record["value"]) else -math.inf
    return Finalist(architecture, value, record["report"], record["seconds"], record["failure"])


def read_finalists(journal: Journal, by: Mapping[str, Any] | None) -> dict[str, Record]:
    """Read the lines of finalists that were measured by a value: architecture in the space's notation -> line."""
    records = {}
    for number, record in enumerate(journal.records(JOURNAL_NAME), 1):
        check_finalist_record(record, journal.describe_line(JOURNAL_NAME, number))
        if record["by"] == by:
            records[record["architecture"]] = record
    return records


def find_best_finalist(finalists: Sequence[Finalist], value: Value) -> Finalist:
    """Return the finalist of the best value; of equal ones the best of stage 2.

    Raises:
        ConfigError: None has a finite value.
    """
    finite = [finalist for finalist in finalists if math.isfinite(finalist.value)]
    if not finite:
        reason = finalists[0].failure.rstrip(".")
        raise ConfigError(
            f"none of {len(finalists)} finalists got a finite value by {value.name}: {reason}. Resume the search with "
            "another --finalist-setting (in Python: another finalist_value); proposals and validation are kept."
        )
    return max(finite, key=lambda finalist: finalist.value)


class RecordedValue:
    """Values of the finalists of a finished search, so that a replay does not repeat trainings.

    Args:
        finalists: Lines of the journal, as ``read_finalists`` returns them.
        by: What measured them, as in ``config.json``.
        format_text: Returns the notation of an architecture.
    """

    def __init__(
        self, finalists: Mapping[str, Record], by: Mapping[str, Any], format_text: Callable[[Architecture], str]
    ) -> None:
        self.name = str(by.get("name", ""))
        self._finalists = finalists
        self._by = by
        self._format = format_text

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Return the value of the journal; nan if it has none."""
        record = self._finalists.get(self._format(architecture))
        return Measurement(math.nan) if record is None else Measurement(record["value"], record["report"])

    def describe(self) -> Mapping[str, Any]:
        """Return what the recorded values depend on."""
        return self._by
