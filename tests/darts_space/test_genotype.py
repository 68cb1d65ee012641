"""The DARTS text notation, read by a grammar."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcpt
from darts_space.genotype import read_genotype, write_genotype
from tests.conftest import SPACES
from tests.darts_space.test_darts import DARTS, genotype
from zcpt import SpaceError

# DARTS_V2 as quark0/darts prints it, with its 'none'-free operations and inputs in no order.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def test_published_spellings_are_read() -> None:
    architecture = DARTS.parse(DARTS_V2)
    assert architecture.kept["normal/node4/inputs"] == ("0", "1")
    assert architecture["normal/node4/edge0"] == "skip_connect"
    # 3.3 M without the auxiliary head, as DARTS reports it
    assert round(zcpt.get_space("darts").cost(architecture, zcpt.space.NetworkConfig(36, 20)).params / 1e6, 1) == 3.3


def test_tuples_lists_json_and_white_space_are_all_the_same() -> None:
    text = genotype("C10_0")
    fields = {kind: [list(pair) for pair in pairs] for kind, pairs in read_genotype(text).items()}
    document = {**fields, "normal_concat": [2, 3, 4, 5], "reduce_concat": [2, 3, 4, 5]}
    variants = [
        text.replace("('", "['").replace("), (", "], [").replace("), [", "], [").replace(")]", "]]"),
        "\n  " + text.replace(", ", ",\n  ") + "\n",
        text.replace("range(2, 6)", "(2, 3, 4, 5)"),
        json.dumps(document),
    ]  # fmt: skip
    assert all(DARTS.parse(variant) == DARTS.parse(text) for variant in variants)


def test_what_is_written_is_what_darts_prints() -> None:
    text = genotype("C10_0")
    assert DARTS.format(DARTS.parse(text)) == text
    assert write_genotype(read_genotype(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Genotype(", "Phenotype(", "is not of the form Genotype"),
        ("Genotype(", "Genotype(print('run'), ", "is not of the form Genotype"),
        ("range(2, 6)", "range(2, 7)", "must be range"),
        ("range(2, 6)", "__import__('os').system('true')", "is not of the form"),
        ("range(2, 6)", "range(10**9)", "is not of the form"),
        ("range(2, 6)", "range(1000000000)", "is not of the form"),
        ("range(2, 6)", "3", "must be range"),
        ("('sep_conv_5x5', 0), ", "", "has 7 .operation, input. pairs, and a cell of this space has eight"),
        ("('sep_conv_5x5', 0), ", "('sep_conv_5x5', 0), " * 3, "the normal cell of the genotype has 5 nodes, and"),
        ("('sep_conv_5x5', 0)", "('sep_conv_9x9', 0)", "did you mean 'sep_conv_"),
        ("('sep_conv_5x5', 0)", "('sep_conv_5x5', True)", "is not a pair"),
        ("('sep_conv_5x5', 0)", "('sep_conv_5x5', -1)", "node 2 of the normal cell has input -1: it can be 0 to 1"),
        ("('sep_conv_5x5', 0)", "('sep_conv_5x5', 3)", "node 2 of the normal cell has input 3: it can be 0 to 1"),
        ("('sep_conv_3x3', 4)", "('sep_conv_3x3', 2)", "has input 2 twice, and in this space"),
        ("normal=", "norm=", "has the fields"),
        (")", "", "is not of the form"),
    ],
)
def test_anything_else_is_refused(old: str, new: str, complaint: str) -> None:
    text = genotype("C10_0")
    assert old in text
    with pytest.raises(SpaceError, match=complaint):
        DARTS.parse(text.replace(old, new, 1) if old != ")" else text[:-1])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="Genotype(normal=[]'_concat{}:,0123|~+ ", max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for space in map(zcpt.get_space, SPACES):
        with contextlib.suppress(SpaceError):
            architecture = space.parse(text)  # eight digits are a network of NAS-Bench-Macro
            assert space.parse(space.format(architecture)) == architecture
