"""Weights of undecided, removed and decided candidates."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import stdev
from typing import Literal

import pytest
import torch
from torch import nn

import zcpt
from zcpt import Batch, Choice, Mixture, SpaceError, Supernet
from zcpt.scoring import Evaluator

EDGE = Choice("edge", ("a", "b", "c", "d"))
INPUTS = Choice("inputs", ("0", "1", "2"), keep=2, start="one")


def test_undecided_candidates_share_1_or_weigh_1() -> None:
    mixture = Mixture.initial([EDGE, INPUTS])
    assert mixture.weights == {"edge": (0.25,) * 4, "inputs": (1.0,) * 3}


def test_removing_leaves_the_other_weights_as_they_are() -> None:
    mixture = Mixture.initial([EDGE])
    assert mixture.without("edge", "b").weights["edge"] == (0.25, 0.0, 0.25, 0.25)
    assert mixture.without("edge", "b", "d").weights["edge"] == (0.25, 0.0, 0.25, 0.0)
    assert mixture.weights["edge"] == (0.25,) * 4


def test_deciding_weighs_1_what_is_kept_and_0_the_rest() -> None:
    mixture = Mixture.initial([EDGE, INPUTS]).without("edge", "b").select("edge", ("b",)).select("inputs", ("0", "2"))
    assert mixture.weights == {"edge": (0.0, 1.0, 0.0, 0.0), "inputs": (1.0, 0.0, 1.0)}


def test_an_unknown_candidate_is_refused_with_the_nearest_one() -> None:
    choice = Choice("edge", ("sep_conv_3x3", "skip_connect"))
    with pytest.raises(SpaceError, match="did you mean 'sep_conv_3x3'"):
        Mixture.initial([choice]).without("edge", "sep_conv_3x")
    with pytest.raises(SpaceError, match="unknown candidate of edge"):
        Mixture.initial([choice]).select("edge", ("conv",))


def test_noise_is_that_of_darts_architecture_parameters() -> None:
    torch.manual_seed(0)
    wide = Choice("edge", tuple(map(str, range(2000))))
    row = Mixture.initial([wide, INPUTS], noise=1e-3).weights["edge"]
    assert math.isclose(sum(row), 1)
    assert 0.9e-3 < stdev(math.log(weight) for weight in row) < 1.1e-3
    assert Mixture.initial([INPUTS], noise=1e-3).weights["inputs"] == (1.0,) * 3


MISTAKES: list[tuple[Callable[[Mixture], object], str]] = [
    (lambda mixture: mixture.without("edgee", "a"), "unknown choice 'edgee': did you mean 'edge'"),
    (lambda mixture: mixture.select("edgee", ("a",)), "unknown choice 'edgee': did you mean 'edge'"),
    (lambda mixture: mixture.is_decided(Choice("edgee", ("a",))), "unknown choice 'edgee': did you mean 'edge'"),
    (lambda mixture: mixture.without("edge", "e"), "unknown candidate of edge 'e': choose from a, b, c, d"),
    (lambda mixture: mixture.select("edge", ("e",)), "unknown candidate of edge 'e': choose from a, b, c, d"),
    (lambda mixture: mixture.select("edge", "abc"), "unknown candidate of edge 'abc'"),
    (lambda mixture: mixture.select("edge", ()), r"edge keeps one candidate, not \[\]: choose from a, b, c, d"),
    (lambda mixture: mixture.select("edge", ("a", "b")), r"edge keeps one candidate, not \['a', 'b'\]"),
    (lambda mixture: mixture.select("inputs", ("0", "0")), "inputs keeps 1 to 2 different candidates"),
    (lambda mixture: mixture.select("inputs", ("0", "1", "2")), "inputs keeps 1 to 2 different candidates"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_in_names_and_numbers_get_one_sentence(mistake: Callable[[Mixture], object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        mistake(Mixture.initial([EDGE, INPUTS]))


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (
            Mixture.initial([Choice("edg", ("a", "b"))]),
            "another supernet, and has no choice 'edge': use net.initial_mixture",
        ),
        (Mixture.initial([Choice("edge", ("a", "c"))]), "it weighs a, c of edge, and this one has a, b. Use"),
        (Mixture({"edge": (1.0,)}, {"edge": Choice("edge", ("a", "b"))}), "belongs to another supernet"),
    ],
)
def test_a_mixture_of_another_space_is_refused_wherever_it_is_given(
    mixture: Mixture, message: str, engine: Literal["plain", "fast"]
) -> None:
    net = Supernet([Choice("edge", ("a", "b"))])
    net.mixed("mix", "edge", {"a": nn.ReLU(), "b": nn.Identity()}, net.IMAGES)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.arange(4))
    naswot = zcpt.get_proxy("naswot")
    evaluator = Evaluator(net, naswot, engine=engine)
    calls: list[Callable[[], object]] = [
        lambda: net(batch.images, mixture),
        lambda: net.compute_values(batch.images, ["mix"], mixture),
        lambda: net.list_live_steps(mixture),
        lambda: zcpt.score_mixtures(
            net, zcpt.get_proxy("naswot"), [net.initial_mixture(), mixture], batch, engine=engine
        ),
        lambda: evaluator.score_mixtures([mixture], batch),
        lambda: zcpt.score(net, batch, "naswot", mixture),
    ]
    if engine == "fast":
        calls.append(lambda: evaluator.estimate_memory([mixture], batch))
    for call in calls:
        with pytest.raises(SpaceError, match=message):
            call()
