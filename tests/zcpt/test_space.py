"""Architectures in memory and on disk, and classes that use former names of the contract."""

import copy
import json
import operator
import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

import zcpt
from tests.conftest import random_architecture
from zcpt import Architecture, Choice, ConfigError, SpaceError
from zcpt.space import NetworkConfig, SearchSpace

ARCHITECTURE = Architecture("s", {"op": ("x",), "inputs": ("0", "1")})


def test_json_round_trip(space: SearchSpace) -> None:
    for seed in range(20):
        architecture = random_architecture(space, seed)
        assert Architecture.from_json(json.dumps(architecture.to_json())) == architecture


def test_equal_architectures_have_equal_hashes_whatever_the_order() -> None:
    one = Architecture("s", {"a": ("x",), "b": ("y",)})
    other = Architecture("s", {"b": ("y",), "a": ("x",)})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Architecture("t", {"a": ("x",), "b": ("y",)})


def test_an_architecture_cannot_be_changed() -> None:
    own = {"op": ("x",)}
    architecture = Architecture("s", own)
    before = hash(architecture)
    changes: list[Callable[[Any], object]] = [
        lambda kept: operator.setitem(kept, "op", ("y",)),
        lambda kept: operator.delitem(kept, "op"),
        lambda kept: kept.update(op=("y",)),
        lambda kept: kept.clear(),
    ]
    for change in changes:
        with pytest.raises((TypeError, AttributeError)):
            change(architecture.kept)
    own["op"] = ("y",)
    assert architecture.kept == {"op": ("x",)}
    assert hash(architecture) == before


@pytest.mark.parametrize(
    "duplicate",
    [lambda a: pickle.loads(pickle.dumps(a)), copy.copy, copy.deepcopy, lambda a: Architecture(**asdict(a))],
)
def test_architectures_can_be_copied_and_sent_to_other_processes(
    duplicate: Callable[[Architecture], Architecture],
) -> None:
    other = duplicate(ARCHITECTURE)
    assert other == ARCHITECTURE
    assert hash(other) == hash(ARCHITECTURE)
    with pytest.raises(TypeError):
        other.kept["op"] = ("y",)  # type: ignore[index]


def test_a_choice_that_an_architecture_does_not_decide_is_refused_with_the_nearest_one() -> None:
    assert ARCHITECTURE["op"] == "x"
    with pytest.raises(SpaceError, match="unknown choice of this s architecture 'input': did you mean 'inputs'?"):
        ARCHITECTURE["input"]
    with pytest.raises(SpaceError, match=r"inputs keeps '0', '1', not one candidate: .*architecture.kept\['inputs'\]"):
        ARCHITECTURE["inputs"]
    with pytest.raises(SpaceError, match="keeps , not one candidate"):
        Architecture("s", {"op": ()})["op"]


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
def test_a_damaged_document_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(SpaceError, match=complaint):
        Architecture.from_json(text, "a.json")


def test_an_architecture_of_another_space_is_refused() -> None:
    darts, other = zcpt.get_space("darts"), zcpt.get_space("nasbench201")
    with pytest.raises(SpaceError, match="belongs to space 'nasbench201', not to 'darts'"):
        darts.check(random_architecture(other, 0))
    with pytest.raises(SpaceError, match="belongs to space 'darts'"):
        other.network(random_architecture(darts, 0), channels=4, layers=1)


def test_an_incomplete_or_foreign_choice_is_refused(space: SearchSpace) -> None:
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


def test_an_unknown_space_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpaceError, match="unknown space 'nasbench20': did you mean 'nasbench201'"):
        zcpt.get_space("nasbench20")


def test_number_of_candidates_in_each_round() -> None:
    assert Choice("op", tuple("abcdefg")).round_sizes == (7,)
    assert Choice("inputs", tuple("01234"), keep=2).round_sizes == (5, 4, 3)
    assert Choice("inputs", tuple("01"), keep=2).round_sizes == ()


def test_a_network_config_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        NetworkConfig(channels=0, layers=3)


def derive(**attributes: Any) -> type[SearchSpace]:
    """Define a space as a statement ``class Own(NasBench201)`` with these attributes would."""
    base = type(zcpt.get_space("nasbench201"))
    return type("Own", (base,), attributes)


def test_a_space_with_the_former_name_of_layer_unit_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="^Own.layers_mean is now called layer_unit: rename it.$"):
        own = derive(layers_mean="blocks")
    assert own().describe_layers(1) == "1 block"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Derived", (own,), {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("check_shape", "check_network_config"),
        ("leaves_some_out", "has_invalid_architectures"),
        ("valid", "is_valid"),
        ("cheapest", "build_cheapest_finder"),
        ("canonical", "canonicalize"),
    ],
)
def test_a_space_with_the_former_name_of_a_method_is_refused(old: str, new: str) -> None:
    with pytest.raises(SpaceError, match=f"^Own.{old} is now called {new}: rename it.$"):
        derive(**{old: lambda self, *given: None})
    assert hasattr(SearchSpace, new)
    assert not hasattr(SearchSpace, old)
