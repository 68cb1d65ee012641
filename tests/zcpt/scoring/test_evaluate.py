"""A score depends on weights, mixture and batch and on nothing else, and leaves nothing behind."""

import copy

import pytest
import torch

import zcpt
from tests.conftest import PROXIES, random_architecture, tiny_shape
from zcpt import Batch, ProxyError
from zcpt.scoring.evaluate import seeded_modules

NASWOT = zcpt.get_proxy("naswot")


def snapshot(net):
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in net.modules()]
    return state, flags, hooks


def same(one, other):
    return one[1:] == other[1:] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_scored_supernet_is_bit_for_bit_what_it_was(space, batch, proxy):
    net = space.build_supernet(tiny_shape(space)).train()
    next(iter(net.children())).eval()  # a mixture of flags has to survive too
    before = snapshot(net)
    removed = [net.start().without(space.choices[0].name, c) for c in space.choices[0].candidates]
    zcpt.evaluate(net, zcpt.get_proxy(proxy), removed, batch)
    assert same(snapshot(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_failing_proxy_leaves_it_as_it_was_too(space, batch):
    net = space.build_supernet(tiny_shape(space)).train()
    before = snapshot(net)
    nothing = net.start().without(space.choices[0].name, *space.choices[0].candidates)
    with pytest.raises(zcpt.SpaceError):
        zcpt.evaluate(net, NASWOT, [nothing], batch)
    assert same(snapshot(net), before)


def test_scores_do_not_depend_on_the_order_or_company_of_mixtures(space, batch):
    net = space.build_supernet(tiny_shape(space))
    choice = space.choices[-1]
    removed = [net.start().without(choice.name, candidate) for candidate in choice.candidates]
    scores = zcpt.evaluate(net, NASWOT, removed, batch)
    assert scores.dtype == torch.float64
    assert scores.isfinite().all()
    assert torch.equal(zcpt.evaluate(net, NASWOT, removed[::-1], batch), scores.flip(0))
    assert torch.equal(torch.cat([zcpt.evaluate(net, NASWOT, [m], batch) for m in removed]), scores)


def test_a_supernet_in_training_mode_scores_as_in_evaluation_mode(space, batch):
    net = space.build_supernet(tiny_shape(space))
    twin = copy.deepcopy(net).eval()
    assert torch.equal(
        zcpt.evaluate(net.train(), NASWOT, [net.start()], batch), zcpt.evaluate(twin, NASWOT, [net.start()], batch)
    )


def test_a_callers_inference_mode_changes_nothing(batch):
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_shape(space))
    expected = zcpt.evaluate(net, NASWOT, [net.start()], batch)
    with torch.inference_mode():
        assert torch.equal(zcpt.evaluate(net, NASWOT, [net.start()], batch), expected)


def test_the_memory_layout_changes_no_count(space, batch):
    net = space.build_supernet(tiny_shape(space)).eval()
    with seeded_modules(net.modules(), 0):
        plain = NASWOT.kernel(net, batch.images, net.start())
        net.to(memory_format=torch.channels_last)
        other = NASWOT.kernel(net, batch.images.to(memory_format=torch.channels_last), net.start())
    # Sums are taken in another order, so a unit next to 0 may switch: at most one in a million, and in the long
    # chain of 'proxyless' some of those that follow it.
    share = 1e-4 if space.name == "proxyless" else 1e-6
    assert (plain - other).abs().max() <= 1 + plain[0, 0] * share


def test_discrete_networks_are_scored_by_the_same_call(space, batch):
    network = space.build_network(random_architecture(space, 0), tiny_shape(space))
    before = snapshot(network)
    score = zcpt.evaluate(network, NASWOT, [None], batch)
    assert score.shape == (1,)
    assert score.isfinite().all()
    assert same(snapshot(network), before)


def test_one_image_is_refused_with_a_batch_size_to_use(space, batch):
    net = space.build_supernet(tiny_shape(space))
    with pytest.raises(ProxyError, match="by 1 image: use a batch size of at least 2, such as --batch-size 64"):
        zcpt.evaluate(net, NASWOT, [net.start()], Batch(batch.images[:1], batch.labels[:1]))
