"""Tests of REINFORCE: the policy's probabilities, its gradient worked out by hand, the warm-up and the move."""

from __future__ import annotations

import math

import pytest
import torch

import zcpt
from tests.conftest import SPACES
from tests.zcpt.trials.grid import Grid, build_algorithm, read_number
from zcpt.trials import Candidates, Reinforce, ReinforceSettings
from zcpt.trials.reinforce import Policy


def build_policy(space: zcpt.SearchSpace, **settings: float) -> Policy:
    """Return the policy of a space before any update."""
    return Policy(space, torch.Generator().manual_seed(0), ReinforceSettings(**settings))  # type: ignore[arg-type]


def test_an_update_is_one_step_of_adam_on_the_gradient_worked_out_by_hand() -> None:
    policy = build_policy(Grid(2), initial_std=0.0, policy_lr=0.01)
    with torch.no_grad():
        policy.logits.copy_(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]))
    # p(tens) = 1/4, 3/4 and p(ones) = 1/2, 1/2. The first reward equals its own baseline and changes nothing.
    code = policy.encode(Grid(2).parse("01"))
    assert code.tolist() == [0, 1]
    assert policy.compute_log_likelihood(code[None]).exp().item() == pytest.approx(1 / 8)
    before = policy.logits.detach().clone()
    policy.update(code, 10.0)
    assert torch.equal(policy.logits, before)
    # The average is now 0.9 * 1 + 0.1 * 20 = 2.9, and without its bias 2.9 / (1 - 0.9**2) = 15.263.
    policy.update(code, 20.0)
    advantage = 20.0 - 2.9 / 0.19
    # d(-log p)/d(logits) is the probability minus 1 at what was drawn.
    expected = advantage * torch.tensor([[1 / 4 - 1, 3 / 4], [1 / 2, 1 / 2 - 1]], dtype=torch.float64)
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, expected)
    # Adam's second step after a gradient of 0: mean 0.1 g / 0.19, square 0.001 g^2 / 0.001999.
    step = 0.01 * (0.1 / 0.19) / math.sqrt(0.001 / 0.001999)
    torch.testing.assert_close(policy.logits.detach(), before - step * expected.sign(), atol=1e-6, rtol=0)


def test_a_worse_reward_than_the_baseline_makes_an_architecture_less_likely() -> None:
    policy = build_policy(Grid(2))
    good, bad = policy.encode(Grid(2).parse("00")), policy.encode(Grid(2).parse("11"))
    for _ in range(50):
        policy.update(good, 1.0)
        policy.update(bad, 0.0)
    likelihood = policy.compute_log_likelihood(torch.stack([good, bad])).exp()
    assert likelihood[0] > 0.4 > 0.1 > likelihood[1]


@pytest.mark.parametrize("name", SPACES)
def test_every_architecture_that_the_policy_draws_has_a_probability(name: str) -> None:
    policy = build_policy(zcpt.get_space(name))
    drawn = [policy.draw() for _ in range(5)]
    codes = torch.stack([policy.encode(architecture) for architecture in drawn])
    likelihood = policy.compute_log_likelihood(codes)
    assert torch.isfinite(likelihood).all()
    assert (likelihood < 0).all()


def test_decisions_that_a_cell_lacks_are_summed_over() -> None:
    # The probabilities of all cells of DARTS-like spaces sum to 1 only if the operations of edges that no node keeps
    # are summed over. 1Shot1's space 1 is small enough to add them all up.
    policy = build_policy(zcpt.get_space("nasbench1shot1-1"), initial_std=0.5)
    drawn = [policy.draw() for _ in range(300)]
    counts = {architecture: drawn.count(architecture) for architecture in set(drawn)}
    assert any(count > 1 for count in counts.values())
    likelihood = policy.compute_log_likelihood(torch.stack([policy.encode(architecture) for architecture in counts]))
    assert 0 < likelihood.exp().sum().item() <= 1


def test_the_policy_draws_with_its_probabilities() -> None:
    policy = build_policy(Grid(2), initial_std=0.0)
    with torch.no_grad():
        policy.logits.copy_(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]))
    drawn = [policy.draw()["tens"] for _ in range(800)]
    assert 540 < drawn.count("1") < 660


def test_a_failed_trial_leaves_the_policy_as_it_is() -> None:
    algorithm = build_algorithm("reinforce")
    assert isinstance(algorithm, Reinforce)
    before = algorithm.policy.logits.detach().clone()
    algorithm.tell(algorithm.ask().architecture, math.nan)
    assert torch.equal(algorithm.policy.logits, before)


def test_the_warm_up_makes_architectures_of_good_proxy_scores_likely() -> None:
    algorithm = build_algorithm("reinforce", Grid(4), policy_lr=0.05)
    assert isinstance(algorithm, Reinforce)
    scored = [algorithm.sample() for _ in range(200)]
    algorithm.warm_up(scored, [-math.inf if read_number(a) == 33 else 10 ** read_number(a) for a in scored])
    probabilities = algorithm.policy.compute_log_probabilities().exp()
    assert probabilities[0, 3] == probabilities[0].max()
    assert algorithm.ask().reason == "policy"


def test_a_move_takes_the_best_by_proxy_of_what_the_policy_draws() -> None:
    algorithm = build_algorithm("reinforce", Grid(10), move=True, move_samples=100)
    suggestion = algorithm.ask()
    assert suggestion.reason == "move"
    assert read_number(suggestion.architecture) > 85


def test_the_policy_draws_inside_the_pool_only() -> None:
    space = Grid(10)
    pool = [space.parse(text) for text in ("12", "34", "56")]
    algorithm = Reinforce(Candidates(space, pool=pool), torch.Generator().manual_seed(0))
    assert {algorithm.ask().architecture for _ in range(3)} == set(pool)
