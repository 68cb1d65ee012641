"""Stage 2: compare the proposals as discrete networks, on the same batches and at the same initialisations."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, zip_longest

from zcpt.architecture import Architecture
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, ProxyError
from zcpt.journal import REMEDY, Journal, Record
from zcpt.scoring import CriterionEvaluator, aggregate_scores, get_component_scores
from zcpt.search.config import SearchConfig, SearchSeeds
from zcpt.search.context import SearchContext
from zcpt.search.records import check_validation_record
from zcpt.seeding import derive_seed, use_seed

_log = logging.getLogger(__name__)
JOURNAL_NAME = "validation"
_Trial = tuple[int, int]
"""An initialisation and a batch."""


class Validator:
    """Scores the distinct proposals of a search as discrete networks."""

    def __init__(self, context: SearchContext) -> None:
        self.context = context
        self._seeds = SearchSeeds.from_seed(context.config.seed)
        # Every process scores its share; the first one alone reads and writes the file of the validation.
        self._journal = context.journal if context.processes.is_main else Journal()

    def score(self, candidates: Sequence[Architecture], earlier_counts: Collection[int] = ()) -> list[list[float]]:
        """Score all candidates on the V batches.

        Batch v goes with initialisation v mod R: the spread between initialisations is far larger than the one between
        batches, so candidates compared at one initialisation would be ranked by luck.

        Args:
            candidates: The distinct proposals, those of an extended search last.
            earlier_counts: How many of them, from the first, there were before the search was extended, each time.

        Returns:
            For each candidate its V scores in the order of the batches: proxy values, or, for an aggregate, ranks among
            the candidates on one batch.
        """
        context, counts = self.context, (*earlier_counts, len(candidates))
        trials = self._list_trials()
        # All ranks continue from the records of rank 0: reading the file while rank 0 writes, they could differ.
        records = context.processes.gather(list(self._journal.records(JOURNAL_NAME)))[0]
        by_trial: dict[_Trial, list[Record]] = {trial: [] for trial in trials}
        for number, record in enumerate(records, 1):
            _add_record(by_trial, record, counts, self._journal.describe_line(JOURNAL_NAME, number))
        firsts = {trial: sum(len(r["scores"]) for r in records) for trial, records in by_trial.items()}
        missing = [trial for trial in trials if firsts[trial] < len(candidates)]
        by_batch: dict[int, list[float]] = {}
        for trial in trials:
            if trial not in missing:
                self._finish_batch(by_batch, trial, by_trial[trial], replayed=True)
        for record in self._score_trials(candidates, missing, firsts):
            self._journal.append(JOURNAL_NAME, record)
            trial = record["init"], record["batch"]
            self._finish_batch(by_batch, trial, [*by_trial[trial], record], replayed=False)
        return [[by_batch[b][i] for b in range(context.config.validation_batches)] for i in range(len(candidates))]

    def _finish_batch(
        self, by_batch: dict[int, list[float]], trial: _Trial, records: Sequence[Record], replayed: bool
    ) -> None:
        batch = trial[1]
        by_batch[batch] = merge_scores(records, self.context.config)
        self.context.callback.on_validation_batch(batch, tuple(by_batch[batch]), replayed)

    def _list_trials(self) -> list[_Trial]:
        """Return every initialisation and batch in the order of the journal: by initialisation, then by batch.

        In this order the networks of an initialisation are built once, and freed before the next ones are built.
        """
        inits, total = self.context.config.validation_inits, self.context.config.validation_batches
        return [(init, batch) for init in range(min(inits, total)) for batch in range(init, total, inits)]

    def _score_trials(
        self, candidates: Sequence[Architecture], trials: Sequence[_Trial], firsts: Mapping[_Trial, int]
    ) -> Iterator[Record]:
        """Yield the records of trials in their order, each as soon as it and all before it are finished.

        ``firsts`` has the index of the first candidate that a trial lacks.
        """
        processes = self.context.processes
        finished: dict[_Trial, Record] = {}
        evaluators: tuple[int, Sequence[CriterionEvaluator]] | None = None
        waiting = deque(trials)
        for turn in _assign_trials(trials, processes.size):
            own, record = turn[processes.rank], None
            if own is not None:
                if evaluators is None or evaluators[0] != own[0]:
                    evaluators = None  # frees the networks of the last initialisation before the next are built
                    evaluators = own[0], self._build_evaluators(candidates, own[0])
                record = self._score_trial(evaluators[1], *own, firsts[own])
            for gathered in processes.gather(record):
                if gathered is not None:
                    finished[gathered["init"], gathered["batch"]] = gathered
            while waiting and waiting[0] in finished:
                yield finished.pop(waiting.popleft())

    def _build_evaluators(self, candidates: Sequence[Architecture], init: int) -> Sequence[CriterionEvaluator]:
        context = self.context
        # One seed for all candidates: they share an initialisation as far as their parameters correspond.
        seed = derive_seed(self._seeds.init, init)
        evaluators = []
        for architecture in candidates:
            with use_seed(seed):
                network = context.space.build_network(architecture, context.network_config)
            evaluators.append(context.config.build_evaluator(move_network(network, context.device), "validation"))
        return evaluators

    def _score_trial(self, evaluators: Sequence[CriterionEvaluator], init: int, batch: int, first: int) -> Record:
        started = time.perf_counter()
        config, device = self.context.config, self.context.device
        seed = derive_seed(self._seeds.validation, batch)
        images = move_batch(self.context.batches.draw(config.validation_batch_size, seed), device)
        by_network = [evaluator.score_components([None], images) for evaluator in evaluators[first:]]
        # Proxy name -> a score for each network.
        table = {name: [scores[name][0] for scores in by_network] for name in by_network[0]}
        criterion = config.criterion("validation")
        scores = aggregate_scores(criterion, table, compare_infinite=config.non_finite == "compare")
        record = {"init": init, "batch": batch, "scores": scores, "seconds": time.perf_counter() - started}
        if first:
            record["first"] = first
        parts = get_component_scores(criterion, table)
        return {**record, "parts": parts} if parts else record


def _add_record(by_trial: Mapping[_Trial, list[Record]], record: Record, counts: Collection[int], place: str) -> None:
    """Add a record of the journal to those of its trial.

    Args:
        by_trial: All trials of the search, with their records so far.
        record: The record.
        counts: Numbers of candidates that a trial may have scores of.
        place: File and line of the record.

    Raises:
        ConfigError: The record is damaged or belongs to another search.
    """
    check_validation_record(record, place)
    trial = record["init"], record["batch"]
    if trial not in by_trial:
        raise ConfigError(
            f"{place} belongs to another search: this one has no batch {trial[1]} at initialisation {trial[0]}. "
            "Start a new search with another --out."
        )
    records = by_trial[trial]
    first = sum(len(earlier["scores"]) for earlier in records)
    last = first + len(record["scores"])
    if record.get("first", 0) != first or last == first or last not in counts:
        raise ConfigError(
            f"{place} belongs to another search, or is damaged: it has scores of candidates "
            f"{record.get('first', 0)} to {last - 1}, where scores from {first} on, of {max(counts)} candidates, are "
            f"expected. Start a new search with another --out, or {REMEDY}."
        )
    records.append(record)


def merge_scores(records: Sequence[Record], config: SearchConfig) -> list[float]:
    """Return the scores of a validation batch by candidate, from its records: one, and one more for each extension."""
    if len(records) == 1:
        scores: list[float] = records[0]["scores"]
        return scores
    criterion = config.criterion("validation")
    if all("parts" in record for record in records):
        # The values of an aggregate compare candidates, so those of all records are compared anew.
        table = {name: [s for r in records for s in r["parts"][name]] for name in records[0]["parts"]}
        return aggregate_scores(criterion, table, compare_infinite=config.non_finite == "compare")
    return [score for record in records for score in record["scores"]]


def read_scores(journal: Journal, config: SearchConfig) -> dict[int, list[float]]:
    """Read the scores of all candidates by validation batch from the journal of a finished search."""
    by_batch: dict[int, list[Record]] = {}
    for number, record in enumerate(journal.records(JOURNAL_NAME), 1):
        check_validation_record(record, journal.describe_line(JOURNAL_NAME, number))
        by_batch.setdefault(record["batch"], []).append(record)
    return {batch: merge_scores(records, config) for batch, records in by_batch.items()}


def _assign_trials(trials: Sequence[_Trial], processes: int) -> Iterator[list[_Trial | None]]:
    """Yield, turn by turn, the trial of each process; None for a process that has none left.

    A process takes all batches of an initialisation, so that it builds its networks once. Where fewer initialisations
    are left than there are processes, they are shared batch by batch, so that no process waits.
    """
    inits = [list(group) for _, group in groupby(trials, key=lambda trial: trial[0])]
    whole = len(inits) // processes * processes
    for first in range(0, whole, processes):
        yield from map(list, zip_longest(*inits[first : first + processes]))
    rest = [trial for init in inits[whole:] for trial in init]
    for first in range(0, len(rest), processes):
        yield [*rest[first : first + processes], *[None] * (first + processes - len(rest))]


def find_best(scores: Sequence[Sequence[float]], config: SearchConfig) -> int:
    """Return the index of the best candidate; the arguments and errors are those of ``rank_candidates``."""
    return rank_candidates(scores, config)[0]


def rank_candidates(scores: Sequence[Sequence[float]], config: SearchConfig) -> list[int]:
    """Return the indices of the candidates, the best first, and of equal ones the first.

    With ``non_finite="last"`` the candidates with the fewest non-finite scores come first, and among them the best mean
    wins. With ``"compare"``, as in the published code, the best sum wins, unless it is NaN.

    Args:
        scores: For each candidate its scores on the V batches.
        config: Settings of the search.

    Raises:
        ProxyError: No candidate has a finite score.
    """
    criterion = config.criterion("validation")
    sign = 1.0 if criterion.higher_is_better else -1.0
    if config.non_finite == "compare":
        sums = [sign * sum(row) for row in scores]
        _warn_of_a_tie(sums, criterion.name)
        totals = [-math.inf if math.isnan(total) else total for total in sums]
        return sorted(range(len(totals)), key=lambda index: -totals[index])
    finite = [[sign * s for s in row if math.isfinite(s)] for row in scores]
    if not any(finite):
        raise ProxyError(
            f"no proposal got a finite score from proxy '{criterion.name}' in validation: "
            "try another --validation-batch-size, or look for images that occur twice."
        )
    ranks = [(len(row), sum(row) / max(len(row), 1)) for row in finite]
    _warn_of_a_tie(ranks, criterion.name)
    return sorted(range(len(ranks)), key=lambda index: ranks[index], reverse=True)


def _warn_of_a_tie(values: Sequence[object], name: str) -> None:
    if len(values) > 1 and len(set(values)) == 1:
        _log.warning(
            "proxy '%s' scores all %d proposals alike in validation, so the first of them is taken: try another "
            "--validation-proxy.",
            name,
            len(values),
        )
