"""Stage 2: compare the proposals as discrete networks, on the same batches and at the same initialisations."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from zcpt.architecture import Architecture
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, ProxyError
from zcpt.journal import Journal, Record
from zcpt.scoring import CriterionEvaluator, aggregate_scores, argmax_importance, get_component_scores
from zcpt.search.config import SearchConfig, SearchSeeds
from zcpt.search.context import SearchContext
from zcpt.seeding import derive_seed, use_seed

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

    def score(self, candidates: Sequence[Architecture]) -> list[list[float]]:
        """Score all candidates on the V batches.

        Batch v goes with initialisation v mod R: the spread between initialisations is far larger than the one between
        batches, so candidates compared at one initialisation would be ranked by luck.

        Returns:
            For each candidate its V scores in the order of the batches: proxy values, or, for an aggregate, ranks among
            the candidates on one batch.
        """
        context = self.context
        trials = self._list_trials()
        # All ranks continue from the records of rank 0: reading the file while rank 0 writes, they could differ.
        recorded = context.processes.gather(list(self._journal.records(JOURNAL_NAME)))[0]
        by_batch: dict[int, list[float]] = {}
        for (init, batch), record in zip(trials, recorded, strict=False):
            _check_record(record, init, batch, len(candidates))
            by_batch[batch] = record["scores"]
            context.callback.on_validation_batch(batch, record["scores"], replayed=True)
        for record in self._score_trials(candidates, trials[len(by_batch) :]):
            self._journal.append(JOURNAL_NAME, record)
            by_batch[record["batch"]] = record["scores"]
            context.callback.on_validation_batch(record["batch"], record["scores"], replayed=False)
        return [[by_batch[b][i] for b in range(context.config.validation_batches)] for i in range(len(candidates))]

    def _list_trials(self) -> list[_Trial]:
        """Return every initialisation and batch in the order of the journal: by initialisation, then by batch.

        In this order the networks of an initialisation are built once, and freed before the next ones are built.
        """
        inits, total = self.context.config.validation_inits, self.context.config.validation_batches
        return [(init, batch) for init in range(min(inits, total)) for batch in range(init, total, inits)]

    def _score_trials(self, candidates: Sequence[Architecture], trials: Sequence[_Trial]) -> Iterator[Record]:
        """Yield the records of trials in their order, each as soon as it and all before it are finished."""
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
                record = self._score_trial(evaluators[1], *own)
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

    def _score_trial(self, evaluators: Sequence[CriterionEvaluator], init: int, batch: int) -> Record:
        started = time.perf_counter()
        config, device = self.context.config, self.context.device
        seed = derive_seed(self._seeds.validation, batch)
        images = move_batch(self.context.batches.draw(config.validation_batch_size, seed), device)
        by_network = [evaluator.score_components([None], images) for evaluator in evaluators]
        # Proxy name -> a score for each network.
        table = {name: [scores[name][0] for scores in by_network] for name in by_network[0]}
        criterion = config.criterion("validation")
        scores = aggregate_scores(criterion, table, compare_infinite=config.non_finite == "compare")
        record = {"init": init, "batch": batch, "scores": scores, "seconds": time.perf_counter() - started}
        parts = get_component_scores(criterion, table)
        return {**record, "parts": parts} if parts else record


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
    """Return the index of the best candidate.

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
        return argmax_importance([-math.inf if math.isnan(total) else total for total in sums])
    finite = [[sign * s for s in row if math.isfinite(s)] for row in scores]
    if not any(finite):
        raise ProxyError(
            f"no proposal got a finite score from proxy '{criterion.name}' in validation: "
            "try another --validation-batch-size, or look for images that occur twice."
        )
    ranks = [(len(row), sum(row) / max(len(row), 1)) for row in finite]
    return ranks.index(max(ranks))


def _check_record(record: Record, init: int, batch: int, candidates: int) -> None:
    """Raise ConfigError unless a record of the journal is of this trial with as many candidates."""
    recorded = record.get("init"), record.get("batch"), len(record.get("scores", ()))
    if recorded != (init, batch, candidates):
        raise ConfigError(
            f"the journal cannot be resumed: its validation has batch {recorded[1]} at initialisation {recorded[0]} of "
            f"{recorded[2]} candidates, where this search has batch {batch} at {init} of {candidates}. "
            "Start a new search with another --out."
        )
