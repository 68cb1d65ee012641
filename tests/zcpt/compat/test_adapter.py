"""The adapter against the network's own cells, and against the supernet of space 'darts' with the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zcpt
from tests.zcpt.compat.conftest import make_standin
from tests.zcpt.compat.standins import darts
from zcpt.compat.adapter import SearchNetworkAdapter
from zcpt.compat.inspection import inspect_network
from zcpt.compat.observation import observe_network
from zcpt.compat.spaces import make_space
from zcpt.mixture import Mixture
from zcpt.proxies.naswot import Naswot
from zcpt.supernet import Supernet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
BATCH = zcpt.Batch(IMAGES, torch.arange(4))


def make_adapter(model: Any) -> SearchNetworkAdapter:
    structure = inspect_network(model.eval())
    observation = observe_network(structure, IMAGES)
    initial = Mixture.initial(make_space(structure, observation.available).choices)
    return SearchNetworkAdapter(structure, observation, initial).eval()


def draw_mixture(net: SearchNetworkAdapter | Supernet, seed: int) -> Mixture:
    """Draw a mixture with removed operations, decided edges and removed inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixture = net.initial_mixture()
    for choice in mixture.choices.values():
        picked = [choice.selectable[i] for i in torch.randperm(len(choice.selectable), generator=generator)]
        action = int(torch.randint(3, (), generator=generator))
        if action == 1:
            mixture = mixture.select(choice.name, picked[: choice.keep])
        elif action == 2 and len(picked) > choice.keep:
            mixture = mixture.without(choice.name, picked[0])
    return mixture


def run_own_cells(model: Any, mixture: Mixture, images: Tensor) -> Tensor:
    """Run the model's own cells with a matrix of weights."""
    s0 = s1 = model.stem(images)
    for cell in model.cells:
        kind = "reduce" if cell.reduction else "normal"
        rows: list[tuple[float, ...]] = []
        kept: list[float] = []
        for node in range(2, 2 + model._steps):
            for source in range(node):
                rows.append(mixture.weights[f"{kind}/node{node}/edge{source}"])
                kept.append(mixture.weights.get(f"{kind}/node{node}/inputs", (1.0,) * node)[source])
        weights, present = torch.tensor(rows), torch.tensor(kept)
        if hasattr(model, "betas_normal"):
            betas = getattr(model, f"betas_{kind}").split([2, 3, 4, 5][: model._steps])
            shares = torch.cat([F.softmax(part, dim=-1) for part in betas])
            s0, s1 = s1, cell(s0, s1, weights, shares * present)
        else:
            s0, s1 = s1, cell(s0, s1, weights * present[:, None])
    return model.classifier(s1.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["darts", "pc_darts"])
@torch.no_grad()
def test_a_mixture_weighs_the_operations_of_the_network_itself(name: str, three_operations: None) -> None:
    model = make_standin(name, steps=4)
    net = make_adapter(model)
    for seed in range(3):
        mixture = draw_mixture(net, seed)
        torch.testing.assert_close(net(IMAGES, mixture), run_own_cells(model, mixture, IMAGES))


@torch.no_grad()
def test_removed_operations_are_not_computed_and_shapes_stay(model: Any) -> None:
    net = make_adapter(model)
    ran, shapes = set(), {}
    for name, module in model.named_modules():
        *path, _ = name.split(".") if name else [""]
        if path[-1:] == ["_ops"] and len(path) == 5:
            module.register_forward_hook(lambda *_, name=name: ran.add(name))
        elif path[-1:] == ["_ops"] and len(path) == 3:
            module.register_forward_hook(lambda _, given, output, name=name: shapes.update({name: output.shape}))
    net(IMAGES)
    before, everything = dict(shapes), set(ran)
    mixture = (
        net.initial_mixture().select("reduce/node3/inputs", ("1", "2")).select("reduce/node3/edge1", ("skip_connect",))
    )
    ran.clear()
    net(IMAGES, mixture)
    assert shapes == before
    gone = everything - ran
    kept = len(mixture.choices["reduce/node3/edge1"].candidates)
    reductions = sum(cell.reduction for cell in model.cells)
    assert {name.rsplit("._ops", 1)[0] for name in gone} == {
        f"cells.{index}._ops.{edge}" for index, cell in enumerate(model.cells) if cell.reduction for edge in (2, 3)
    }
    assert len(gone) == reductions * (2 * kept - 1)


def copy_weights(supernet: Supernet, model: Any, names: Sequence[str]) -> Any:
    """Copy the weights of a supernet of space 'darts' to a stand-in, operation by operation."""
    edges = [(node, source) for node in range(2, 6) for source in range(node)]
    for index, cell in enumerate(model.cells):
        sources = [supernet.get_submodule(f"cells.{index}.{name}") for name in ("preprocess0", "preprocess1")]
        targets = [cell.preprocess0, cell.preprocess1]
        for (node, source), mixed in zip(edges, cell._ops, strict=True):
            edge = f"cells.{index}.node{node}.edge{source}"
            sources += [supernet.get_submodule(f"{edge}.{name}") for name in names]
            targets += mixed._ops
        for module, target in zip(sources, targets, strict=True):
            # The same tensors in the same order, under other names.
            values = module.state_dict().values()
            target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))
    model.stem.load_state_dict(supernet.get_submodule("stem.0").state_dict())
    model.classifier.load_state_dict(supernet.get_submodule("classifier.2").state_dict())
    return model


def test_scores_are_those_of_the_darts_supernet_with_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    space = zcpt.get_space("darts")
    names = space.choices[0].candidates
    monkeypatch.setattr(darts, "PRIMITIVES", list(names))
    supernet = space.supernet(channels=4, layers=3).double().eval()
    net = make_adapter(copy_weights(supernet, darts.Network().double(), names))
    assert net.choices == supernet.choices
    mixtures = [supernet.initial_mixture(), *(draw_mixture(supernet, seed) for seed in range(4))]
    batch = zcpt.Batch(IMAGES.double(), torch.arange(4))
    proxy = zcpt.get_proxy("naswot")
    torch.testing.assert_close(
        zcpt.score_mixtures(net, proxy, mixtures, batch),
        zcpt.score_mixtures(supernet, proxy, mixtures, batch),
        rtol=0,
        atol=1e-9,
    )


def test_each_operation_counts_by_its_own_relus(three_operations: None) -> None:
    net = make_adapter(make_standin("darts"))
    proxy = Naswot()

    def units(mixture: Mixture) -> int:
        return int(proxy.compute_kernel(net, IMAGES, mixture)[0, 0])

    start = net.initial_mixture()
    everything = units(start)
    assert units(start.without("normal/node2/edge0", "none")) == everything
    assert units(start.without("normal/node2/edge0", "skip_connect")) == everything
    # One of three cells is normal, at 4 channels of 8x8; a separable convolution has two ReLUs.
    assert units(start.without("normal/node2/edge0", "sep_conv_3x3")) == everything - 2 * 4 * 64
    # Reduction cells: 8x8 to 4x4 with 8 channels, then 4x4 to 2x2 with 16.
    assert units(start.without("reduce/node2/edge1", "sep_conv_3x3")) == everything - 8 * (64 + 16) - 16 * (16 + 4)


def test_random_operations_repeat_and_do_not_depend_on_each_other(three_operations: None) -> None:
    model = make_standin("darts_pt")
    net, proxy = make_adapter(model), zcpt.get_proxy("naswot")
    drawn = {}

    def record(module: nn.Module, given: object, output: Tensor) -> None:
        drawn[module] = output

    noises = [module for module in model.modules() if type(module).__name__ == "Noise"]
    for noise in noises:
        noise.register_forward_hook(record)
    batch = zcpt.Batch(IMAGES, torch.arange(4), seed=11)
    score = zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch)
    first = dict(drawn)
    torch.manual_seed(99)
    assert torch.equal(zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch), score)
    drawn.clear()
    zcpt.score_mixtures(net, proxy, [net.initial_mixture().without("normal/node2/edge0", "noise")], batch)
    assert len(first) == len(noises) == len(drawn) + 1
    assert all(torch.equal(output, first[noise]) for noise, output in drawn.items())
    assert not torch.equal(first[noises[1]], first[noises[2]])


def test_a_network_that_calls_with_keywords_or_returns_two_outputs(three_operations: None) -> None:
    class Other(darts.Network):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input), None

    class MixedOp(darts.MixedOp):
        def forward(self, x: Tensor, weights: Tensor, *, extra: float = 1.0) -> Tensor:
            return extra * super().forward(x, weights)

    class Cell(darts.Cell):
        def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
            states = [self.preprocess0(s0), self.preprocess1(s1)]
            for i in range(self._steps):
                edges = self._ops[sum(range(2, 2 + i)) :]
                states.append(sum(op(x=h, weights=weights[0], extra=1.0) for op, h in zip(edges, states)))  # noqa: B905
            return torch.cat(states[2:], dim=1)

    Other.cell, Other.mixed = Cell, MixedOp
    torch.manual_seed(5)
    model = Other(steps=2)
    with torch.no_grad():
        initial = Mixture.initial(make_space(inspect_network(model)).choices)
        torch.testing.assert_close(make_adapter(model)(IMAGES), run_own_cells(model, initial, IMAGES))


def test_edges_that_are_not_run_are_named(three_operations: None) -> None:
    class Lazy(darts.Cell):
        def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
            return torch.cat([self.preprocess1(s1)] * 2, dim=1)

    model: Any = darts.Network(layers=5, steps=2)  # Any: modules are replaced by ones of other classes
    model.cells[0].__class__ = Lazy
    with pytest.raises(zcpt.ConfigError, match=r"does not run cells\.0\._ops\.0"):
        make_adapter(model)
    model = darts.Network(steps=2)
    model.global_pooling = nn.Identity()
    model.classifier = nn.Identity()
    model.forward = model.stem.forward
    structure = inspect_network(model.eval())
    with pytest.raises(zcpt.ConfigError, match="does not return logits"):
        observe_network(structure, IMAGES)
