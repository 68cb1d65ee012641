"""A score depends only on weights, mixture and batch, and scoring leaves the network unchanged."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import MORE, random_architecture, tiny_network_config
from tests.zcpt.scoring.fast.conftest import draw_mixture
from tests.zcpt.search.conftest import run_small_search
from zcpt import Batch, ConfigError, Mixture, ProxyError, Supernet
from zcpt.proxies.naswot import Naswot, log_determinant
from zcpt.scoring.evaluator import seed_stochastic_modules
from zcpt.scoring.fast import FastEvaluator
from zcpt.space import SearchSpace

NASWOT = Naswot()


def copy_state(net: Any) -> Any:
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in net.modules()]
    return state, flags, hooks


def is_same_state(one: Any, other: Any) -> Any:
    return one[1:] == other[1:] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.few_spaces(*MORE)
@pytest.mark.parametrize("proxy", ["naswot", "naswot-official"])  # others: test_perturbation.py
def test_scoring_leaves_a_supernet_unchanged_bit_for_bit(space: SearchSpace, batch: zcpt.Batch, proxy: str) -> None:
    net = space.build_supernet(tiny_network_config(space)).train()
    next(iter(net.children())).eval()  # modules keep their mode, training or evaluation
    before = copy_state(net)
    removed = [net.initial_mixture().without(space.choices[0].name, c) for c in space.choices[0].candidates]
    zcpt.score_mixtures(net, zcpt.get_proxy(proxy), removed, batch)
    assert is_same_state(copy_state(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_failing_call_leaves_a_supernet_unchanged(space: SearchSpace, batch: zcpt.Batch) -> None:
    net = space.build_supernet(tiny_network_config(space)).train()
    before = copy_state(net)
    empty = net.initial_mixture().without(space.choices[0].name, *space.choices[0].candidates)
    with pytest.raises(zcpt.SpaceError):
        zcpt.score_mixtures(net, NASWOT, [empty], batch)
    assert is_same_state(copy_state(net), before)


@pytest.mark.few_spaces
def test_scores_do_not_depend_on_the_order_or_number_of_mixtures(space: SearchSpace, batch: zcpt.Batch) -> None:
    net = space.build_supernet(tiny_network_config(space))
    choice = space.choices[-1]
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.candidates]
    scores = zcpt.score_mixtures(net, NASWOT, removed, batch)
    assert scores.dtype == torch.float64
    assert scores.isfinite().all()
    assert torch.equal(zcpt.score_mixtures(net, NASWOT, removed[::-1], batch), scores.flip(0))
    assert torch.equal(torch.cat([zcpt.score_mixtures(net, NASWOT, [m], batch) for m in removed]), scores)


@pytest.mark.few_spaces(*MORE)
def test_a_supernet_in_training_mode_is_scored_in_evaluation_mode(space: SearchSpace, batch: zcpt.Batch) -> None:
    net = space.build_supernet(tiny_network_config(space))
    twin = copy.deepcopy(net).eval()
    assert torch.equal(
        zcpt.score_mixtures(net.train(), NASWOT, [net.initial_mixture()], batch),
        zcpt.score_mixtures(twin, NASWOT, [net.initial_mixture()], batch),
    )


def test_inference_mode_of_the_caller_changes_no_score(batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    expected = zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch)
    with torch.inference_mode():
        assert torch.equal(zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch), expected)


@pytest.mark.few_spaces(*MORE)
def test_the_memory_layout_changes_no_kernel(space: SearchSpace, batch: zcpt.Batch) -> None:
    net = space.build_supernet(tiny_network_config(space)).eval()
    with seed_stochastic_modules(net.modules(), 0):
        plain = NASWOT.compute_kernel(net, batch.images, net.initial_mixture())
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        other = NASWOT.compute_kernel(net, batch.images.to(memory_format=torch.channels_last), net.initial_mixture())
    # Sums are added up in another order, so the sign of a unit close to 0 may change: at most one in a million. In the
    # long chain of 'proxyless' that changes later units as well.
    share = 1e-4 if space.name == "proxyless" else 1e-6
    assert (plain - other).abs().max() <= 1 + plain[0, 0] * share


def test_discrete_networks_are_scored_by_the_same_function(space: SearchSpace, batch: zcpt.Batch) -> None:
    network = space.build_network(random_architecture(space, 0), tiny_network_config(space))
    before = copy_state(network)
    score = zcpt.score_mixtures(network, NASWOT, [None], batch)
    assert score.shape == (1,)
    assert score.isfinite().all()
    assert is_same_state(copy_state(network), before)


def test_one_image_is_refused_and_the_message_gives_a_batch_size(space: SearchSpace, batch: zcpt.Batch) -> None:
    net = space.build_supernet(tiny_network_config(space))
    with pytest.raises(ProxyError, match="on 1 image: use a batch size of at least 2, such as --batch-size 64"):
        zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], Batch(batch.images[:1], batch.labels[:1]))


class WrappedSupernet(nn.Module):
    """A supernet that is no subclass of ``zcpt.Supernet``."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Any, mixture: Any = None) -> Any:
        return self.net(images, mixture)


class OverridingSupernet(Supernet):
    """A supernet that overrides the forward pass."""

    def forward(self, images: Any, mixture: Any = None) -> Any:
        return super().forward(images + 1, mixture)


def add_hook(net: Any) -> Any:
    net.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1, *inputs[1:]))
    return net


def override_forward(net: Any) -> Any:
    net.__class__ = OverridingSupernet
    return net


@pytest.mark.parametrize("change", [WrappedSupernet, add_hook, override_forward])
def test_supernets_that_cannot_be_traced_use_the_plain_engine(change: Any, batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    choice = space.choices[0]
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.candidates]
    net = change(net)
    expected = zcpt.score_mixtures(net, NASWOT, removed, batch, engine="plain")
    assert torch.equal(zcpt.score_mixtures(net, NASWOT, removed, batch), expected)
    with pytest.raises(ConfigError, match=f"--engine fast cannot be used: {type(net).__name__} "):
        zcpt.score_mixtures(net, NASWOT, removed, batch, engine="fast")
    with pytest.raises(ConfigError, match="only the fast engine supports --max-memory"):
        zcpt.score_mixtures(net, NASWOT, removed, batch, max_memory=1e9)


@pytest.mark.parametrize("name", ["naswot-batch", "snip"])
def test_other_proxies_use_the_plain_engine(name: str, batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net, proxy = space.build_supernet(tiny_network_config(space)), zcpt.get_proxy(name)
    plain = zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch, engine="plain")
    assert torch.equal(zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch), plain)
    with pytest.raises(ConfigError, match=f"naswot and naswot-official, not proxy '{name}'"):
        zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch, engine="fast")


def test_wrong_options_are_refused(batch: zcpt.Batch) -> None:
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    for options, message in (
        ({"engine": "fats"}, "unknown value of --engine 'fats': did you mean 'fast'?"),
        ({"precision": "fp16"}, "unknown value of --precision 'fp16'"),
        ({"max_memory": -1}, "--max-memory -1 must not be negative"),
    ):
        with pytest.raises(ConfigError, match=message):
            zcpt.score_mixtures(net, NASWOT, [None], batch, **options)


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_changed_weights_change_the_score(engine: Any, batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    first = zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch, engine=engine)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(-1)
    second = zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch, engine=engine)
    assert abs(first - second) > 1e-3
    assert torch.allclose(
        second, zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch, engine="plain"), rtol=0, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["naswot", "naswot-official"])
def test_the_engines_agree_at_the_size_of_a_search(space: SearchSpace, proxy: Any) -> None:
    """Compare the kernels of twenty draws of weights, batch and mixture."""
    differing = 0
    proxy, size, pairs = zcpt.get_proxy(proxy), getattr(space, "small_size", space.search_size), 0
    for draw in range(20):
        torch.manual_seed(draw)
        side = 32 if draw % 4 == 0 else 16
        network_config = tiny_network_config(space, channels=16, layers=size.layers, image_size=(side, side))
        net, mixture = space.build_supernet(network_config).eval(), None
        images = torch.randn(16, 3, side, side)
        with torch.no_grad(), seed_stochastic_modules(net.modules(), draw):
            mixture = draw_mixture(net, draw)
            plain, (fast,) = (
                proxy.compute_kernel(net, images, mixture),
                FastEvaluator(net, proxy).compute_kernels([mixture], images)[0],
            )
        assert torch.equal(fast.diagonal(), plain.diagonal())
        differing += int((fast - plain).abs().sum())
        pairs += 16 * 15 * int(plain[0, 0])
        one, other = log_determinant(fast), log_determinant(plain)
        assert one == other or abs(one - other) <= 1e-3
    assert differing <= 1e-6 * pairs  # in all draws together: in a chain one unit may change many later ones


@pytest.mark.slow
def test_both_engines_make_the_same_decisions(space: SearchSpace, pictures: TensorDataset) -> None:
    for seed in range(3):
        options = {"seed": seed, "channels": 8, "batch_size": 16}
        runs = [run_small_search(space, pictures, engine=engine, **options)[1].all for engine in ("plain", "fast")]
        for (_, one), (_, other) in zip(*runs, strict=True):
            assert [one.choice, one.candidates] == [other.choice, other.candidates]
            assert one.scores == pytest.approx(other.scores, abs=1e-3, nan_ok=True)
            if one.kept != other.kept:
                best, second = sorted(one.importance)[:-3:-1]
                print(f"{space.name} {seed} {one.choice}: {one.kept} or {other.kept}, gap {best - second}")
                assert best - second < 1e-4 * abs(best)
                break  # later decisions depend on this one


class RenamedNaswot(Naswot):
    name = "renamed"


class OwnKernelNaswot(Naswot):
    name = "own-kernel"

    def compute_kernel(self, net: nn.Module, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        return torch.eye(len(images), dtype=torch.int64)

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return log_determinant(self.compute_kernel(net, batch.images, mixture))


class OwnLogits:
    def compute_logits(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> Tensor:
        return torch.full((len(images), 10), torch.nan)


class OwnLogitsNaswot(OwnLogits, Naswot):
    name = "own-logits"


class OwnKernelSubclass(OwnKernelNaswot):
    name = "own-kernel-subclass"


class DeclaredFastNaswot(OwnKernelNaswot):
    name = "declared-fast"
    fast_engine = True


@pytest.mark.parametrize(
    ("proxy", "engine"),
    [
        (Naswot, "fast"),
        (zcpt.proxies.OfficialNaswot, "fast"),
        (zcpt.proxies.BatchNaswot, "plain"),
        (RenamedNaswot, "fast"),
        (OwnKernelNaswot, "plain"),
        (OwnLogitsNaswot, "plain"),
        (OwnKernelSubclass, "plain"),
        (DeclaredFastNaswot, "fast"),
    ],
)
def test_a_subclass_uses_the_fast_engine_unless_it_overrides_the_computation(
    proxy: type[Naswot], engine: str, batch: Batch
) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    evaluator = zcpt.scoring.Evaluator(net, proxy())
    assert evaluator.engine == engine
    if proxy in (OwnKernelNaswot, OwnKernelSubclass):
        assert evaluator.score_mixtures([net.initial_mixture()], batch).item() == 0
    if proxy is RenamedNaswot:
        expected = zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch, engine="fast")
        assert torch.equal(evaluator.score_mixtures([net.initial_mixture()], batch), expected)


def test_a_proxy_need_not_be_derived_from_ours(batch: Batch) -> None:
    class Foreign:
        name, higher_is_better, min_batch = "foreign", True, 1

        def score(self, net: nn.Module, batch: Batch, mixture: object) -> float:
            return 7.0

    scores = zcpt.score_mixtures(nn.Flatten(), cast(Any, Foreign()), [None], batch)
    assert scores.tolist() == [7.0]


def test_a_network_must_be_a_torch_module() -> None:
    with pytest.raises(ConfigError, match=r"a network must be a torch.nn.Module, not <function"):
        zcpt.score_mixtures(
            cast(Any, lambda images: images), NASWOT, [None], Batch(torch.ones(2, 3, 8, 8), torch.arange(2))
        )
