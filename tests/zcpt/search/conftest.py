"""A proxy that records what it scores, and small searches."""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar

import pytest
import torch

import zcpt
from tests.conftest import LAYERS, TRUSTED
from zcpt import Architecture, Callback, Proxy
from zcpt.search import Decision, SearchConfig, SearchResult
from zcpt.space import SearchSpace


@zcpt.register_proxy
class Diary(Proxy):
    """Records weights, images and mixture of every score; its value is set by the test."""

    name, summary, higher_is_better, min_batch = "diary", "", True, 1
    shown: ClassVar[list[Any]] = []
    value = staticmethod(lambda mixture: 0.0)

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
        weights = torch.cat([p.detach().flatten()[:3] for p in islice(net.parameters(), 4)])
        Diary.shown.append((weights.tolist(), batch.images[:, 0, 0, 0].tolist(), mixture))
        return Diary.value(mixture)


TRUSTED.add(Diary)


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Diary, "shown", [])
    return Diary


class Decisions(Callback):
    def __init__(self) -> None:
        self.all: list[tuple[int, Decision]] = []
        self.architectures: list[Architecture] = []

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self.space, self.config = space, config

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self.all.append((proposal, decision))

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self.architectures.append(architecture)


def run_small_search(space: SearchSpace, images: object, **options: Any) -> tuple[SearchResult, Decisions]:
    recorder = Decisions()
    settings: dict[str, Any] = {
        "proposals": 1, "batch_size": 4, "validation_batches": 2, "validation_inits": 1,
        "validation_batch_size": 4, "channels": 4, "layers": LAYERS[space.name], **options,
    }  # fmt: skip
    result = zcpt.search(space, images, num_classes=10, callbacks=[recorder], **settings)
    return result, recorder
