"""EcoNAS' hierarchical strategy: trainings in stages, of which only the best go on."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError
from zcpt.options import option, pluralize
from zcpt.trials.algorithm import Suggestion, register_algorithm
from zcpt.trials.mutation import MutatingAlgorithm, MutationSettings


def _read_counts(text: str, flag: str) -> tuple[int, ...]:
    """Read whole numbers such as 8,4."""
    try:
        counts = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        counts = (-1,)
    if any(count < 0 for count in counts):
        raise ConfigError(f"{flag} takes whole numbers such as 8,4, not '{text}'.")
    return counts


@dataclass(frozen=True)
class HierarchySettings(MutationSettings):
    """Settings of the hierarchical strategy.

    The defaults are those of the code of EcoNAS (https://github.com/DongzhanZhou/EcoNAS).
    """

    initial: int = option(16, "hierarchy: number of random networks of the first cycle")
    stages: int = option(3, "hierarchy: number of stages of a training; each has the same share of its epochs")
    promote: str = option("8,4", "hierarchy: number of networks that go on in each cycle after stage 1, 2 ...")
    parents: str = option("6,5,5", "hierarchy: number of parents in each cycle from the networks after stage 1, 2 ...")
    max_age: int = option(10, "hierarchy: cycles after its last training in which a network leaves")
    tournament_share: float = option(
        0.25, "hierarchy: share of the networks of a group that compete to be a parent, one more than that"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("initial", "stages", "max_age"):
            self.check_range(name, getattr(self, name) >= 1, "at least 1")
        self.check_range("tournament_share", 0 <= self.tournament_share <= 1, "between 0 and 1")
        for flag, counts, expected in (
            ("--promote", self.promote_counts, self.stages - 1),
            ("--parents", self.parent_counts, self.stages),
        ):
            if len(counts) != expected:
                text = ",".join(map(str, counts))
                raise ConfigError(
                    f"{flag} takes {pluralize(expected, 'number')} with {pluralize(self.stages, 'stage')}, "
                    f"not '{text}'."
                )
        if not sum(self.parent_counts):
            raise ConfigError(f"--parents {self.parents} has no parent: give at least one.")

    @property
    def promote_counts(self) -> tuple[int, ...]:
        """Number of networks of each group but the last that go on in a cycle."""
        return _read_counts(self.promote, "--promote")

    @property
    def parent_counts(self) -> tuple[int, ...]:
        """Number of parents from each group in a cycle."""
        return _read_counts(self.parents, "--parents")

    @property
    def trains_in_stages(self) -> bool:
        """Whether a training has more than one stage."""
        return self.stages > 1


@dataclass
class Member:
    """A living network."""

    architecture: Architecture
    origin: int
    """Trial of its first stage."""
    stage: int = 0
    """Number of stages that it has completed."""
    best: float = -math.inf
    """Best value after any of its stages."""
    cycle: int = 0
    """Cycle of its last training."""


@register_algorithm
class Hierarchy(MutatingAlgorithm):
    """Train networks in stages: the best go on, and are mutated.

    The hierarchical strategy of EcoNAS (Zhou et al., CVPR 2020). A trial is one stage of a training. Networks form
    groups by the number of stages that they have completed, ranked by their best value after any stage. The first cycle
    trains random networks. Each further cycle

    1. drops the networks whose last training lies ``max_age`` cycles back,
    2. trains the next stage of the best of each group but the last,
    3. trains the first stage of one child each of parents from all groups. A parent is the best of a share of its
       group, drawn with replacement.

    All trainings of a cycle are independent. Parents are drawn before the promoted networks leave their group. Networks
    whose training failed leave at once; when none is left, a cycle begins anew with random ones.
    """

    name = "hierarchy"
    summary = "trainings in stages, of which the best go on and are mutated (EcoNAS); needs --value train:RECIPE"
    settings_class = HierarchySettings
    settings: HierarchySettings

    def set_up(self) -> None:
        self.members: list[Member] = []
        """Living networks."""
        self.cycle = -1
        """Number of the present cycle."""
        self._queue: deque[Member | Architecture | None] = deque()
        """Trials of the cycle to come: the next stage of a member, a child of an architecture, or a random network."""
        self._pending: deque[Member] = deque()
        """Networks whose values have not been told yet."""
        self._trials = 0

    def count_ready(self) -> int:
        """Return the number of trials that are left in this cycle, or if none is, in the next one."""
        if not self._queue:
            self._begin_cycle()
        return len(self._queue)

    def suggest(self) -> Suggestion:
        """Suggest the next training of the cycle."""
        if not self._queue:
            self._begin_cycle()
        task = self._queue.popleft()
        if isinstance(task, Member):
            suggestion, member = Suggestion(task.architecture, "promotion"), task
        else:
            child = None if task is None else self.make_child(task)
            suggestion = child or self.pop_warm_up() or self.suggest_random()
            member = Member(suggestion.architecture, self._trials)
        self._trials += 1
        self._pending.append(member)
        share = (member.stage + 1) / self.settings.stages
        return Suggestion(suggestion.architecture, suggestion.reason, share, member.origin)

    def learn(self, architecture: Architecture, value: float) -> None:
        """Put the network into the group of the stages that it has completed."""
        member = self._pending.popleft()
        assert member.architecture == architecture, "values are told in the order of the suggestions"
        self.members = [other for other in self.members if other is not member]
        if value > -math.inf:
            member.stage, member.cycle = member.stage + 1, self.cycle
            member.best = max(member.best, value)
            self.members.append(member)

    @property
    def unfinished(self) -> frozenset[int]:
        """Origins of the networks that may go on with a further stage."""
        open_members = [member for member in self.members if member.stage < self.settings.stages]
        return frozenset(member.origin for member in [*open_members, *self._pending])

    def _begin_cycle(self) -> None:
        self.cycle += 1
        settings = self.settings
        self.members = [member for member in self.members if self.cycle - member.cycle < settings.max_age]
        groups = [self._rank_group(stage) for stage in range(1, settings.stages + 1)]
        for group, count in zip(groups, settings.promote_counts, strict=False):
            self._queue.extend(group[:count])
        for group, count in zip(groups, settings.parent_counts, strict=True):
            if group:
                self._queue.extend(self._select_parent(group) for _ in range(count))
        if not self._queue:
            self._queue.extend([None] * settings.initial)

    def _rank_group(self, stage: int) -> list[Member]:
        """Return the networks that have completed so many stages, the best first, of equal ones the older."""
        group = [member for member in self.members if member.stage == stage]
        return sorted(group, key=lambda member: (-member.best, member.origin))

    def _select_parent(self, group: list[Member]) -> Architecture:
        size = math.floor(self.settings.tournament_share * len(group)) + 1
        drawn = torch.randint(len(group), (size,), generator=self.generator)
        return group[int(drawn.min())].architecture
