"""The benchmark of the engines: its page, its perturbations, and the naive engine that it compares with."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import zcpt
from benchmarks.engine import RESULT, PerturbationRecorder, build_supernet, make_random_batch
from benchmarks.engine_report import render_page
from benchmarks.naive import NaiveEngine
from zcpt.proxies import Naswot


def test_the_page_comes_from_the_results() -> None:
    assert render_page(json.loads(RESULT.read_text())) == RESULT.with_suffix(".md").read_text()


@pytest.mark.parametrize("name", ["nasbench201", "nasbench-macro"])
def test_the_naive_engine_gives_the_scores_of_the_plain_one_on_the_recorded_perturbations(name: str) -> None:
    space, batch = zcpt.get_space(name), make_random_batch(4, 16)
    settings: dict[str, Any] = {"channels": 4, "layers": space.small_size.layers}
    net = build_supernet(space, torch.device("cpu"), image_size=(16, 16), **settings)
    recorder = PerturbationRecorder(space)
    settings |= {"proposals": 1, "batch_size": 4, "num_classes": 10}
    result = zcpt.search(space, (batch.images, batch.labels), callbacks=[recorder], **settings)
    assert {choice: recorder.remaining[choice] for choice in result.architecture.kept} == result.architecture.kept
    mixtures = [perturbations[0] for perturbations in recorder.perturbations]
    expected = zcpt.score_mixtures(net, Naswot(), mixtures, batch, engine="plain").tolist()
    assert NaiveEngine(net).score_mixtures(mixtures, batch) == pytest.approx(expected, abs=1e-2)
