"""Stage 2: compare the proposals as discrete networks, all on the same batches and the same initialisations."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zcpt.batches import Batches
from zcpt.devices import place, place_batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.proxies import get_proxy
from zcpt.scoring import evaluate, most_important
from zcpt.search.config import SearchConfig
from zcpt.search.events import Listener
from zcpt.search.journal import Journal, Record
from zcpt.search.propose import Seeds
from zcpt.seeding import derive, seeded
from zcpt.space import Architecture, SearchSpace, Shape

_FILE = "validation"


@dataclass(frozen=True)
class Validator:
    """Scores the distinct proposals of one search."""

    space: SearchSpace
    shape: Shape
    config: SearchConfig
    batches: Batches
    device: torch.device
    journal: Journal
    audience: Listener

    def scores(self, candidates: Sequence[Architecture]) -> list[list[float]]:
        """Proxy values: for each candidate one for each of the V batches, in the order of the batches.

        Batch v goes with initialisation v mod R: the spread between initialisations is far larger than the one
        between batches, so comparing candidates at one initialisation compares luck.
        """
        inits, total = self.config.validation_inits, self.config.validation_batches
        recorded = list(self.journal.records(_FILE))
        by_batch: dict[int, list[float]] = {}
        for init in range(min(inits, total)):
            networks: Sequence[nn.Module] = ()
            for batch in range(init, total, inits):
                replayed = len(by_batch) < len(recorded)
                if replayed:
                    record = _recalled(recorded[len(by_batch)], init, batch, len(candidates))
                else:
                    networks = networks or self._networks(candidates, init)
                    record = self._score(networks, init, batch)
                    self.journal.append(_FILE, record)
                by_batch[batch] = record["scores"]
                self.audience.validated(batch, record["scores"], replayed)
        return [[by_batch[batch][i] for batch in range(total)] for i in range(len(candidates))]

    def _networks(self, candidates: Sequence[Architecture], init: int) -> Sequence[nn.Module]:
        seed = derive(Seeds.derived(self.config.seed).init, init)
        networks = []
        for architecture in candidates:
            with seeded(seed):
                network = self.space.build_network(architecture, self.shape)
            networks.append(place(network, self.device))
        return networks

    def _score(self, networks: Sequence[nn.Module], init: int, batch: int) -> Record:
        started = time.perf_counter()
        seed = derive(Seeds.derived(self.config.seed).validation, batch)
        drawn = place_batch(self.batches.draw(self.config.validation_batch_size, seed), self.device)
        proxy = get_proxy(self.config.proxy)
        scores = [evaluate(network, proxy, [None], drawn).item() for network in networks]
        return {"init": init, "batch": batch, "scores": scores, "seconds": time.perf_counter() - started}


def best(scores: Sequence[Sequence[float]], config: SearchConfig) -> int:
    """Index of the winning candidate, from its scores on the V batches.

    With ``non_finite="last"`` the candidates with the fewest scores that are not finite come first, and among
    them the best mean wins; with ``"compare"`` the best sum wins, unless it is not a number.

    Raises:
        ProxyError: No candidate has a finite score.
    """
    sign = 1.0 if get_proxy(config.proxy).higher_is_better else -1.0
    if config.non_finite == "compare":
        sums = [sign * sum(row) for row in scores]
        return most_important([-math.inf if math.isnan(total) else total for total in sums])
    finite = [[sign * s for s in row if math.isfinite(s)] for row in scores]
    if not any(finite):
        raise ProxyError(
            f"no proposal got a finite score from proxy '{config.proxy}' in validation: "
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
