"""Weights of undecided, removed and decided candidates."""

import math
from statistics import stdev

import pytest
import torch

from zcpt import Choice, Mixture, SpaceError

EDGE = Choice("edge", ("a", "b", "c", "d"))
INPUTS = Choice("inputs", ("0", "1", "2"), keep=2, start="one")


def test_undecided_candidates_share_1_or_weigh_1():
    mixture = Mixture.initial([EDGE, INPUTS])
    assert mixture.weights == {"edge": (0.25,) * 4, "inputs": (1.0,) * 3}


def test_removing_leaves_the_other_weights_as_they_are():
    mixture = Mixture.initial([EDGE])
    assert mixture.without("edge", "b").weights["edge"] == (0.25, 0.0, 0.25, 0.25)
    assert mixture.without("edge", "b", "d").weights["edge"] == (0.25, 0.0, 0.25, 0.0)
    assert mixture.weights["edge"] == (0.25,) * 4


def test_deciding_weighs_1_what_is_kept_and_0_the_rest():
    mixture = Mixture.initial([EDGE, INPUTS]).without("edge", "b").select("edge", ("b",)).select("inputs", ("0", "2"))
    assert mixture.weights == {"edge": (0.0, 1.0, 0.0, 0.0), "inputs": (1.0, 0.0, 1.0)}


def test_an_unknown_candidate_is_refused_with_the_nearest_one():
    choice = Choice("edge", ("sep_conv_3x3", "skip_connect"))
    with pytest.raises(SpaceError, match="did you mean 'sep_conv_3x3'"):
        Mixture.initial([choice]).without("edge", "sep_conv_3x")
    with pytest.raises(SpaceError, match="unknown candidate of edge"):
        Mixture.initial([choice]).select("edge", ("conv",))


def test_noise_is_that_of_darts_architecture_parameters():
    torch.manual_seed(0)
    wide = Choice("edge", tuple(map(str, range(2000))))
    row = Mixture.initial([wide, INPUTS], noise=1e-3).weights["edge"]
    assert math.isclose(sum(row), 1)
    assert 0.9e-3 < stdev(math.log(weight) for weight in row) < 1.1e-3
    assert Mixture.initial([INPUTS], noise=1e-3).weights["inputs"] == (1.0,) * 3
