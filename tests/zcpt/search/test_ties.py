"""Scores that are the same for all candidates decide nothing, and that is said with the count."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

import zcpt
from zcpt.search import Decision, SearchConfig, find_best

LABELS = torch.arange(8) % 4
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SIZES: dict[str, Any] = {
    "channels": 4,
    "layers": 1,
    "batch_size": 8,
    "validation_batches": 1,
    "validation_batch_size": 8,
}


def read_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("proxy", ["snip", "grad_norm", "fisher", "zico"])
def test_a_single_class_decides_nothing_and_the_count_is_given(proxy: str, caplog: pytest.LogCaptureFixture) -> None:
    data = IMAGES, torch.zeros(8, dtype=torch.int64)
    zcpt.search("nasbench201", data, proxy=proxy, proposals=1, num_classes=1, **SIZES)
    (warning,) = read_warnings(caplog)
    assert warning.startswith(f"proxy '{proxy}' scores all candidates alike in 6 of 6 decisions: there their order")


def test_a_proxy_that_decides_nothing_is_named_after_the_first_proposal(
    caplog: pytest.LogCaptureFixture, diary: Any
) -> None:
    zcpt.search("nasbench201", (IMAGES, LABELS), proxy="diary", proposals=2, **SIZES)
    first, last = read_warnings(caplog)
    assert "in 6 of 6 decisions" in first
    assert "in 12 of 12 decisions" in last


def test_distinct_scores_are_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    zcpt.search("nasbench201", (IMAGES, LABELS), proxy="naswot", proposals=1, **SIZES)
    assert read_warnings(caplog) == []


def test_equal_images_decide_nothing_in_the_published_procedure(caplog: pytest.LogCaptureFixture) -> None:
    images = IMAGES.clone()
    images[5] = images[2]
    options: dict[str, Any] = {**SIZES, "proposals": 1, "engine": "plain"}
    zcpt.search("nasbench201", (images, LABELS), preset="paper", **options)
    (warning,) = read_warnings(caplog)
    assert warning.startswith("proxy 'naswot-official' scores all candidates alike in 6 of 6 decisions")
    assert "images that occur twice" in warning


@pytest.mark.parametrize(
    ("importance", "changes", "is_tied"),
    [
        ((1.0, 1.0, 1.0), {}, True),
        ((1.0, 1.0, 2.0), {}, False),
        ((1.0, 1.0, 2.0), {"excluded": ("c",)}, True),
        ((1.0, 1.0, 1.0), {"excluded": ("a", "b")}, False),
        ((1.0, 1.0, 1.0), {"purpose": "survey"}, False),
        ((1.0, 1.0, 1.0), {"purpose": "settle"}, True),
        ((float("inf"),) * 3, {}, True),
    ],
)
def test_a_tie_of_all_that_may_be_kept(importance: Any, changes: dict[str, Any], is_tied: bool) -> None:
    decision = Decision(0, "edge", ("a", "b", "c"), importance, importance, ("a",), 0.0, **changes)
    assert decision.is_tied == is_tied


@pytest.mark.parametrize(
    ("scores", "count"), [([[1.0], [1.0]], 1), ([[1.0], [2.0]], 0), ([[1.0]], 0), ([[3.0, 1.0], [2.0, 2.0]], 1)]
)
@pytest.mark.parametrize("non_finite", ["last", "compare"])
def test_a_tie_in_validation_is_said(
    scores: Any, count: int, non_finite: Any, caplog: pytest.LogCaptureFixture
) -> None:
    find_best(scores, SearchConfig(non_finite=non_finite))
    assert len(read_warnings(caplog)) == count
