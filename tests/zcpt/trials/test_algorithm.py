"""Tests that every algorithm passes on every space, and of the warm-up and the move that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import SPACES
from tests.zcpt.trials.grid import Grid, build_algorithm, read_number, read_numbers
from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, ProxyError
from zcpt.seeding import derive_seed
from zcpt.trials import ALGORITHMS, Algorithm, Candidates, Suggestion, build_settings, list_algorithms

SMALL: dict[str, dict[str, Any]] = {
    "random": {"move_samples": 3},
    "evolution": {"pool": 3, "tournament": 2, "move_samples": 3},
    "reinforce": {"move_samples": 3},
    "local": {"starts": 2},
    "hierarchy": {"initial": 3, "stages": 1, "promote": "", "parents": "2", "move_samples": 3},
    "predictor": {
        "round_size": 3,
        "ranked": 10,
        "near": 1,
        "predictor_width": 8,
        "predictor_steps": 5,
        "move_samples": 3,
    },
}
"""Settings with which few trials show all that an algorithm does."""


def hash_architectures(architectures: Sequence[Architecture]) -> list[float]:
    """Return a number for each architecture that depends on it alone; some are not finite."""
    numbers = [derive_seed(0, repr(sorted(a.kept.items()))) % 1000 for a in architectures]
    return [-math.inf if number < 100 else float(number) for number in numbers]


def run_trials(algorithm: Algorithm, trials: int, batch_size: int = 1, warmup: int = 0) -> list[Suggestion]:
    """Run trials whose values are hashes, in synchronous batches."""
    if warmup:
        drawn = [algorithm.sample() for _ in range(warmup)]
        algorithm.warm_up(drawn, hash_architectures(drawn))
    suggestions: list[Suggestion] = []
    while len(suggestions) < trials:
        batch = [algorithm.ask() for _ in range(batch_size)]
        for suggestion in batch:
            algorithm.tell(suggestion.architecture, hash_architectures([suggestion.architecture])[0])
        suggestions += batch
    return suggestions


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", list_algorithms())
def test_every_algorithm_asks_for_architectures_of_every_space_once(name: str, space: str) -> None:
    candidates = Candidates(zcpt.get_space(space))
    for move, batch_size in ((False, 1), (True, 4)):
        settings = build_settings(name, **{**SMALL[name], "move": move})
        runs = []
        for _ in range(2):
            generator = torch.Generator().manual_seed(0)
            algorithm = ALGORITHMS[name](candidates, generator, settings, hash_architectures)
            runs.append(run_trials(algorithm, 8, batch_size, warmup=4))
        assert runs[0] == runs[1], "the same seed gives the same trials"
        architectures = [candidates.space.canonicalize(suggestion.architecture) for suggestion in runs[0]]
        assert len(set(architectures)) == 8
        assert all(candidates.is_allowed(suggestion.architecture) for suggestion in runs[0])


@pytest.mark.parametrize("name", list_algorithms())
def test_all_architectures_are_asked_for_before_one_is_repeated(name: str) -> None:
    algorithm = build_algorithm(name, Grid(4), **{**SMALL[name], "move": True})
    suggestions = run_trials(algorithm, 18, batch_size=2)
    assert len({suggestion.architecture for suggestion in suggestions[:16]}) == 16
    assert [suggestion.reason for suggestion in suggestions[16:]] == ["repeat", "repeat"]


@pytest.mark.parametrize("name", list_algorithms())
def test_repeats_are_allowed_if_the_settings_say_so(name: str) -> None:
    suggestions = run_trials(build_algorithm(name, Grid(2), **{**SMALL[name], "repeats": True}), 12)
    assert len({suggestion.architecture for suggestion in suggestions[:4]}) < 4 or len(suggestions) == 12
    assert all(suggestion.reason != "repeat" for suggestion in suggestions)


@pytest.mark.parametrize("name", list_algorithms())
def test_trials_that_all_fail_do_not_stop_an_algorithm(name: str) -> None:
    algorithm = build_algorithm(name, **SMALL[name])
    for _ in range(12):
        algorithm.tell(algorithm.ask().architecture, math.nan)


@pytest.mark.parametrize("name", ["random", "evolution", "local"])
def test_the_first_trials_are_the_best_of_the_warm_up(name: str) -> None:
    algorithm = build_algorithm(name, Grid(10), **SMALL[name])
    space = algorithm.candidates.space
    scored = [space.parse(text) for text in ("14", "93", "41", "00", "93")]
    algorithm.warm_up(scored, [3, 1, 5, math.nan, 1])
    suggestions = [algorithm.ask() for _ in range(2)]
    assert [space.format(suggestion.architecture) for suggestion in suggestions] == ["41", "14"]
    assert {suggestion.reason for suggestion in suggestions} == {"warm-up"}


def test_random_search_goes_on_at_random_after_the_warm_up_without_those_that_failed() -> None:
    algorithm = build_algorithm("random", Grid(10))
    scored = [algorithm.candidates.space.parse(text) for text in ("14", "93", "00")]
    algorithm.warm_up(scored, [1, 2, -math.inf])
    assert [algorithm.ask().reason for _ in range(4)] == ["warm-up", "warm-up", "random", "random"]


@pytest.mark.parametrize("name", list_algorithms())
def test_a_warm_up_without_a_finite_score_is_an_error(name: str) -> None:
    algorithm = build_algorithm(name)
    with pytest.raises(ProxyError, match=r"scored 1 architecture, and no score is finite: try another --proxy"):
        algorithm.warm_up([algorithm.sample()], [math.nan])


def test_random_search_moves_to_the_best_by_proxy_of_its_draws() -> None:
    algorithm = build_algorithm("random", Grid(10), move=True, move_samples=200)
    assert read_number(algorithm.ask().architecture) > 90


def test_a_move_among_failed_proxy_scores_is_a_random_choice() -> None:
    candidates = Candidates(Grid())
    algorithm = ALGORITHMS["random"](
        candidates, torch.Generator().manual_seed(0), build_settings("random", move=True), lambda many: [math.nan] * 10
    )
    assert algorithm.ask().reason == "random"


def test_a_move_without_a_proxy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--move compares architectures by a proxy, and none is given: add --proxy"):
        ALGORITHMS["evolution"](Candidates(Grid()), torch.Generator(), build_settings("evolution", move=True))


def test_settings_of_another_algorithm_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'evolution' takes settings of class EvolutionSettings, not LocalSettings"):
        ALGORITHMS["evolution"](Candidates(Grid()), torch.Generator(), build_settings("local"))
    with pytest.raises(ConfigError, match=r"unknown setting of algorithm 'local' 'start': did you mean 'starts'"):
        build_settings("local", start=3)
    with pytest.raises(ConfigError, match=r"unknown algorithm 'evolve'"):
        build_settings("evolve")


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("random", "move_samples", 0),
        ("evolution", "pool", 0),
        ("evolution", "tournament", 0),
        ("evolution", "explore", 1.5),
        ("evolution", "move_samples", -1),
        ("reinforce", "policy_lr", 0.0),
        ("reinforce", "baseline_momentum", 1.0),
        ("reinforce", "initial_std", -1.0),
        ("reinforce", "move_samples", 0),
        ("local", "starts", 0),
        ("predictor", "round_size", 0),
        ("predictor", "ranked", 0),
        ("predictor", "predictor_depth", 0),
        ("predictor", "predictor_dropout", 1.0),
        ("predictor", "predictor_lr", 0.0),
        ("predictor", "predictor_decay", -1.0),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"--{setting.replace('_', '-')} is .*, not {value}"):
        build_settings(name, **{setting: value})


def test_an_algorithm_of_a_user_is_registered_by_its_name() -> None:
    from zcpt.trials import register_algorithm

    class Nothing(Algorithm):
        name = "nothing"

    with pytest.raises(ConfigError, match=r"class Nothing has no method learn"):
        register_algorithm(Nothing)
    with pytest.raises(ConfigError, match=r"an algorithm named 'random' exists already"):
        register_algorithm(type("Random", (ALGORITHMS["local"],), {"name": "random"}))


def test_numbers_are_what_the_tests_take_them_for() -> None:
    assert read_numbers([Grid().parse("31")]) == [31]
