"""Random search, with warm-up and move."""

from __future__ import annotations

from dataclasses import dataclass

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.trials.algorithm import Algorithm, Settings, Suggestion, register_algorithm


@dataclass(frozen=True)
class RandomSettings(Settings):
    """Settings of random search."""

    move_samples: int = option(10, "with --move: number of random architectures of which the best by proxy is measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("move_samples", self.move_samples >= 1, "at least 1")


@register_algorithm
class RandomSearch(Algorithm):
    """Suggest random architectures.

    With a warm-up, its architectures come first, the best by proxy before the others, as in the notebook of Zero-Cost
    Proxies (https://github.com/mohsaied/zero-cost-nas). With ``move``, each trial takes the best by proxy of
    ``move_samples`` random architectures; this is not published.
    """

    name = "random"
    summary = "random architectures; after a warm-up its best ones by proxy first"
    settings_class = RandomSettings
    settings: RandomSettings

    def suggest(self) -> Suggestion:
        """Suggest the next architecture of the warm-up; once there is none left, a random one."""
        warm = self.pop_warm_up()
        if warm is not None:
            return warm
        if self.settings.move:
            drawn = [self.draw_new(self.sample) for _ in range(self.settings.move_samples)]
            best = self.pick_best_by_proxy([architecture for architecture in drawn if architecture is not None])
            if best is not None:
                return Suggestion(best, "move")
        return self.suggest_random()

    def learn(self, architecture: Architecture, value: float) -> None:
        """Learn nothing: random search does not depend on values."""
