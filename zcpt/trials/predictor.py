"""Predictor: rounds of trials that a graph network chooses, with warm-up and move."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.seeding import use_seed
from zcpt.trials.algorithm import (
    Algorithm,
    Settings,
    Suggestion,
    list_finite,
    register_algorithm,
)
from zcpt.trials.choice_graph import ChoiceGraph, PairPredictor

_GROWING_ROUNDS = 5
"""Rounds over which the number of training steps grows, and the number of published rounds."""
_MAX_HALVINGS = 4
"""The random half of a round comes from the best 1/16 of the predictions in the last published round and later."""


@dataclass(frozen=True)
class PredictorSettings(Settings):
    """Settings of the predictor.

    Those of the rounds, the dropout and the weight decay are the ones of BRP-NAS
    (https://github.com/SamsungLabs/eagle). Its network has 4 layers of 600 features and learns for 250 epochs at a
    learning rate of 3.5e-4. The others are ours: after 20 trials on NAS-Bench-201, 4 layers of 64 features that learn
    for 250 steps rank no better than these, and take four times as long.
    """

    round_size: int = option(20, "predictor: number of trials between two trainings of the predictor")
    ranked: int = option(2000, "predictor: number of random architectures that are ranked in each round")
    near: int = option(10, "predictor: number of the best trials whose neighbours are ranked, too")
    predictor_width: int = option(32, "predictor: features of a node")
    predictor_depth: int = option(3, "predictor: number of graph convolutions")
    predictor_dropout: float = option(0.2, "predictor: probability with which training drops a feature")
    predictor_steps: int = option(100, "predictor: steps of a training; the first ones of a search have fewer")
    predictor_lr: float = option(0.01, "predictor: learning rate (AdamW, cosine)")
    predictor_decay: float = option(5e-4, "predictor: weight decay")
    move_samples: int = option(
        10, "predictor with --move: number of random architectures among the best predicted, of which one is measured"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("near", self.near >= 0, "at least 0")
        for name in ("round_size", "ranked", "predictor_width", "predictor_depth", "predictor_steps", "move_samples"):
            self.check_range(name, getattr(self, name) >= 1, "at least 1")
        self.check_range("predictor_dropout", 0 <= self.predictor_dropout < 1, "at least 0 and below 1")
        self.check_range("predictor_lr", self.predictor_lr > 0, "above 0")
        self.check_range("predictor_decay", self.predictor_decay >= 0, "at least 0")


@register_algorithm
class Predictor(Algorithm):
    """Measure the architectures that a graph network predicts to be the best.

    Dudziak et al., "BRP-NAS: Prediction-based NAS using GCNs" (NeurIPS 2020). The network compares pairs of
    architectures, so it learns an order and no values. The first round is random. Before each of the others it learns
    from all trials, and ranks new architectures. Half of the round are the best of them; the other half is drawn from
    the best half of all, in later rounds from the best quarter, eighth and sixteenth.

    The warm-up trains the network on proxy scores; it then chooses the first round, too, and goes on with the same
    weights. With ``move``, the drawn half takes the best by proxy of ``move_samples`` draws; that is ours. So are the
    architectures that are ranked: ``ranked`` random ones and the neighbours of the ``near`` best trials in place of the
    whole space. The published head for pairs is a linear layer on both embeddings; over both orders of a pair only the
    difference of two strengths counts, and so the comparisons sort.
    """

    name = "predictor"
    summary = "a graph network that compares pairs chooses the next round of trials"
    settings_class = PredictorSettings
    settings: PredictorSettings

    def set_up(self) -> None:
        graph, s = ChoiceGraph(self.candidates.space), self.settings
        with use_seed(self._draw_seed()):
            self.network = PairPredictor(graph, s.predictor_width, s.predictor_depth, s.predictor_dropout)
        self._round: deque[Suggestion] = deque()
        self._random_asked = 0
        self._rounds = 0
        self._is_trained = False
        self._values: dict[Architecture, float] = {}

    def _draw_seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))

    def warm_up(self, architectures: Sequence[Architecture], scores: Sequence[float]) -> None:
        """Train the network with the proxy scores of architectures."""
        finite = list_finite(scores)
        self._fit([architectures[i] for i in finite], [scores[i] for i in finite], self.settings.predictor_steps)

    def _fit(self, architectures: Sequence[Architecture], values: Sequence[float], steps: int) -> None:
        if len(architectures) < 2:
            return
        lr, decay = self.settings.predictor_lr, self.settings.predictor_decay
        with use_seed(self._draw_seed()):
            self.network.fit(architectures, values, steps=steps, lr=lr, decay=decay)
        self._is_trained = True

    def learn(self, architecture: Architecture, value: float) -> None:
        """Keep the value for the next training."""
        self._values[architecture] = value

    def revise(self, values: Mapping[Architecture, float]) -> None:
        """Replace the values for the next training."""
        self._values = {architecture: values.get(architecture, value) for architecture, value in self._values.items()}

    def suggest(self) -> Suggestion:
        """Suggest the next architecture of the round; begin a round if there is none left."""
        while self._round:
            suggestion = self._round.popleft()
            if self.is_new(suggestion.architecture):
                return suggestion
        if not self._is_trained and (self._random_asked < self.settings.round_size or not self._values):
            self._random_asked += 1
            self._rounds = 1
            return self.suggest_random()
        self._rounds += 1
        if self._values:
            steps = self.settings.predictor_steps * min(self._rounds - 1, _GROWING_ROUNDS) / _GROWING_ROUNDS
            self._fit(list(self._values), list(self._values.values()), max(1, round(steps)))
        if self._is_trained:
            self._round.extend(self._choose_round())
        return self._round.popleft() if self._round else self.suggest_random()

    def _choose_round(self) -> list[Suggestion]:
        ranking = self._rank()
        count = self.settings.round_size // 2
        chosen = [Suggestion(architecture, "predicted") for architecture in ranking[: self.settings.round_size - count]]
        halvings = min(max(self._rounds - 1, 1), _MAX_HALVINGS)
        rest = self.shuffle(ranking[len(chosen) : max(len(ranking) >> halvings, self.settings.round_size)])
        if not self.settings.move:
            return chosen + [Suggestion(architecture, "predicted half") for architecture in rest[:count]]
        size = self.settings.move_samples
        groups = [rest[start : start + size] for start in range(0, min(count * size, len(rest)), size)]
        best = (self.pick_best_by_proxy(group) for group in groups)
        return chosen + [Suggestion(architecture, "move") for architecture in best if architecture is not None]

    def _rank(self) -> list[Architecture]:
        """Return new architectures, those that are predicted to be the best first."""
        drawn = [self.sample() for _ in range(self.settings.ranked)]
        best = sorted(self._values, key=lambda architecture: -self._values[architecture])[: self.settings.near]
        near = [neighbor for architecture in best for neighbor in self.candidates.list_neighbors(architecture)]
        new = [architecture for architecture in dict.fromkeys(near + drawn) if self.is_new(architecture)]
        strengths = self.network.predict(new) if new else []
        return [new[i] for i in sorted(range(len(new)), key=lambda i: -strengths[i])]
