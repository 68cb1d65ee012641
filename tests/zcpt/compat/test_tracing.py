"""The fast engine on search networks of other code bases: where it is used, and that it decides alike."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.compat.conftest import capture_state, disturb, make_standin
from tests.zcpt.compat.standins import darts, nasbench201, sgas
from tests.zcpt.compat.test_code_bases import CODE_BASES, IMAGES, SAMPLING, decide_by_sgas, make_adapter
from tests.zcpt.search.conftest import Decisions
from zcpt import ConfigError
from zcpt.compat.inspection import inspect_network
from zcpt.compat.tracing import rebuild_supernet
from zcpt.snapshot import preserve
from zcpt.supernet import Supernet

NETWORKS = {
    **CODE_BASES,
    **SAMPLING,
    "DARTS-PT with noise": lambda: make_standin("darts_pt"),
    "PC-DARTS": lambda: make_standin("pc_darts"),
    "SGAS, half decided": lambda: decide_by_sgas(sgas.Network(steps=2)),
}
PLAIN = {
    "AutoDL-Projects": "not called as modules",
    "GDAS": "not called as modules",
    "DrNAS": "channels",
    "NAS-Bench-201 of DrNAS": "channels",
    "DARTS-PT with noise": "more than weighted sums",
    "PC-DARTS": "between its cells",
}
"""Networks that only the plain engine can score, with a part of the reason."""


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_of_weighted_sums_are_rebuilt_with_the_same_logits(name: str, three_operations: None) -> None:
    torch.manual_seed(5)
    model = NETWORKS[name]()
    before = capture_state(model)
    with preserve(model):
        net = make_adapter(model)
        rebuilt = rebuild_supernet(inspect_network(model), net, zcpt.get_proxy("naswot"), IMAGES)  # type: ignore[arg-type]
        if name in PLAIN:
            assert isinstance(rebuilt, str)
            assert PLAIN[name] in rebuilt
        else:
            assert isinstance(rebuilt, Supernet)
            assert rebuilt.choices == dict(net.choices)
            mixture = net.initial_mixture()
            for choice in list(mixture.choices.values())[::2]:
                mixture = mixture.select(choice.name, choice.selectable[-choice.keep :])
            with torch.no_grad():
                torch.testing.assert_close(rebuilt(IMAGES, mixture), net(IMAGES, mixture))
    assert capture_state(model) == before


@pytest.mark.parametrize("name", ["DARTS", "confopt", "SGAS, half decided", "NAS-Bench-201 of AutoDL-Projects"])
def test_both_engines_decide_alike(
    name: str, three_operations: None, pictures: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(5)
    model, runs = NETWORKS[name](), []
    before = capture_state(model)
    caplog.set_level(logging.INFO, "zcpt")
    for engine in ("plain", "auto"):
        callback = Decisions()
        cell = zcpt.select(model, pictures, engine=engine, batch_size=8, callbacks=[callback])
        runs.append((cell, callback.all))
    assert capture_state(model) == before
    assert "the plain engine scores" not in caplog.text
    (cell, plain), (fast_cell, fast) = runs
    assert cell == fast_cell
    for (_, one), (_, other) in zip(plain, fast, strict=True):
        assert one.kept == other.kept
        assert other.scores == pytest.approx(one.scores, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (
            "PC-DARTS",
            {"engine": "fast"},
            r"engine='fast' cannot be used for Network: it calls .* between its cells\. L",
        ),
        ("PC-DARTS", {"max_memory": 1e9}, r"max_memory, which only the fast engine has, cannot be used for Network"),
        ("DARTS-PT with noise", {"engine": "fast"}, r"it computes more than weighted sums\. Leave it out"),
        ("DARTS", {"engine": "fast", "proxy": "snip"}, r"it computes naswot and naswot-official, not proxy 'snip'"),
        ("double", {"engine": "fast"}, r"its weights are torch\.float64, and the engine computes in float32\. Leave"),
        (
            "NAS-Bench-201 of DARTS-PT",
            {"engine": "fast", "proxy": "naswot-official"},
            r"TinyNetwork: it computes more than weighted sums\. Leave it out",
        ),
    ],
)
def test_the_fast_engine_is_refused_with_the_reason_and_the_model_is_restored(
    make: str, options: dict[str, Any], sentence: str, three_operations: None, pictures: TensorDataset
) -> None:
    model: Any = darts.Network(steps=2).double() if make == "double" else NETWORKS[make]()
    model = disturb(model) if make in ("DARTS", "PC-DARTS") else model
    before = capture_state(model)
    with pytest.raises(ConfigError, match=sentence):
        zcpt.select(model, pictures, batch_size=4, **{"proxy": "naswot", **options})
    assert capture_state(model) == before


class WithAuxiliary(darts.Network):
    """Its auxiliary head has a ReLU, which is counted although the logits do not depend on it."""

    def make_alphas(self) -> None:
        super().make_alphas()
        self.auxiliary = nn.Sequential(nn.ReLU(), nn.Linear(self.classifier.in_features, 10))

    def forward(self, input: Tensor) -> Any:
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            alpha = self.alphas_reduce if cell.reduction else self.alphas_normal
            s0, s1 = s1, cell(s0, s1, torch.softmax(alpha, dim=-1))
        features = self.global_pooling(s1).flatten(1)
        return self.classifier(features), self.auxiliary(features)


def test_a_network_that_counts_other_units_is_scored_as_it_is(
    three_operations: None, pictures: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "zcpt"):
        zcpt.select(WithAuxiliary(steps=1), pictures, batch_size=4)
        zcpt.select(nasbench201.TinyNetwork(), pictures, batch_size=4)
    assert [line for line in caplog.messages if "plain engine" in line] == [
        "the plain engine scores WithAuxiliary: it computes more than weighted sums"
    ]
