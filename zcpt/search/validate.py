"""Stage 2: compare the proposals as discrete networks, all on the same batches and the same initialisations."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

import torch

from zcpt.architecture import Architecture
from zcpt.batches import Batches
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, ProxyError
from zcpt.journal import Journal, Record
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.scoring import CriterionEvaluator, aggregate_scores, argmax_importance, get_component_scores
from zcpt.search.callbacks import Callback
from zcpt.search.config import SearchConfig
from zcpt.search.supernets import SearchSeeds, panel
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace

_FILE = "validation"
_Line = tuple[int, int]
"""An initialisation and a batch."""


@dataclass(frozen=True)
class Validator:
    """Scores the distinct proposals of one search."""

    space: SearchSpace
    network_config: NetworkConfig
    config: SearchConfig
    batches: Batches
    device: torch.device
    journal: Journal
    audience: Callback
    ranks: ProcessGroup = SINGLE_PROCESS
    """Its processes; the journal of the first one holds what was scored before."""

    def scores(self, candidates: Sequence[Architecture]) -> list[list[float]]:
        """Proxy values: for each candidate one for each of the V batches, in the order of the batches. Those of an
        aggregate are places among the candidates on one batch.

        Batch v goes with initialisation v mod R: the spread between initialisations is far larger than the one
        between batches, so comparing candidates at one initialisation compares luck.
        """
        total = self.config.validation_batches
        lines, by_batch = self._lines(), {}
        recorded = self.ranks.gather(list(self.journal.records(_FILE)))[0]
        for line, record in zip(lines, recorded, strict=False):
            scores = _recalled(record, *line, len(candidates))["scores"]
            by_batch[line[1]] = scores
            self.audience.on_validation_batch(line[1], scores, replayed=True)
        for record in self._made(candidates, lines[len(by_batch) :]):
            self.journal.append(_FILE, record)
            by_batch[record["batch"]] = record["scores"]
            self.audience.on_validation_batch(record["batch"], record["scores"], replayed=False)
        return [[by_batch[batch][i] for batch in range(total)] for i in range(len(candidates))]

    def _lines(self) -> list[_Line]:
        """Every initialisation and batch, in the order of the journal."""
        inits, total = self.config.validation_inits, self.config.validation_batches
        return [(init, batch) for init in range(min(inits, total)) for batch in range(init, total, inits)]

    def _made(self, candidates: Sequence[Architecture], lines: Sequence[_Line]) -> Iterator[Record]:
        """The records of these lines in their order, each as soon as it and all before it are there."""
        done: dict[_Line, Record] = {}
        panels: tuple[int, Sequence[CriterionEvaluator]] | None = None
        waiting = deque(lines)
        for share in _rounds(lines, self.ranks.size):
            line, record = share[self.ranks.rank], None
            if line is not None:
                if panels is None or panels[0] != line[0]:
                    panels = None  # those of the last initialisation go before the next ones come
                    panels = line[0], self._panels(candidates, line[0])
                record = self._score(panels[1], *line)
            made = [other for other in self.ranks.gather(record) if other is not None]
            done |= {(other["init"], other["batch"]): other for other in made}
            while waiting and waiting[0] in done:
                yield done.pop(waiting.popleft())

    def _panels(self, candidates: Sequence[Architecture], init: int) -> Sequence[CriterionEvaluator]:
        seed = derive_seed(SearchSeeds.derived(self.config.seed).init, init)
        panels = []
        for architecture in candidates:
            with use_seed(seed):
                network = self.space.build_network(architecture, self.network_config)
            panels.append(panel(move_network(network, self.device), self.config, "validation"))
        return panels

    def _score(self, panels: Sequence[CriterionEvaluator], init: int, batch: int) -> Record:
        started = time.perf_counter()
        seed = derive_seed(SearchSeeds.derived(self.config.seed).validation, batch)
        drawn = move_batch(self.batches.draw(self.config.validation_batch_size, seed), self.device)
        found = [each.score_components([None], drawn) for each in panels]
        table = {name: [scores[name][0] for scores in found] for name in found[0]}
        criterion, compare = self.config.criterion("validation"), self.config.non_finite == "compare"
        scores = aggregate_scores(criterion, table, compare_infinite=compare)
        record = {"init": init, "batch": batch, "scores": scores, "seconds": time.perf_counter() - started}
        parts = get_component_scores(criterion, table)
        return {**record, "parts": parts} if parts else record


def _rounds(lines: Sequence[_Line], ranks: int) -> Iterator[list[_Line | None]]:
    """The line that each rank scores, round by round; None where nothing is left for it.

    A rank takes all batches of an initialisation, whose networks are built once then. Where fewer initialisations
    are left than there are ranks, they share them batch by batch, so that none of them waits.
    """
    inits = [list(group) for _, group in groupby(lines, key=lambda line: line[0])]
    whole = len(inits) // ranks * ranks
    for first in range(0, whole, ranks):
        yield from map(list, zip_longest(*inits[first : first + ranks]))
    rest = [line for init in inits[whole:] for line in init]
    for first in range(0, len(rest), ranks):
        yield [*rest[first : first + ranks], *[None] * (first + ranks - len(rest))]


def best(scores: Sequence[Sequence[float]], config: SearchConfig) -> int:
    """Index of the winning candidate, from its scores on the V batches.

    With ``non_finite="last"`` the candidates with the fewest scores that are not finite come first, and among
    them the best mean wins; with ``"compare"`` the best sum wins, unless it is not a number.

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


def _recalled(record: Record, init: int, batch: int, candidates: int) -> Record:
    found = record.get("init"), record.get("batch"), len(record.get("scores", ()))
    if found != (init, batch, candidates):
        raise ConfigError(
            f"the journal cannot be continued: its validation has batch {found[1]} at initialisation {found[0]} of "
            f"{found[2]} candidates, and this search comes to batch {batch} at {init} of {candidates}. "
            "Start a new search with another --out."
        )
    return record
