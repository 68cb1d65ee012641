"""The contract of the algorithms of multi-trial search: which architecture is measured next."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, ProxyError, describe_unknown_name
from zcpt.options import check_types, format_flag, option, pluralize
from zcpt.registry import Registry, check_part_class
from zcpt.trials.candidates import Candidates

ScoreArchitectures = Callable[[Sequence[Architecture]], list[float]]
"""Computes proxy scores: higher is better. A failed or non-finite score is -inf and is never taken for the best."""

_DRAWS = 100
"""Number of draws that an algorithm makes to find an architecture that was not asked before."""


@dataclass(frozen=True)
class Suggestion:
    """An architecture to measure next."""

    architecture: Architecture
    reason: str
    """Why it was chosen, for the journal: 'random', 'warm-up', 'mutation', 'move', 'policy', 'predicted', 'neighbour';
    'promotion'; 'repeat' where every architecture that can be reached was asked before."""
    share: float = 1.0
    """Share of the measurement that is done after the trial, where trainings have stages."""
    origin: int | None = None
    """Trial of the first stage of this training; None where there are no stages."""


@dataclass(frozen=True)
class Settings:
    """Settings that all algorithms have. Those of one algorithm are a subclass.

    Raises:
        ConfigError: A value has another type, or is out of range.
    """

    move: bool = option(False, "of several architectures that could be next, measure the one with the best proxy score")
    repeats: bool = option(False, "measure an architecture again if it is drawn again; each time is a trial")

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def trains_in_stages(self) -> bool:
        """Whether trials are stages of trainings, so that the value must be one that can be measured in shares."""
        return False

    def check_range(self, name: str, is_inside: bool, allowed: str) -> None:
        """Raise ConfigError if a value is out of its range."""
        if not is_inside:
            raise ConfigError(f"{format_flag(name)} is {allowed}, not {getattr(self, name)}.")


class Algorithm(ABC):
    """A rule for the architecture that is measured next, given the values measured so far.

    A subclass sets the class attributes and implements ``suggest`` and ``learn``. It draws all random numbers from
    ``self.generator``, so that the same seed and the same values give the same architectures.

    Args:
        candidates: Architectures that may be suggested.
        generator: Source of all random numbers, on the CPU.
        settings: An instance of ``settings_class``.
        score: Computes proxy scores, for ``move``.

    Raises:
        ConfigError: The settings are those of another algorithm, or ``move`` is set and there is no proxy.
    """

    name: ClassVar[str]
    """Name for ``--algorithm``."""
    summary: ClassVar[str] = ""
    """One line for lists."""
    settings_class: ClassVar[type[Settings]] = Settings
    """Class of the settings."""

    settings: Settings

    def __init__(
        self,
        candidates: Candidates,
        generator: torch.Generator,
        settings: Settings | None = None,
        score: ScoreArchitectures | None = None,
    ) -> None:
        settings = self.settings_class() if settings is None else settings
        if not isinstance(settings, self.settings_class):
            expected, given = self.settings_class.__name__, type(settings).__name__
            raise ConfigError(f"algorithm '{self.name}' takes settings of class {expected}, not {given}.")
        if settings.move and score is None:
            raise ConfigError("--move compares architectures by a proxy, and none is given: add --proxy, e.g. synflow.")
        self.candidates = candidates
        self.generator = generator
        self.settings = settings
        self.score = score
        self._best_first: deque[Architecture] = deque()
        """Architectures of the warm-up that were not suggested yet."""
        self._asked: set[Architecture] = set()
        """Canonical representatives of all architectures that were suggested."""
        self._remaining = candidates.iterate()
        """All architectures, from the first that may not have been suggested."""
        self.set_up()

    def set_up(self) -> None:  # noqa: B027  # some algorithms have no state
        """Create the algorithm's own state, once settings and candidates are there."""

    def warm_up(self, architectures: Sequence[Architecture], scores: Sequence[float]) -> None:
        """Take in the proxy scores of architectures, before the first ``ask``.

        By default the architectures are suggested first, the best before the others (``pop_warm_up``).

        Raises:
            ProxyError: All scores are non-finite.
        """
        finite = list_finite(scores)
        self._best_first.extend(architectures[i] for i in sorted(finite, key=lambda i: -scores[i]))

    def ask(self) -> Suggestion:
        """Return the architecture to measure next. It may be called again before its value is told."""
        suggestion = self.suggest()
        self._asked.add(self.candidates.space.canonicalize(suggestion.architecture))
        return suggestion

    def tell(self, architecture: Architecture, value: float) -> None:
        """Take in the value of an architecture: higher is better, -inf for a trial that failed."""
        self.learn(architecture, value if math.isfinite(value) else -math.inf)

    def revise(self, values: Mapping[Architecture, float]) -> None:  # noqa: B027  # most algorithms keep no values
        """Replace the values of all earlier trials, which an aggregate of proxies compares anew with every batch.

        By default nothing: override it in an algorithm that keeps values.
        """

    @abstractmethod
    def suggest(self) -> Suggestion:
        """Choose the architecture to measure next, one for which ``is_new`` is true if there is one."""

    @abstractmethod
    def learn(self, architecture: Architecture, value: float) -> None:
        """Take in a value: a finite number, or -inf for a trial that failed."""

    def count_ready(self) -> int | None:
        """Return the number of architectures that may be asked before any of their values is told; None: any number."""
        return None

    @property
    def unfinished(self) -> frozenset[int]:
        """Origins of the trainings that may go on with a further stage."""
        return frozenset()

    def is_new(self, architecture: Architecture) -> bool:
        """Return whether an architecture may be suggested: it was not yet, or the settings allow repeats."""
        return self.settings.repeats or self.candidates.space.canonicalize(architecture) not in self._asked

    def pop_warm_up(self) -> Suggestion | None:
        """Return the best architecture of the warm-up that was not suggested yet; None if there is none left."""
        while self._best_first:
            architecture = self._best_first.popleft()
            if self.is_new(architecture):
                return Suggestion(architecture, "warm-up")
        return None

    def sample(self) -> Architecture:
        """Return a random architecture of the candidates."""
        return self.candidates.sample(self.generator)

    def draw_new(self, draw: Callable[[], Architecture], draws: int = _DRAWS) -> Architecture | None:
        """Return the first drawn architecture that is new; None if none of many is."""
        for _ in range(draws):
            architecture = draw()
            if self.is_new(architecture):
                return architecture
        return None

    def suggest_random(self) -> Suggestion:
        """Suggest a random new architecture; once these are rare, the first new one in the order of all."""
        architecture = self.draw_new(self.sample)
        if architecture is not None:
            return Suggestion(architecture, "random")
        for architecture in self._remaining:
            if self.is_new(architecture):
                return Suggestion(architecture, "remaining")
        return Suggestion(self.sample(), "repeat")

    def pick_best_by_proxy(self, architectures: Sequence[Architecture]) -> Architecture | None:
        """Return the architecture of the best proxy score, the first of equals; None if no score is finite."""
        assert self.score is not None
        scores = self.score(architectures) if architectures else []
        finite = [i for i, score in enumerate(scores) if math.isfinite(score)]
        return architectures[max(finite, key=scores.__getitem__)] if finite else None

    def shuffle(self, architectures: Sequence[Architecture]) -> list[Architecture]:
        """Return the architectures in a random order."""
        order = torch.randperm(len(architectures), generator=self.generator)
        return [architectures[i] for i in order.tolist()]


def list_finite(scores: Sequence[float]) -> list[int]:
    """Return the positions of the finite scores of a warm-up.

    Raises:
        ProxyError: There are scores, and none is finite.
    """
    finite = [i for i, score in enumerate(scores) if math.isfinite(score)]
    if scores and not finite:
        raise ProxyError(
            f"the warm-up scored {pluralize(len(scores), 'architecture')}, and no score is finite: try another --proxy."
        )
    return finite


ALGORITHMS: Registry[type[Algorithm]] = Registry("algorithm", ConfigError, "zcpt list algorithms")
"""Algorithms of multi-trial search by name."""
Class = TypeVar("Class", bound=type[Algorithm])


def register_algorithm(algorithm: Class) -> Class:
    """Register a class of ``Algorithm`` under its name (a class decorator).

    Raises:
        ConfigError: The name is taken, or the class has none or lacks a method.
    """
    check_part_class(algorithm, Algorithm, "an algorithm", ConfigError)
    return ALGORITHMS.decorator()(algorithm)


def list_algorithms() -> list[str]:
    """Return the names of all algorithms, sorted."""
    return sorted(ALGORITHMS)


def build_settings(algorithm: str, **values: Any) -> Settings:
    """Return the settings of an algorithm: the given values, and defaults for the others.

    Raises:
        ConfigError: The algorithm is unknown, or has no setting of that name, or a value is out of range.
    """
    settings_class = ALGORITHMS[algorithm].settings_class
    names = [field.name for field in fields(settings_class)]
    for name in values:
        if name not in names:
            raise ConfigError(describe_unknown_name(f"setting of algorithm '{algorithm}'", name, names))
    return settings_class(**values)
