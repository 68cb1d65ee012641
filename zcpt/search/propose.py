"""Stage 1: propose an architecture by deciding one choice after the other on the supernet."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import torch

from zcpt.batches import Batch, Batches
from zcpt.devices import place, place_batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import get_proxy
from zcpt.scoring import evaluate, importance, most_important
from zcpt.search.config import SearchConfig
from zcpt.search.events import Decision, Listener
from zcpt.search.journal import Journal, Record
from zcpt.search.orders import schedule
from zcpt.seeding import derive, seeded
from zcpt.space import Architecture, Choice, SearchSpace, Shape
from zcpt.supernet import Supernet


@dataclass(frozen=True)
class Seeds:
    """The separate seeds of a search, all derived from one."""

    weights: int
    alpha: int
    order: int
    batch: int
    init: int
    validation: int

    @classmethod
    def derived(cls, seed: int) -> Seeds:
        return cls(**{name: derive(seed, name) for name in cls.__dataclass_fields__})


class Proposer:
    """Makes the proposals of one search; any of them, in any order, with the same result."""

    def __init__(
        self,
        space: SearchSpace,
        shape: Shape,
        config: SearchConfig,
        batches: Batches,
        device: torch.device,
        journal: Journal,
        audience: Listener,
    ) -> None:
        self.space, self.shape, self.config, self.batches = space, shape, config, batches
        self.device, self.journal, self.audience = device, journal, audience
        self.proxy = get_proxy(config.proxy)
        self.seeds = Seeds.derived(config.seed)
        self._net: tuple[int, Supernet] | None = None
        self._batch: tuple[int, Batch] | None = None

    def propose(self, proposal: int) -> Architecture:
        """Decide every choice; what the journal holds already is taken from there.

        Raises:
            ProxyError: No candidate of a choice has a finite score.
            ConfigError: The journal was written by another search.
        """
        recorded = deque(self.journal.records(self._file(proposal)))
        mixture, kept = self._start(proposal), {}
        order_seed = derive(self.seeds.order, proposal)
        for step, choices in enumerate(schedule(self.space.choices, self.config.order, order_seed)):
            for choice in choices:
                kept[choice.name] = self._decide(proposal, step, choice, mixture, recorded)
                mixture = mixture.select(choice.name, kept[choice.name])
        architecture = self.space.architecture(kept)
        self.audience.proposed(proposal, architecture)
        return architecture

    def _decide(
        self, proposal: int, step: int, choice: Choice, mixture: Mixture, recorded: deque[Record]
    ) -> tuple[str, ...]:
        remaining = choice.candidates
        while len(remaining) > choice.keep:
            replayed = bool(recorded)
            if replayed:
                decision = _recalled(recorded.popleft(), step, choice, remaining)
            else:
                decision = self._look(proposal, step, choice, remaining, mixture)
                self.journal.append(self._file(proposal), asdict(decision))
            self.audience.decided(proposal, decision, replayed)
            if not decision.kept:
                raise ProxyError(
                    f"no candidate of {choice.name} got a finite score from proxy '{self.proxy.name}': the scores "
                    f"are {list(decision.scores)}. Try another --batch-size, more --channels, or look for images "
                    "that occur twice."
                )
            remaining = decision.kept
        return remaining

    def _look(self, proposal: int, step: int, choice: Choice, remaining: tuple[str, ...], mixture: Mixture) -> Decision:
        started = time.perf_counter()
        if self.config.struck_inputs == "absent":
            mixture = mixture.without(choice.name, *(c for c in choice.candidates if c not in remaining))
        removed = [mixture.without(choice.name, candidate) for candidate in remaining]
        batch = self._drawn(proposal, step)
        scores = evaluate(self._supernet(proposal), self.proxy, removed, batch).tolist()
        compare = self.config.non_finite == "compare"
        importances = importance(scores, self.proxy.higher_is_better, compare_infinite=compare)
        kept = _kept(choice, remaining, importances)
        seconds = time.perf_counter() - started
        return Decision(step, choice.name, remaining, tuple(scores), tuple(importances), kept, seconds)

    def _start(self, proposal: int) -> Mixture:
        draw = proposal if self.config.alpha_draw == "proposal" else 0
        with seeded(derive(self.seeds.alpha, draw)):
            return Mixture.start(self.space.choices, self.config.alpha_noise)

    def _supernet(self, proposal: int) -> Supernet:
        draw = proposal if self.config.supernet_weights == "proposal" else 0
        if self._net is None or self._net[0] != draw:
            with seeded(derive(self.seeds.weights, draw)):
                net = self.space.build_supernet(self.shape)
            self._net = draw, place(net, self.device).eval()
        return self._net[1]

    def _drawn(self, proposal: int, step: int) -> Batch:
        per_step = (step,) if self.config.scoring_batch == "step" else ()
        seed = derive(self.seeds.batch, proposal, *per_step)
        if self._batch is None or self._batch[0] != seed:
            batch = self.batches.draw(self.config.batch_size, seed)
            self._batch = seed, place_batch(batch, self.device)
        return self._batch[1]

    @staticmethod
    def _file(proposal: int) -> str:
        return f"proposal_{proposal:03d}"


def _kept(choice: Choice, remaining: tuple[str, ...], importances: Sequence[float]) -> tuple[str, ...]:
    if not any(value > -float("inf") for value in importances):
        return ()
    if choice.keep == 1:
        return (remaining[most_important(importances)],)
    # The published code strikes the last one of equals.
    struck = min(range(len(remaining)), key=lambda i: (importances[i], -i))
    return tuple(c for i, c in enumerate(remaining) if i != struck)


def _recalled(record: Record, step: int, choice: Choice, remaining: tuple[str, ...]) -> Decision:
    wanted = {"step": step, "choice": choice.name, "candidates": list(remaining)}
    for key in (f.name for f in fields(Decision)):
        if key not in record:
            raise ConfigError(f"the journal is damaged: a line has no '{key}'. Start a new search with another --out.")
    for key, value in wanted.items():
        if record.get(key) != value:
            raise ConfigError(
                f"the journal cannot be continued: it says {key} {record.get(key)!r} where this search comes to "
                f"{value!r}. Start a new search with another --out."
            )
    return Decision.from_record(record)
