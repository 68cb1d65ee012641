"""A proxy that keeps a diary of what it is shown, and small searches."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import LAYERS
from zcpt import Callback, Proxy
from zcpt.space import SearchSpace


@zcpt.register_proxy
class Diary(Proxy):
    """Notes what it is shown; prefers what the test tells it to."""

    name, summary, higher_is_better, min_batch = "diary", "", True, 1
    shown: list = []
    value = staticmethod(lambda mixture: 0.0)

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
        weights = torch.cat([p.detach().flatten()[:3] for p in islice(net.parameters(), 4)])
        Diary.shown.append((weights.tolist(), batch.images[:, 0, 0, 0].tolist(), mixture))
        return Diary.value(mixture)


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Diary, "shown", [])
    return Diary


class Decisions(Callback):
    def __init__(self) -> None:
        self.all, self.architectures = [], []

    def on_search_start(self, space: SearchSpace, config: Any) -> None:
        self.space, self.config = space, config

    def on_decision(self, proposal: Any, decision: Any, replayed: Any) -> None:
        self.all.append((proposal, decision))

    def on_proposal(self, proposal: Any, architecture: Any) -> None:
        self.architectures.append(architecture)


def searched(space: SearchSpace, pictures: TensorDataset, **options: Any) -> Any:
    callback = Decisions()
    settings = {
        "proposals": 1, "batch_size": 4, "validation_batches": 2, "validation_inits": 1,
        "validation_batch_size": 4, "channels": 4, "layers": LAYERS[space.name], **options,
    }  # fmt: skip
    result = zcpt.search(space, pictures, num_classes=10, callbacks=[callback], **settings)
    return result, callback
