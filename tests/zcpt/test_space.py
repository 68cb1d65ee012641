"""Architectures on disk, and the registry of spaces."""

import json
import pickle

import pytest

import zcpt
from tests.conftest import random_architecture
from zcpt import Architecture, Choice, ConfigError, SpaceError
from zcpt.space import NetworkConfig


def test_json_round_trip(space):
    for seed in range(20):
        architecture = random_architecture(space, seed)
        assert Architecture.from_json(json.dumps(architecture.to_json())) == architecture


def test_equal_architectures_have_equal_hashes_whatever_the_order():
    one = Architecture("s", {"a": ("x",), "b": ("y",)})
    other = Architecture("s", {"b": ("y",), "a": ("x",)})
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != Architecture("t", {"a": ("x",), "b": ("y",)})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"schema": 1, "space": "darts", "choi', "not a complete JSON document .* line 1, column"),
        ("[]", "holds no architecture"),
        ('{"schema": 2, "space": "darts", "choices": {}}', "schema 2, and this version of zcpt reads schema 1"),
        ('{"schema": 1, "space": "darts", "choices": {"a": "b"}}', "must map each choice to the list"),
        ('{"schema": 1, "space": "darts"}', "must map each choice to the list"),
    ],
)
def test_a_damaged_document_is_refused_with_what_is_wrong(text, complaint):
    with pytest.raises(SpaceError, match=complaint):
        Architecture.from_json(text, "a.json")


def test_an_architecture_of_another_space_is_refused():
    darts, other = zcpt.get_space("darts"), zcpt.get_space("nasbench201")
    with pytest.raises(SpaceError, match="belongs to space 'nasbench201', not to 'darts'"):
        darts.check(random_architecture(other, 0))
    with pytest.raises(SpaceError, match="belongs to space 'darts'"):
        other.network(random_architecture(darts, 0), channels=4, layers=1)


def test_an_incomplete_or_foreign_choice_is_refused(space):
    kept = dict(random_architecture(space, 0).kept)
    name = sorted(kept)[0]
    with pytest.raises(SpaceError, match="nodeX"):
        space.check(Architecture(space.name, {**kept, "nodeX/edge0": ("skip_connect",)}))
    with pytest.raises(SpaceError, match="unknown candidate"):
        space.check(Architecture(space.name, {**kept, name: ("conv_9x9",) * len(kept[name])}))
    with pytest.raises(SpaceError, match="keeps"):
        space.check(Architecture(space.name, {**kept, name: ()}))
    del kept[name]
    with pytest.raises(SpaceError, match=name):
        space.check(Architecture(space.name, kept))


def test_an_unknown_space_is_refused_with_the_nearest_one():
    with pytest.raises(SpaceError, match="unknown space 'nasbench20': did you mean 'nasbench201'"):
        zcpt.get_space("nasbench20")


def test_a_choice_knows_how_many_looks_it_takes():
    assert Choice("op", tuple("abcdefg")).round_sizes == (7,)
    assert Choice("inputs", tuple("01234"), keep=2).round_sizes == (5, 4, 3)
    assert Choice("inputs", tuple("01"), keep=2).round_sizes == ()


def test_a_shape_must_be_positive():
    with pytest.raises(ConfigError, match="at least 1"):
        NetworkConfig(channels=0, layers=3)
