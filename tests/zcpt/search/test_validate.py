"""Stage 2: paired, over V batches and R initialisations."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.search.conftest import run_small_search
from zcpt import ProxyError
from zcpt.search.validate import find_best


def test_all_candidates_are_scored_on_the_same_batches_and_initialisations(
    monkeypatch: pytest.MonkeyPatch, diary: Any, pictures: TensorDataset
) -> None:
    draws = iter(range(10**6))
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: float(hash(next(draws)) * 7919 % 101)))
    space = zcpt.get_space("nasbench201")
    result, _ = run_small_search(space, pictures, proxy="diary", proposals=6, validation_batches=7, validation_inits=3)
    candidates = len(result.candidates)
    assert candidates > 1
    shown = [(tuple(w[:6]), tuple(images)) for w, images, mixture in diary.shown if mixture is None]
    assert len(shown) == 7 * candidates
    assign_turns = [shown[i : i + candidates] for i in range(0, len(shown), candidates)]
    # The stem comes first in every network, so the same seed gives all candidates the same stem.
    assert all(len(set(scored)) == 1 for scored in assign_turns)
    assert len({scored[0][1] for scored in assign_turns}) == 7
    stems = [scored[0][0] for scored in assign_turns]
    assert len(set(stems)) == 3
    # Initialisation 0 serves batches 0, 3, 6; then 1: 1, 4; then 2: 2, 5.
    assert [stems.index(stem) for stem in stems] == [0, 0, 0, 3, 3, 5, 5]


def test_validation_has_a_batch_size_of_its_own(
    monkeypatch: pytest.MonkeyPatch, diary: Any, pictures: TensorDataset
) -> None:
    draws = iter(range(10**6))
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: float(hash(next(draws)) * 7919 % 101)))
    run_small_search(
        zcpt.get_space("nasbench201"), pictures, proxy="diary", proposals=4, batch_size=5, validation_batch_size=9
    )
    sizes = {mixture is None: len(images) for _, images, mixture in diary.shown}
    assert sizes == {False: 5, True: 9}


def test_the_best_mean_wins_in_both_directions(diary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = zcpt.SearchConfig(proxy="diary", batch_size=2, validation_batch_size=2)
    scores = [[1.0, 2.0], [5.0, 0.0], [2.0, 2.0]]
    assert find_best(scores, config) == 1
    monkeypatch.setattr(diary, "higher_is_better", False)
    assert find_best(scores, config) == 0


def test_scores_that_are_not_finite_rank_last() -> None:
    scores = [[math.inf, 9.0], [1.0, 1.0], [math.nan, 8.0]]
    assert find_best(scores, zcpt.SearchConfig()) == 1
    assert find_best([[-math.inf, 1.0], [-math.inf, 2.0]], zcpt.SearchConfig()) == 1
    with pytest.raises(ProxyError, match="no proposal got a finite score"):
        find_best([[math.nan], [math.inf]], zcpt.SearchConfig())


def test_compare_sums_scores_and_ranks_nan_last() -> None:
    published = zcpt.SearchConfig(non_finite="compare")
    assert find_best([[-math.inf, 9.0], [1.0, 1.0], [math.nan, 8.0]], published) == 1


def test_a_single_candidate_needs_no_validation(diary: Any, pictures: TensorDataset) -> None:
    result, _ = run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="diary", proposals=3, order="fixed")
    assert len(result.candidates) == 1
    assert result.candidates[0].proposals == (0, 1, 2)
    assert all(mixture is not None for _, _, mixture in diary.shown)
