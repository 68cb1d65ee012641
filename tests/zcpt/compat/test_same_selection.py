"""Scores and decisions of zcpt.select, against the supernet of space 'darts' and against a plain computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from darts_space.darts import Darts
from tests.zcpt.compat.conftest import THREE_OPERATIONS, SquaredLogits, make_primitives, make_standin
from tests.zcpt.compat.standins import darts, darts_pt
from tests.zcpt.compat.test_adapter import copy_weights, run_own_cells
from tests.zcpt.search.conftest import Decisions
from zcpt.compat.spaces import SearchNetworkSpace
from zcpt.mixture import Mixture
from zcpt.search import FreshSupernets

NETWORKS = {
    "darts": lambda: darts.Network(),
    "darts_pt": lambda: darts_pt.Network(
        {key: [THREE_OPERATIONS] * 14 for key in make_primitives(14, THREE_OPERATIONS)}
    ),
}


def to_double(batch: zcpt.Batch) -> zcpt.Batch:
    return zcpt.Batch(batch.images.double(), batch.labels, batch.seed)


@pytest.mark.parametrize(
    ("name", "options"),
    [("darts", {"order": "random"}), ("darts_pt", {"order": "reverse", "joint": True, "proxy": "squared_logits"})],
)
def test_the_selection_is_that_of_the_darts_supernet_with_the_same_weights(
    name: str, options: dict[str, Any], three_operations: None, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("darts-s3")
    assert list(space.choices[0].candidates) == THREE_OPERATIONS
    supernet = space.supernet(channels=4, layers=3).double()
    model = copy_weights(supernet, NETWORKS[name]().double(), THREE_OPERATIONS)
    monkeypatch.setattr(Darts, "build_supernet", lambda self, shape: supernet)
    # In double: no ReLU is switched by rounding.
    move = FreshSupernets.move_batch
    monkeypatch.setattr(FreshSupernets, "move_batch", lambda self, batch: to_double(move(self, batch)))
    data = pictures.tensors[0][:, :, :4, :4], pictures.tensors[1]
    options = {"seed": 3, "proposals": 1, "batch_size": 5, **options}
    of_search, of_select = Decisions(), Decisions()
    result = zcpt.search(space, data, channels=4, layers=3, callbacks=[of_search], num_classes=10, **options)
    genotype = zcpt.select(model, data, callbacks=[of_select], **options)
    assert repr(genotype) == space.format(result.architecture)
    assert len(of_search.all) == len(of_select.all) == 28 + 2 * (1 + 2 + 3)
    for (_, one), (_, other) in zip(of_search.all, of_select.all, strict=True):
        assert (one.choice, one.candidates, one.kept) == (other.choice, other.candidates, other.kept)
        assert other.scores == pytest.approx(one.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "order"),
    [("darts", "global-op-once"), ("darts_pt", "fixed"), ("pc_darts", "random"), ("pc_darts", "global-op-iter")],
)
def test_every_decision_is_that_of_a_plain_computation_by_the_cells_of_the_network(
    name: str, order: str, three_operations: None, pictures: TensorDataset
) -> None:
    """Removed operations weigh 0 in the matrices that the network's own cells get; nothing else is different."""
    if name == "darts_pt":  # without the operation noise, which differs between forward passes
        torch.manual_seed(5)
        model = darts_pt.Network({key: [THREE_OPERATIONS] * 5 for key in make_primitives(5, THREE_OPERATIONS)}, steps=2)
    else:
        model = make_standin(name)
    images = pictures.tensors[0][:4].double()  # all of them are in every batch
    callback = Decisions()
    genotype = zcpt.select(
        model.double(),
        (images, torch.arange(4)),
        proxy="squared_logits",
        order=order,
        batch_size=4,
        callbacks=[callback],
    )
    model.eval()
    mixture = Mixture.initial(callback.space.choices)
    for _, decision in callback.all:
        choice = mixture.choices[decision.choice]
        scored = mixture.without(choice.name, *(c for c in choice.selectable if c not in decision.candidates))
        with torch.no_grad():
            plain = [
                SquaredLogits.compute(run_own_cells(model, scored.without(choice.name, candidate), images))
                for candidate in decision.candidates
            ]
        assert decision.scores == pytest.approx(plain, rel=1e-5)
        if decision.purpose == "survey":
            continue
        ranked = sorted(decision.candidates, key=lambda candidate: plain[decision.candidates.index(candidate)])
        # The most important operation is kept; of inputs, the least important one is dropped.
        kept = ranked[:1] if choice.keep == 1 else ranked[:-1]
        assert sorted(decision.kept) == sorted(kept)
        mixture = mixture.select(choice.name, kept) if len(kept) == choice.keep else mixture
    (architecture,) = callback.architectures
    assert isinstance(callback.space, SearchNetworkSpace)
    assert genotype == callback.space.to_genotype(architecture)
    for kind, pairs in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        for position, (operation, source) in enumerate(pairs):
            node = 2 + position // 2
            assert mixture.weights[f"{kind}/node{node}/edge{source}"][THREE_OPERATIONS.index(operation)] == 1
            assert mixture.weights.get(f"{kind}/node{node}/inputs", (1,) * node)[source] == 1
