"""A proxy that keeps a diary of what it is shown, and small searches."""

from itertools import islice

import pytest
import torch

import zcpt
from tests.conftest import LAYERS
from zcpt import Callback, Proxy


@zcpt.register_proxy
class Diary(Proxy):
    """Notes what it is shown; prefers what the test tells it to."""

    name, summary, higher_is_better, min_batch = "diary", "", True, 1
    shown: list = []
    value = staticmethod(lambda mixture: 0.0)

    def score(self, net, batch, mixture):
        weights = torch.cat([p.detach().flatten()[:3] for p in islice(net.parameters(), 4)])
        Diary.shown.append((weights.tolist(), batch.images[:, 0, 0, 0].tolist(), mixture))
        return Diary.value(mixture)


@pytest.fixture
def diary(monkeypatch):
    monkeypatch.setattr(Diary, "shown", [])
    return Diary


class Decisions(Callback):
    def __init__(self):
        self.all, self.architectures = [], []

    def on_search_start(self, space, config):
        self.space, self.config = space, config

    def on_decision(self, proposal, decision, replayed):
        self.all.append((proposal, decision))

    def on_proposal(self, proposal, architecture):
        self.architectures.append(architecture)


def searched(space, pictures, **options):
    callback = Decisions()
    settings = {
        "proposals": 1, "batch_size": 4, "validation_batches": 2, "validation_inits": 1,
        "validation_batch_size": 4, "channels": 4, "layers": LAYERS[space.name], **options,
    }  # fmt: skip
    result = zcpt.search(space, pictures, num_classes=10, callbacks=[callback], **settings)
    return result, callback
