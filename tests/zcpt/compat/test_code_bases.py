"""zcpt.select on stand-ins of more code bases: layouts, pruned and decided operations, and outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import zcpt
from darts_space.genotype import KINDS
from tests.zcpt.compat.conftest import THREE_OPERATIONS, capture_state, make_primitives
from tests.zcpt.compat.standins import confopt, darts, darts_pt, drnas, nasbench201, pdarts, pt_darts, sgas
from tests.zcpt.search.conftest import Decisions
from zcpt import ConfigError
from zcpt.compat.adapter import SearchNetworkAdapter
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import inspect_network
from zcpt.compat.logits import get_part
from zcpt.compat.observation import observe_network
from zcpt.compat.operation_names import compute_shares, read_alphas
from zcpt.compat.spaces import make_space
from zcpt.compat.structure import Structure
from zcpt.mixture import Mixture

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
ALL_ON = [[True] * len(pdarts.PRIMITIVES)] * 5
FAST: dict[str, Any] = {"proxy": "hashed", "batch_size": 4}


def make_darts_pt() -> Any:
    return darts_pt.Network(make_primitives(5, ["none", *THREE_OPERATIONS[1:]]), steps=2)


CODE_BASES: dict[str, Callable[[], Any]] = {
    "DARTS": lambda: darts.Network(steps=2),
    "P-DARTS": lambda: pdarts.Network(ALL_ON, ALL_ON, steps=2),
    "pt.darts": lambda: pt_darts.SearchCNNController(),
    "SGAS": lambda: sgas.Network(steps=2),
    "confopt": lambda: confopt.SearchSpace(steps=2),
    "AutoDL-Projects": lambda: confopt.NasNetwork(steps=2),
    "NAS-Bench-201 of DARTS-PT": lambda: nasbench201.TinyNetwork(),
    "NAS-Bench-201 of AutoDL-Projects": lambda: nasbench201.AutoDL(),
    "NAS-Bench-201 of confopt": lambda: nasbench201.Confopt(),
    "NAS-Bench-201 of 3 nodes": lambda: nasbench201.TinyNetwork(max_nodes=3),
}
SAMPLING: dict[str, Callable[[], Any]] = {
    "DrNAS": lambda: drnas.Network(channels=8, steps=2),
    "NAS-Bench-201 of DrNAS": lambda: drnas.TinyNetwork(),
    "GDAS": lambda: nasbench201.Gdas(),
}


@pytest.fixture(params=[*CODE_BASES, *SAMPLING])
def network(request: pytest.FixtureRequest, three_operations: None) -> Any:
    torch.manual_seed(5)
    return {**CODE_BASES, **SAMPLING}[request.param]()


def list_alphas(model: nn.Module) -> list[Tensor]:
    """Return the architecture parameters of any stand-in."""
    structure = inspect_network(model)
    kinds = [pattern.format(kind) for pattern in ("alphas_{}", "alpha_{}", "arch_{}_parameters") for kind in KINDS]
    names = [*kinds, "_arch_parameters", "arch_parameters"] if structure.form == "nasbench201" else kinds
    found = [getattr(owner, name) for owner in structure.owners for name in names if hasattr(owner, name)]
    return [tensor for value in found for tensor in _flatten(value)]


def _flatten(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    is_method = callable(value) and not isinstance(value, nn.Module)
    return [] if is_method else [tensor for part in value for tensor in _flatten(part)]


def make_adapter(model: nn.Module) -> SearchNetworkAdapter:
    structure = inspect_network(model.eval())
    observation = observe_network(structure, IMAGES)
    space = make_space(structure, observation.available)
    return SearchNetworkAdapter(structure, observation, Mixture.initial(space.choices)).eval()


@pytest.mark.parametrize("name", list(CODE_BASES))
@torch.no_grad()
def test_a_mixture_gives_what_the_network_itself_computes_with_these_weights(name: str, three_operations: None) -> None:
    torch.manual_seed(5)
    model = CODE_BASES[name]().double()
    images = IMAGES.double()
    net = make_adapter(model)
    structure = inspect_network(model)
    # A weight that is exactly 0 is a removed operation: the softmax of -inf.
    for alpha in list_alphas(model):
        alpha.normal_()
        alpha[torch.rand(alpha.shape) < 0.2] = -torch.inf
        alpha.view(-1, alpha.shape[-1])[:, 1] = 0.3
    rows = read_alphas(structure.owners, structure.candidates)
    weights = dict(net.initial_mixture().weights)
    operations = [name for name in weights if not name.endswith("/inputs")]
    weights.update(zip(operations, (compute_shares(row) for each in rows.values() for row in each), strict=True))
    logits = net(images, replace(net.initial_mixture(), weights=weights))
    torch.testing.assert_close(logits, get_part(model(images), net._observation.logits), rtol=1e-6, atol=1e-7)
    assert logits.shape == (4, 10)
    assert not torch.allclose(logits, net(images))


def test_every_code_base_is_selected_from_and_left_unchanged(network: Any, pictures: TensorDataset) -> None:
    structure = inspect_network(network)
    before = capture_state(network)
    callback = Decisions()
    cell = zcpt.select(network, pictures, callbacks=[callback], **FAST)
    assert capture_state(network) == before
    assert network.training
    if structure.form == "nasbench201":
        assert isinstance(cell, Structure)
        assert cell.node_num == len(cell) == network.max_nodes
        kept = [operation for node in cell.nodes for operation, _ in node]
        assert set(kept) <= set(nasbench201.OP_NAMES)
    else:
        assert isinstance(cell, Genotype)
        pairs: Any = [*cell.normal, *cell.reduce]
        pairs = [pair for node in pairs for pair in node] if structure.is_nested else pairs
        assert len(pairs) == 8
        assert {operation for operation, _ in pairs} <= set(structure.candidates["normal"][0]) - {"none"}
    # No operation is struck, so all of an edge are compared.
    first = callback.all[0][1]
    assert len(first.candidates) == len(structure.candidates[structure.kinds[0]][0]) - (structure.form == "darts")


def test_pt_darts_gets_a_list_for_each_node(pictures: TensorDataset) -> None:
    genotype = zcpt.select(pt_darts.SearchCNNController(), pictures, **FAST)
    assert [source for _, source in genotype.normal[0]] == [0, 1]
    assert [len(node) for node in (*genotype.normal, *genotype.reduce)] == [2] * 4
    assert genotype.normal_concat == range(2, 4)


def test_nas_bench_201_gets_a_structure_as_in_its_code(pictures: TensorDataset) -> None:
    cell = zcpt.select(nasbench201.TinyNetwork(), pictures, **FAST)
    text = cell.tostr()
    assert repr(cell) == f"Structure(4 nodes with {text})"
    space = zcpt.get_space("nasbench201")
    assert space.format(space.parse(text)) == space.format(space.parse(cell)) == text
    assert [source for _, source in cell[2]] == [0, 1, 2]
    assert cell == Structure(cell.nodes) != Structure(cell.nodes[:2])
    assert hash(cell) == hash(Structure(cell.nodes))


def test_networks_of_nas_bench_201_are_validated_as_discrete_networks(
    pictures: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: dict[str, Any] = {"validation_batches": 1, "validation_batch_size": 4, "validation_inits": 1, **FAST}
    callback = Decisions()
    cell = zcpt.select(nasbench201.AutoDL(layers=2), pictures, proposals=2, callbacks=[callback], **sizes)
    assert (callback.config.channels, callback.config.layers) == (4, 2)
    assert repr(cell) in [callback.space.format(each) for each in callback.architectures]
    for model, problem in {
        nasbench201.TinyNetwork(max_nodes=3): "its cells have 4 nodes, and these have 3",
        nasbench201.TinyNetwork(search_space=["skip_connect", "avg_pool_3x3", "nor_conv_5x5"]): "nor_conv_5x5",
    }.items():
        with pytest.raises(ConfigError, match=rf"discrete networks of space 'nasbench201'.*{problem}.*use proposals=1"):
            zcpt.select(model, pictures, proposals=2, **sizes)
    model = nasbench201.TinyNetwork()
    model.cells.append(nasbench201.SearchCell(16, 4, nasbench201.OP_NAMES))
    with pytest.raises(ConfigError, match="three stages of equally many cells"):
        zcpt.select(model, pictures, preset="paper", proposals=2)


def test_convolutions_are_fed_zeros_where_the_published_search_does() -> None:
    net = make_adapter(nasbench201.TinyNetwork())
    mixture = net.initial_mixture().without("node1/edge0", "nor_conv_3x3", "avg_pool_3x3")
    seen: list[float] = []
    (edge, *_) = inspect_network(net.network).edges
    for operation in (edge.operations[3], edge.operations[4]):
        operation.register_forward_pre_hook(lambda module, given: seen.append(given[0].abs().sum().item()))
    with torch.no_grad():
        expected = net(IMAGES, mixture)
        assert seen == []
        torch.testing.assert_close(net(IMAGES, replace(mixture, feed_zeros=True)), expected)
    assert seen == [0.0]


def prune(model: Any) -> Any:
    model.pruning(2)
    return model


def strike_by_alpha(model: Any) -> Any:
    """Give the first operation of each edge a weight of exactly 0."""
    with torch.no_grad():
        for alpha in list_alphas(model):
            alpha.view(-1, alpha.shape[-1])[:, 1] = -torch.inf
    return model


def decide_by_sgas(model: Any) -> Any:
    model.normal_selected_idxs[:] = torch.tensor([1, 2, -1, 0, 2])
    model.reduce_selected_idxs[:] = torch.tensor([-1, -1, 1, -1, -1])
    return model


class Projected(darts_pt.Network):
    """Edge 1 of normal cells is decided, and edge 2 is dropped, as by DARTS-PT's ``project_op``, ``project_edge``."""

    def get_softmax(self) -> dict[str, Tensor]:
        weights = super().get_softmax()
        fixed = torch.ones(5, 1), torch.zeros(5, 3)
        fixed[0][1:3], fixed[1][1, 2] = 0, 1
        return {**weights, "normal": weights["normal"] * fixed[0] + fixed[1]}


STRUCK: dict[str, tuple[Callable[[], Any], dict[str, set[str]]]] = {
    "DrNAS": (lambda: prune(drnas.Network(channels=8, steps=2)), {}),
    "NAS-Bench-201 of DrNAS": (lambda: prune(drnas.TinyNetwork()), {}),
    "a weight of 0": (lambda: strike_by_alpha(darts.Network(steps=2)), {}),
    "a weight of 0 in P-DARTS": (lambda: strike_by_alpha(pdarts.Network(ALL_ON, ALL_ON, steps=2)), {}),
    "a weight of 0 in pt.darts": (lambda: strike_by_alpha(pt_darts.SearchCNNController()), {}),
    "a weight of 0 in confopt": (lambda: strike_by_alpha(confopt.Network(steps=2)), {}),
    "a weight of 0 in AutoDL-Projects": (lambda: strike_by_alpha(confopt.NasNetwork(steps=2)), {}),
    "a weight of 0 in NAS-Bench-201": (lambda: strike_by_alpha(nasbench201.AutoDL()), {}),
    "SGAS": (
        lambda: decide_by_sgas(sgas.Network(steps=2)),
        {
            "normal/node2/edge0": {"skip_connect"},
            "normal/node2/edge1": {"sep_conv_3x3"},
            "normal/node3/edge1": set(),
            "normal/node3/edge2": {"sep_conv_3x3"},
            "normal/node3/inputs": {"0", "2"},
            "reduce/node3/edge0": {"skip_connect"},
        },
    ),
    "DARTS-PT": (
        lambda: Projected(make_primitives(5, THREE_OPERATIONS), steps=2),
        {"normal/node2/edge1": {"sep_conv_3x3"}, "normal/node3/edge0": set(), "normal/node3/inputs": {"1", "2"}},
    ),
}


BOTH_SHARES = ("a weight of 0", "SGAS")
"""Networks that are tried with both shares: one whose alpha has weights of 0, and one that decides beside its alpha."""


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        *((name, "equal") for name in STRUCK),
        *(pytest.param(name, "alpha", marks=[pytest.mark.slow] * (name not in BOTH_SHARES)) for name in STRUCK),
    ],
)
def test_operations_that_the_network_itself_weighs_with_0_are_no_candidates(
    name: str, shares: Any, three_operations: None, pictures: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(5)
    model, expected = STRUCK[name][0](), STRUCK[name][1]
    if name == "DARTS-PT":  # the reduction cells have one operation less, and so has their alpha
        model.alphas_reduce = model.alphas_reduce[:, 1:].clone().requires_grad_()
    own = own_weights(model)
    callback = Decisions()
    with caplog.at_level(logging.INFO, "zcpt"):
        zcpt.select(model, pictures, callbacks=[callback], shares=shares, **FAST)
    assert "they are no candidates" in caplog.text
    (architecture,) = callback.architectures
    choices = {choice.name: choice for choice in callback.space.choices}
    for choice, names in expected.items():
        assert set(choices[choice].candidates if choice in choices else ()) == names
    for choice, (kept, *_) in architecture.kept.items():
        if choice in own:
            present, row = own[choice]
            assert row[present.index(kept)] != 0
    for _, decision in callback.all:
        if decision.choice in own:
            present, row = own[decision.choice]
            assert all(row[present.index(candidate)] != 0 for candidate in decision.candidates)


def own_weights(model: Any) -> dict[str, tuple[tuple[str, ...], list[float]]]:
    """Return names and weights of each edge, read where each stand-in computes them."""
    structure = inspect_network(model)
    edges = {edge.operation: edge.names for edge in structure.edges}
    if isinstance(model, sgas.Network):
        return {}
    if isinstance(model, Projected):
        shares = model.get_softmax()
        rows = [*shares["normal"], *shares["reduce"]]
    elif isinstance(model, drnas.Network):
        rows = [*drnas.process(model.alphas_normal, model.mask_normal)]
        rows += [*drnas.process(model.alphas_reduce, model.mask_reduce)]
    elif structure.form == "nasbench201":
        rows = [*model.compute_weights()]
    else:
        rows = [torch.softmax(row, -1) for alpha in list_alphas(model) for row in alpha.view(-1, alpha.shape[-1])]
    order = sorted(edges, key=lambda name: name.split("/")[0] == "reduce")
    return {name: (edges[name], row.tolist()) for name, row in zip(order, rows, strict=True)}


def test_sampled_operations_are_not_struck(pictures: TensorDataset) -> None:
    class Sampled(darts.Network):
        """It draws one operation for each edge in every forward pass, as confopt's sampler of GDAS."""

        def make_alphas(self) -> None:
            super().make_alphas()
            self.softmax = torch.nn.functional.gumbel_softmax

        def forward(self, input: Tensor) -> Tensor:
            s0 = s1 = self.stem(input)
            for cell in self.cells:
                alpha = self.alphas_reduce if cell.reduction else self.alphas_normal
                s0, s1 = s1, cell(s0, s1, self.softmax(alpha, hard=True))
            return self.classifier(self.global_pooling(s1).flatten(1))

    callback = Decisions()
    zcpt.select(Sampled(steps=1), pictures, callbacks=[callback], **FAST)
    assert {len(decision.candidates) for _, decision in callback.all} == {7}


def test_a_network_of_which_too_little_is_left_is_refused(three_operations: None, pictures: TensorDataset) -> None:
    model = sgas.Network(steps=2)
    model.normal_selected_idxs[:] = torch.tensor([1, 2, 0, 0, 2])
    with pytest.raises(
        ConfigError, match=r"node3 of its normal cells needs 2 inputs with an operation, and has 1\. Pa"
    ):
        zcpt.select(model, pictures, **FAST)
    other: Any = nasbench201.TinyNetwork()
    other.compute_weights = lambda: torch.zeros(6, 5)
    with pytest.raises(ConfigError, match=r"itself weighs all operations of node1/edge0 with 0: pass"):
        zcpt.select(other, pictures, **FAST)


def test_the_names_of_pruned_edges_are_those_that_switches_leave(pictures: TensorDataset) -> None:
    normal = [[True, False, True, True]] * 5
    reduce = [[False, True, True, True]] * 5
    model: Any = pdarts.Network(normal, reduce, steps=2)
    with pytest.raises(ConfigError, match=r"names of the 3 operations of cells\.1\.cell_ops\.0.*primitives="):
        zcpt.select(model, pictures, **FAST)
    names = [name for name, is_on in zip(pdarts.PRIMITIVES, reduce[0], strict=True) if is_on]
    model.switches_reduce = reduce
    callback = Decisions()
    zcpt.select(model, pictures, callbacks=[callback], **FAST)
    choices = {choice.name: choice for choice in callback.space.choices}
    assert choices["reduce/node3/edge1"].candidates == tuple(names)
    assert choices["normal/node2/edge0"].candidates == ("none", "sep_conv_3x3", "dil_conv_3x3")
    del model.switches_reduce
    kept = [name for name, is_on in zip(pdarts.PRIMITIVES, normal[0], strict=True) if is_on]
    given = {"normal": kept, "reduce": names}
    zcpt.select(model, pictures, primitives=given, **FAST)


class Output(NamedTuple):
    features: Tensor
    logits: Tensor


class Returning(darts.Network):
    """Returns something made of features [B, C], logits and those of an auxiliary head."""

    result: Callable[[Tensor, Tensor, Tensor], Any]

    def make_alphas(self) -> None:
        super().make_alphas()
        self.auxiliary = nn.Linear(self.classifier.in_features, 10)

    def forward(self, input: Tensor) -> Any:
        pooled: list[Tensor] = []
        hook = self.global_pooling.register_forward_hook(lambda module, given, output: pooled.append(output))
        logits = super().forward(input)
        hook.remove()
        features = pooled[0].flatten(1)
        return type(self).result(features, logits, self.auxiliary(features))


OUTPUTS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "logits": lambda features, logits, other: logits,
    "logits, auxiliary": lambda features, logits, other: (logits, other),
    "logits, None": lambda features, logits, other: (logits, None),
    "features, logits": lambda features, logits, other: (features, logits),
    "features, logits, auxiliary": lambda features, logits, other: [features, logits, other],
    "maps, logits": lambda features, logits, other: (features[:, :, None, None], logits),
    "loss, logits": lambda features, logits, other: (logits.sum(), logits),
    "logits, features": lambda features, logits, other: (logits, features),
    "named tuple": lambda features, logits, other: Output(features, logits),
    "mapping": lambda features, logits, other: {"features": features, "logits": logits},
    "mapping without the name": lambda features, logits, other: {"out": features, "scores": logits},
    "one in a list": lambda features, logits, other: [logits],
}
NO_OUTPUTS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "a tuple with tensors {0: [2, 16], 1: [2, 10]}": lambda features, logits, other: (features * 1, logits * 1),
    "a tensor of shape [2, 16, 1, 1]": lambda features, logits, other: features[:, :, None, None],
    "a NoneType": lambda features, logits, other: None,
    "a tuple": lambda features, logits, other: (),
    "a str": lambda features, logits, other: "logits",
    "a tensor of shape []": lambda features, logits, other: logits.sum(),
    "a dict with tensors {'logits': [2, 5, 2]}": lambda features, logits, other: {"logits": logits.view(2, 5, 2)},
    "a tensor of shape [2, 10]": lambda features, logits, other: logits.argmax(1, keepdim=True).expand(-1, 10),
}


@pytest.mark.parametrize("name", list(OUTPUTS))
@torch.no_grad()
def test_the_logits_are_found_in_what_a_network_returns(name: str, three_operations: None) -> None:
    torch.manual_seed(5)
    model = type("Network", (Returning,), {"result": staticmethod(OUTPUTS[name])})(steps=1)
    net = make_adapter(model)
    plain = model(IMAGES) if name == "logits" else None
    logits = net(IMAGES)
    assert net.num_classes == 10
    seen: list[Tensor] = []
    model.classifier.register_forward_hook(lambda module, given, output: seen.append(output))
    torch.testing.assert_close(net(IMAGES), logits)
    assert torch.equal(seen[0], logits)
    assert plain is None or plain.shape == logits.shape


@pytest.mark.parametrize("described", list(NO_OUTPUTS))
def test_outputs_without_known_logits_are_refused(
    described: str, three_operations: None, pictures: TensorDataset
) -> None:
    model = type("Network", (Returning,), {"result": staticmethod(NO_OUTPUTS[described])})(steps=1)
    with pytest.raises(ConfigError) as refusal:
        zcpt.select(model, pictures, **FAST)
    assert f"does not return logits [images, classes] but {described}: let it" in str(refusal.value)


def test_architecture_parameters_that_cannot_be_read_are_named(pictures: TensorDataset) -> None:
    def fail() -> None:
        raise KeyError("alpha")

    model: Any = nasbench201.TinyNetwork()
    del model._arch_parameters
    model.compute_weights = lambda: torch.full((6, 5), 0.2)
    for value, problem in (
        (fail, r"'arch_parameters\(\)' of the network, which failed"),
        (3, "arch_parameters is int"),
    ):
        model.arch_parameters = value
        with pytest.raises(ConfigError, match=problem + ".*leave shares out"):
            zcpt.select(model, pictures, shares="alpha", **FAST)


class WithSoftmax(darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return super().forward(x, torch.softmax(weights, dim=-1))


class Normalised(darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return super().forward(x, weights / weights.sum())


class Sigmoid(darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return super().forward(x, torch.sigmoid(weights))


class Counting(darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weights[i] * self._ops[i](x) for i in range(3))


class Asserting(darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        assert len(weights) == 3
        return super().forward(x, weights)


class Variadic(darts.MixedOp):
    def forward(self, x: Tensor, *weights: Any) -> Tensor:
        return super().forward(x, *weights)


MIXED: dict[type[nn.Module], str] = {
    WithSoftmax: r"forward of cells\.0\._ops\.0 \(WithSoftmax\) does not add up its operations by the weights as they",
    Normalised: r"forward of cells\.0\._ops\.0 \(Normalised\) does not add up its operations by the weights as they",
    Sigmoid: r"forward of cells\.0\._ops\.0 \(Sigmoid\) does not add up its operations by the weights as they",
    Counting: r"with the last operation of each edge left out, failed \(IndexError: .*any number of operations",
    Asserting: r"with the last operation of each edge left out, failed \(AssertionError: .*any number of operations",
    Variadic: r"the forward of cells\.0\._ops\.0 \(Variadic\) takes no weights",
}


@pytest.mark.parametrize("mixed", list(MIXED), ids=lambda mixed: mixed.__name__)
def test_mixed_operations_that_a_mixture_cannot_steer_are_refused(
    mixed: type[nn.Module], three_operations: None, pictures: TensorDataset
) -> None:
    model = type("Network", (darts.Network,), {"mixed": mixed})(steps=1)
    with pytest.raises(ConfigError, match=MIXED[mixed]):
        zcpt.select(model, pictures, **FAST)
