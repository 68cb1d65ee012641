"""Texts of architectures in all spellings that code bases write, and texts that are none."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

import zcpt
from tests.conftest import SPACES, random_architecture
from tests.darts_space.test_genotype import DARTS_V2
from zcpt import SpaceError
from zcpt.compat.darts import Genotype
from zcpt.errors import NotationError
from zcpt.notation import Call, extract_assignment, find_calls, pick_single, read_literal
from zcpt.space import SearchSpace

DARTS = zcpt.get_space("darts")
CELLS = {
    kind: [(words.split()[i], int(words.split()[i + 1])) for i in range(0, 16, 2)]
    for kind, words in {
        "normal": "sep_conv_3x3 0 sep_conv_3x3 1 sep_conv_3x3 0 sep_conv_3x3 1 sep_conv_3x3 1 skip_connect 0 "
        "skip_connect 0 dil_conv_3x3 2",
        "reduce": "max_pool_3x3 0 max_pool_3x3 1 skip_connect 2 max_pool_3x3 1 max_pool_3x3 0 skip_connect 2 "
        "skip_connect 2 max_pool_3x3 1",
    }.items()
}
NESTED = {kind: [pairs[i : i + 2] for i in range(0, 8, 2)] for kind, pairs in CELLS.items()}
CONCAT = [2, 3, 4, 5]
NAMED = Genotype(CELLS["normal"], range(2, 6), CELLS["reduce"], range(2, 6))
MAPPING = {**CELLS, "normal_concat": CONCAT, "reduce_concat": CONCAT}
BEST_201 = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
NODES_201 = (
    (("nor_conv_3x3", 0),),
    (("none", 0), ("nor_conv_1x1", 1)),
    (("skip_connect", 0), ("nor_conv_3x3", 1), ("avg_pool_3x3", 2)),
)


def write_triples(kind: str) -> str:
    """Return a cell as FairDARTS writes it: (operation, node, input)."""
    return str([(operation, 2 + index // 2, source) for index, (operation, source) in enumerate(CELLS[kind])])


GENOTYPES: dict[str, object] = {
    "as printed": DARTS_V2,
    "the named tuple of zcpt.select": NAMED,
    "a mapping": MAPPING,
    "white space and line breaks": "\n  " + DARTS_V2.replace(", ", ",\n    ") + "\n\n",
    "carriage returns": DARTS_V2.replace(", normal_concat", ",\r\n normal_concat") + "\r\n",
    "a byte order mark": "\ufeff" + DARTS_V2,
    "bytes": DARTS_V2.encode(),
    "quotation marks": f'"{DARTS_V2}"',
    "range": DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)"),
    "range with a step": DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6, 1)"),
    "list of range": DARTS_V2.replace("[2, 3, 4, 5]", "list(range(2, 6))"),
    "unpacked range": DARTS_V2.replace("[2, 3, 4, 5]", "[*range(2, 6)]"),
    "a tuple of nodes": DARTS_V2.replace("[2, 3, 4, 5]", "(2, 3, 4, 5)"),
    "lists": DARTS_V2.replace("(\'", "['").replace("), [", "], [").replace(")]", "]]"),
    "spaces around =": DARTS_V2.replace("=", " = "),
    "trailing commas": DARTS_V2.replace(")]", "),]").replace("])", "],)"),
    "comments": DARTS_V2.replace(", normal_concat", ",  # 2.76 %, 3.3M (DARTS)\n normal_concat"),
    "an assignment": f"DARTS_V2 = {DARTS_V2}",
    "an assignment with a type": f"DARTS_V2: Genotype = {DARTS_V2}\n",
    "a name in a module": f"genotypes.{DARTS_V2}",
    "a name in a module of a package": f"BEST = cnn.genotypes.{DARTS_V2}",
    "positional fields": f"Genotype({CELLS['normal']}, {CONCAT}, {CELLS['reduce']}, {CONCAT})",
    "other order": f"Genotype(reduce={CELLS['reduce']}, reduce_concat=range(2, 6), normal={CELLS['normal']}, "
    "normal_concat=range(2, 6))",
    "a line of a log": f"2019-06-01 09:21:14,211 genotype = {DARTS_V2}",
    "a log of equal lines": f"epoch 48\n06/01 genotype = {DARTS_V2}\nepoch 49\n06/02 genotype = {DARTS_V2}\nDone.",
    "markdown": f"best genotype: `{DARTS_V2}` (97.2 %)",
    "pairs of each node": f"Genotype(normal={NESTED['normal']}, normal_concat=range(2, 6), reduce={NESTED['reduce']}, "
    "reduce_concat=range(2, 6))",
    "AutoDL-Projects": f"Genotype(normal={NESTED['normal']}, normal_concat={CONCAT}, reduce={NESTED['reduce']}, "
    f"reduce_concat={CONCAT}, connectN=None, connects=None)",
    "FairDARTS": f"Genotype(normal={write_triples('normal')}, normal_concat=range(2, 6), "
    f"reduce={write_triples('reduce')}, reduce_concat=range(2, 6))",
    "scalars of NumPy 2": DARTS_V2.replace("'sep_conv_3x3', 0", "np.str_('sep_conv_3x3'), np.int64(0)"),
    "tensors": DARTS_V2.replace("'sep_conv_3x3', 0", "'sep_conv_3x3', tensor(0, device='cuda:0')"),
    "Python 2": DARTS_V2.replace("('", "(u'"),
    "JSON": json.dumps(MAPPING),
    "JSON in an own line of a log": f"genotype: {json.dumps(MAPPING)}",
    "a mapping as printed": repr(MAPPING),
    "result of the published code": json.dumps(
        {"search_space": "darts", "dataset": "cifar10", "networks": [json.dumps(MAPPING)]}
    ),
    "pool of the published code": json.dumps({"networks": [{"id": 0, "genotype": json.dumps(MAPPING)}], "n": 1}),
    "a key with the text": json.dumps({"genotype": DARTS_V2, "accuracy": 97.24}),
}  # fmt: skip


@pytest.mark.parametrize("spelling", list(GENOTYPES))
def test_every_spelling_of_a_genotype_is_the_same_architecture(spelling: str) -> None:
    assert DARTS.parse(GENOTYPES[spelling]) == DARTS.parse(DARTS_V2)  # type: ignore[arg-type]


CELLS_201: dict[str, object] = {
    "as printed": BEST_201,
    "AutoDL-Projects": f"Structure(4 nodes with {BEST_201})",
    "a line of a log": f"[cifar10-valid] REA : best arch is [{BEST_201}], test_acc is [[94.26, 94.68]]",
    "quotation marks": f"'{BEST_201}'",
    "an assignment": f'BEST = "{BEST_201}"',
    "a byte order mark and a carriage return": f"\ufeff{BEST_201}\r\n",
    "the nodes": NODES_201,
    "the nodes as text": str([list(node) for node in NODES_201]),
    "result of the published code": json.dumps({"search_space": "nasbench201", "networks": [BEST_201]}),
    "a key with the text": json.dumps({"arch_str": BEST_201, "valid": 91.5}),
}
OTHERS: dict[str, tuple[str, str, list[object]]] = {
    "nasbench-macro": (
        "nasbench-macro",
        "22212220",
        ["m22212220", "[2, 2, 2, 1, 2, 2, 2, 0]", "2,2,2,1,2,2,2,0", [2, 2, 2, 1, 2, 2, 2, 0], "'22212220'"],
    ),
    "proxyless": (
        "proxyless",
        " ".join(["k3_e3", *["skip"] * 3] * 5 + ["k7_e6"]),
        [
            " ".join(["0", *["-1"] * 3] * 5 + ["5"]),
            str([0, *[-1] * 3] * 5 + [5]),
            [0, *[-1] * 3] * 5 + [5],
            ", ".join(["k3_e3", *["skip"] * 3] * 5 + ["k7_e6"]),
            str(["k3_e3", *["skip"] * 3] * 5 + ["k7_e6"]),
        ],
    ),
}


@pytest.mark.parametrize("spelling", list(CELLS_201))
def test_every_spelling_of_a_cell_of_nasbench201_is_the_same_architecture(spelling: str) -> None:
    space = zcpt.get_space("nasbench201")
    assert space.format(space.parse(CELLS_201[spelling])) == BEST_201  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(OTHERS))
def test_every_spelling_of_a_chain_is_the_same_architecture(name: str) -> None:
    space_name, text, spellings = OTHERS[name]
    space = zcpt.get_space(space_name)
    assert space.format(space.parse(text)) == text
    for spelling in spellings:
        assert space.parse(spelling) == space.parse(text)  # type: ignore[arg-type]


def test_every_spelling_of_a_model_spec_is_the_same_architecture() -> None:
    space = zcpt.get_space("nasbench1shot1-1")
    architecture = random_architecture(space, 0)
    text = space.format(architecture)
    matrix, ops = map(read_literal, re.findall(r"=(.*?)(?:, ops|\))", text))
    spellings = [
        f"api.{text}",
        f"cell = api.{text}  # the best",
        f"ModelSpec({matrix}, {ops})",
        f"ModelSpec(ops={ops}, matrix=np.array({matrix}, dtype=int), data_format='channels_last')",
        {"module_adjacency": matrix, "module_operations": ops},
        json.dumps({"matrix": matrix, "ops": ops}),
    ]
    for spelling in spellings:
        assert space.parse(spelling) == architecture  # type: ignore[arg-type]


NASNET = str([("sep_conv_5x5", 1), ("sep_conv_3x3", 0)] * 5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"Genotype(normal={NASNET}, normal_concat=[2, 3, 4, 5, 6], reduce={NASNET}, reduce_concat=[4, 5, 6])",
         "the normal cell of the genotype has 5 nodes, and a cell of this space has four."),
        (DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=range(4, 6)"),
         "normal_concat must be range(2, 6), because the output concatenates all four nodes, not [4, 5]."),
        (DARTS_V2.replace("('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 0)", 1),
         "node 2 of the normal cell has input 0 twice, and in this space the two inputs of a node differ."),
        (DARTS_V2.replace("sep_conv_3x3", "sep_conv_7x7", 1), "unknown candidate of normal/node2/edge0 'sep_conv_7x7'"),
        (DARTS_V2.replace("sep_conv_3x3", "none", 1), "unknown candidate of normal/node2/edge0 'none'"),
        (DARTS_V2.replace("sep_conv_3x3", "\x1b[31m" + 99 * "x", 1), "'\\x1b[31mxxx"),
        (DARTS_V2.replace(")]", ", 0.5)]"), "is not a pair (operation, input)."),
        (DARTS_V2.replace("reduce_concat", "concat"), "has the fields normal, normal_concat, reduce, "),
        (DARTS_V2.replace("reduce_concat", "normal_concat"), "is not of the form Genotype("),
        (DARTS_V2[:-20], "is not of the form Genotype("),
        (f"A = {DARTS_V2}\nB = {DARTS_V2.replace('dil_conv_3x3', 'dil_conv_5x5')}",
         "has 2 different genotypes: give the name of one of them, A, B, as --arch FILE:NAME, or its text."),
        (f"genotype = {DARTS_V2}\ngenotype = {DARTS_V2.replace('dil_conv_3x3', 'dil_conv_5x5')}",
         "has 2 different genotypes: give the text of one of them."),
        (json.dumps({"networks": ["x", "y", "z"]}), "has 3 different networks: give the text of one of them."),
        ("Genotype(" * 10_000, "is not of the form Genotype("),
        ("Genotype(" + "[" * 10_000, "is not of the form Genotype("),
        (f"Genotype(normal={5_000 * '1'})", "is not of the form Genotype("),
        (None, "is read from its text, not from a value of type NoneType."),
        (7, "is read from its text, not from a value of type int."),
        (2_000_000 * "x", "a text of 2000000 characters is too long for an architecture: at most 1000000 are read."),
    ],
)  # fmt: skip
def test_a_genotype_of_another_kind_is_refused_for_its_reason(text: str, complaint: str) -> None:
    with pytest.raises(SpaceError) as caught:
        DARTS.parse(text)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


LONG: dict[str, Callable[[str], str]] = {
    "the text again and again": lambda text: text * (90_000 // len(text)),
    "its first third": lambda text: text[: len(text) // 3] * (300_000 // len(text)),
    "one character": lambda text: text[:1] * 90_000,
    "no separator": lambda text: "|" + 90_000 * "a",
    "separators": lambda text: 45_000 * "a~",
    "commas": lambda text: "[" + 45_000 * "0,",
    "brackets": lambda text: 45_000 * "[(",
    "comments": lambda text: 9_000 * "Genotype(#",
    "quotation marks": lambda text: 9_000 * "Genotype('",
    "line breaks": lambda text: "Genotype" + 90_000 * "\n",
    "equals signs": lambda text: 45_000 * "a=",
}


@pytest.mark.parametrize("name", ["darts", "nasbench201", "nasbench1shot1-1", "nasbench-macro", "proxyless", "toy"])
@pytest.mark.parametrize("shape", list(LONG))
def test_a_long_text_is_read_or_refused_in_seconds(shape: str, name: str) -> None:
    space = zcpt.get_space(name)
    # Two cells, because a text that has the same cell many times is one architecture.
    text = LONG[shape](" ".join(space.format(random_architecture(space, seed)) for seed in (0, 1)))
    started = time.process_time()
    with pytest.raises(SpaceError) as caught:
        # A text that has the same cell many times is one architecture.
        space.parse(
            text if shape != "the text again and again" else text + " " + space.format(random_architecture(space, 1))
        )
    assert len(str(caught.value)) < 500
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", SPACES)
def test_a_text_of_another_space_is_refused(name: str) -> None:
    space = zcpt.get_space(name)
    for other in SPACES:
        texts = _read_notation(space), _read_notation(zcpt.get_space(other))
        if texts[0] != texts[1] and name.split("-")[0] != other.split("-")[0]:
            with pytest.raises(NotationError):
                space.parse(texts[1])


def _read_notation(space: SearchSpace) -> str:
    return space.format(random_architecture(space, 0))


def test_literals() -> None:
    assert read_literal("[1, -2.5, 'a\\'b', \"\\u0041\", None, true, {'k': (1,)}, (1), ()]") == (
        [1, -2.5, "a'b", "A", None, True, {"k": [1]}, 1, []]
    )
    for wrong in (
        "",
        "[1 2]",
        "[1,,2]",
        "f(1)",
        "{[1]: 2}",
        "{'a' 1}",
        "'open",
        "1 2",
        "[*1]",
        "range(1, 2, 0)",
        "a.b",
    ):
        with pytest.raises(NotationError, match="cannot be read from character"):
            read_literal(wrong)


def test_calls_and_assignments_are_found_in_files() -> None:
    text = "from a import F\n\nA = m.F(\n  1,\nb=[2])  # F(9\nB: F = F(b=3)\nC = B\nD = 'x'\nE = E2 = 7\nF(broken"
    assert find_calls(text, "F") == [Call("A", [1], {"b": [2]}), Call("B", [], {"b": 3})]
    assert extract_assignment(text, "C") == extract_assignment(text, "B") == "F(b=3)"
    assert extract_assignment(text, "A").startswith("m.F(")
    assert extract_assignment(text, "D") == "'x'"
    for name in ("x", "G", "E2", "a(b"):
        with pytest.raises(SpaceError, match="there is no '.*': the file has A, b, B, C, D, E."):
            extract_assignment(text, name)
    assert pick_single([("a", 1), ("b", 1)], "numbers") == 1
