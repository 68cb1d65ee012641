"""REINFORCE: a policy with one categorical distribution per choice, with warm-up and move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from scipy.stats import rankdata
from torch import Tensor

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.space import SearchSpace
from zcpt.trials.algorithm import (
    Algorithm,
    Settings,
    Suggestion,
    list_finite,
    register_algorithm,
)

_DRAWS = 100
"""Number of draws from the policy until one is allowed."""


@dataclass(frozen=True)
class ReinforceSettings(Settings):
    """Settings of REINFORCE.

    The controller of Zero-Cost Proxies was not published. The defaults are those of NATS-Bench
    (https://github.com/D-X-Y/AutoDL-Projects, ``exps/NATS-algos``); of 10 and 100 samples, which Zero-Cost Proxies
    compares, ``move_samples`` is the better one.
    """

    policy_lr: float = option(0.01, "reinforce: learning rate of the policy (Adam)")
    baseline_momentum: float = option(0.9, "reinforce: momentum of the moving average of the rewards")
    initial_std: float = option(1e-3, "reinforce: standard deviation of the policy's initial logits")
    move_samples: int = option(
        100, "reinforce with --move: number of architectures drawn from the policy, of which the best by proxy is taken"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("policy_lr", self.policy_lr > 0, "above 0")
        self.check_range("baseline_momentum", 0 <= self.baseline_momentum < 1, "at least 0 and below 1")
        self.check_range("initial_std", self.initial_std >= 0, "at least 0")
        self.check_range("move_samples", self.move_samples >= 1, "at least 1")


class Policy:
    """Independent categorical distributions, one for each choice of a space, trained with REINFORCE.

    The outcomes of a choice are the sets of candidates that it may keep: for one of five candidates there are 5, for
    two of four 6. The logarithm of an architecture's probability is a sum over the choices that it has. A cell without
    some choices, such as the operation of an edge that a DARTS node does not keep, stands for all outcomes of these.

    Args:
        space: The search space.
        generator: Source of all random numbers.
        settings: Learning rate, momentum and initial logits.
    """

    def __init__(self, space: SearchSpace, generator: torch.Generator, settings: ReinforceSettings) -> None:
        self.space = space
        self._generator = generator
        self._momentum = settings.baseline_momentum
        self.outcomes = [tuple(combinations(choice.selectable, choice.keep)) for choice in self.space.choices]
        self._positions = [{frozenset(kept): i for i, kept in enumerate(kept_sets)} for kept_sets in self.outcomes]
        shape = (len(self.outcomes), max(map(len, self.outcomes)))
        # Drawn in float64 whatever torch's default is: the draws must not depend on it.
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.logits = (settings.initial_std * noise).requires_grad_()
        """Logits [choices, outcomes]; those beyond the outcomes of a choice are ignored."""
        self._is_outcome = torch.tensor([[i < len(sets) for i in range(shape[1])] for sets in self.outcomes])
        self._optimizer = torch.optim.Adam([self.logits], lr=settings.policy_lr)
        self.reset_baseline()

    def reset_baseline(self) -> None:
        """Forget the rewards, when those that follow are of another kind."""
        self._average, self._updates = 0.0, 0

    def compute_log_probabilities(self) -> Tensor:
        """Return the logarithms of the probabilities [choices, outcomes], -inf where there is no outcome."""
        return self.logits.masked_fill(~self._is_outcome, -math.inf).log_softmax(dim=1)

    def draw(self) -> Architecture:
        """Draw an architecture of the space."""
        with torch.no_grad():
            probabilities = self.compute_log_probabilities().exp()
            indices = torch.multinomial(probabilities, 1, generator=self._generator)[:, 0].tolist()
        kept = (outcomes[index] for outcomes, index in zip(self.outcomes, indices, strict=True))
        return self.space.architecture({c.name: k for c, k in zip(self.space.choices, kept, strict=True)})

    def encode(self, architecture: Architecture) -> Tensor:
        """Return the index of the outcome of each choice [choices]; -1 where the architecture lacks the choice."""
        kept = architecture.kept
        return torch.tensor(
            [
                positions[frozenset(kept[choice.name])] if choice.name in kept else -1
                for choice, positions in zip(self.space.choices, self._positions, strict=True)
            ]
        )

    def compute_log_likelihood(self, codes: Tensor) -> Tensor:
        """Return the logarithms of the probabilities [N] of encoded architectures [N, choices]."""
        log_probabilities = self.compute_log_probabilities()
        gathered = log_probabilities[torch.arange(codes.shape[1]), codes.clamp_min(0)]
        return gathered.where(codes >= 0, 0.0).sum(dim=1)

    def update(self, code: Tensor, reward: float) -> None:
        """Take one step of Adam on -log(probability) * (reward - baseline).

        The baseline is the moving average of the rewards, this one included, without its bias towards 0.
        """
        self._updates += 1
        self._average = self._momentum * self._average + (1 - self._momentum) * reward
        baseline = self._average / (1 - self._momentum**self._updates)
        self._optimizer.zero_grad()
        loss = -self.compute_log_likelihood(code[None])[0] * (reward - baseline)
        torch.autograd.backward([loss])
        self._optimizer.step()


@register_algorithm
class Reinforce(Algorithm):
    """Draw architectures from a policy that REINFORCE trains.

    With ``move``, the best by proxy of ``move_samples`` draws is measured, and the policy learns from it. This is our
    reading: the exact rule was not published.

    The warm-up trains the policy with proxy scores as rewards: one update for each scored architecture. Each update
    takes an architecture that is drawn from all of these with the policy's probabilities. Taken in their given order,
    they would go on to be uniform when the policy is not any more. A reward is the share of the other scores that are
    lower, because many proxies span several orders of magnitude. The rule and the reward are ours.
    """

    name = "reinforce"
    summary = "a policy of one distribution per choice, trained with REINFORCE"
    settings_class = ReinforceSettings
    settings: ReinforceSettings

    def set_up(self) -> None:
        self.policy = Policy(self.candidates.space, self.generator, self.settings)

    def warm_up(self, architectures: Sequence[Architecture], scores: Sequence[float]) -> None:
        """Train the policy with the proxy scores of architectures as rewards."""
        finite = list_finite(scores)
        ranks = rankdata([scores[i] for i in finite], method="min")
        codes = torch.stack([self.policy.encode(architectures[i]) for i in finite])
        for _ in finite:
            with torch.no_grad():
                likelihood = self.policy.compute_log_likelihood(codes)
            index = int(torch.multinomial(likelihood.softmax(dim=0), 1, generator=self.generator))
            self.policy.update(codes[index], (ranks[index] - 1) / len(finite))
        self.policy.reset_baseline()

    def suggest(self) -> Suggestion:
        """Suggest an architecture that the policy draws, or the best by proxy of several."""
        draws = self.settings.move_samples if self.settings.move else 1
        drawn = [self.draw_new(self._draw_allowed) for _ in range(draws)]
        new = [architecture for architecture in drawn if architecture is not None]
        if self.settings.move:
            best = self.pick_best_by_proxy(new)
            if best is not None:
                return Suggestion(best, "move")
        return Suggestion(new[0], "policy") if new else self.suggest_random()

    def learn(self, architecture: Architecture, value: float) -> None:
        """Update the policy; a trial that failed does not change it."""
        if math.isfinite(value):
            self.policy.update(self.policy.encode(architecture), value)

    def _draw_allowed(self) -> Architecture:
        """Draw from the policy until the architecture is allowed; where that is rare, draw a random one instead."""
        for _ in range(_DRAWS):
            architecture = self.policy.draw()
            if self.candidates.is_allowed(architecture):
                return architecture
        return self.sample()
