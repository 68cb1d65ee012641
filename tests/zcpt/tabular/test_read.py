"""Readers of benchmark files, and their errors."""

from __future__ import annotations

import functools
import json
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import zcpt
from darts_space.nasbench1shot1 import NasBench1Shot1
from tests.zcpt.tabular.conftest import RUNS, cells, write_csv
from zcpt import DataError
from zcpt.tabular import read_table

CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"


read_once = functools.cache(read_table)


def check_refused(path: Path, space: str, *words: str) -> None:
    with pytest.raises(zcpt.ZcptError) as caught:
        read_table(path, space)
    text = str(caught.value)
    for word in (str(path), *words):
        assert word in text
    assert text.count(". ") == 0
    assert text.endswith(".")


def test_nasbench201_csv(tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    columns = ["arch_str", "c10_test_acc_200ep_pct", "c10valid_valid_acc_12ep_pct", "in16_test_acc_200ep_pct"]
    columns += ["c10_test_acc_200ep_nb201_per_seed_pct", "anything"]
    other = CELL.replace("skip_connect", "none")
    path = write_csv(tmp_path / "t.csv.gz", columns, [CELL, 51.5, 40, "", "50;53", "x"], [other, 10, 9, 2, "10", ""])
    table = read_table(path, "nasbench201")
    cell = space.parse(CELL)
    assert [space.format(a) for a in table.architectures] == [CELL, other]
    assert table.lookup(cell, "cifar10") == 51.5
    assert table.lookup(cell, "cifar10", "valid-12") == 40
    assert table.lookup(cell, "cifar10", "best-test") == 53
    assert table.lookup(cell, "imagenet16-120") is None
    assert table.lookup(space.parse(CELL.replace("skip_connect", "avg_pool_3x3")), "cifar10") is None
    assert table.find_best("cifar10") == (cell, 51.5)
    assert table.find_best("imagenet16-120")[1] == 2
    assert [table.rank(a, "cifar10") for a in (51.5, 20, 10)] == [1, 2, 2]
    assert table.summarize("cifar10") == {"architectures": 2, "best": 51.5, "mean": 30.75}
    assert np.array_equal(table.get_accuracies("imagenet16-120"), [math.nan, 2], equal_nan=True)


def test_a_data_set_or_metric_that_the_file_lacks(nb201: Path) -> None:
    table = read_table(nb201, "nasbench201")
    with pytest.raises(zcpt.ConfigError, match="value of --accuracy-on for .* 'cifar': did you mean 'cifar10'"):
        table.get_accuracies("cifar")
    with pytest.raises(zcpt.ConfigError, match="value of --metric for cifar10 in .* 'tset': did you mean 'test'"):
        table.get_accuracies("cifar10", "tset")


def official(kind: Any, text: Any = CELL) -> Any:
    """Return the content of a file of the API with one cell that was trained three times."""

    def run(accuracies: Any, epochs: Any, seed: Any) -> Any:
        return {
            "seed": seed,
            "epochs": epochs,
            "params": 0.1,
            "net_state_dict": None,
            "arch_config": {"arch_str": text},
            "eval_acc1es": {f"{name}@{epochs - 1}": value for name, value in accuracies.items()}
            | {f"{name}@0": 1.0 for name in accuracies},
        }

    full = OrderedDict()
    full["cifar10", 777], full["cifar10", 888] = run({"ori-test": 60.0}, 200, 777), run({"ori-test": 64.0}, 200, 888)
    full["cifar10-valid", 777] = run({"x-valid": 55.0, "ori-test": 5.0}, 200, 777)
    full["cifar100", 777] = run({"x-valid": 31.0, "x-test": 32.0, "ori-test": 5.0}, 200, 777)
    less = OrderedDict({("cifar10", 777): run({"ori-test": 40.0}, 12, 777)})
    information = {"full": {"all_results": full}, "less": {"all_results": less}}
    return {"meta_archs": [text], "arch2infos": {0: information}, "evaluated_indexes": kind([0])}


def test_nasbench201_file_of_the_api(tmp_path: Path) -> None:
    torch.save(official(list), tmp_path / "api.pth")
    table = read_table(tmp_path / "api.pth", "nasbench201")
    values = {key: column.tolist() for key, column in table.columns.items()}
    assert values == {
        ("cifar10", "test"): [62.0],
        ("cifar10", "best-test"): [64.0],
        ("cifar10", "valid"): [55.0],
        ("cifar10", "best-valid"): [55.0],
        ("cifar10", "test-12"): [40.0],
        ("cifar100", "test"): [32.0],
        ("cifar100", "best-test"): [32.0],
        ("cifar100", "valid"): [31.0],
        ("cifar100", "best-valid"): [31.0],
    }


class Evil:
    def __reduce__(self) -> Any:
        return open, ("run.txt", "w")


def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**official(list), "extra": Evil()}, tmp_path / "api.pth")
    check_refused(tmp_path / "api.pth", "nasbench201", "cannot be read as plain data", "write a CSV", "--table")
    (tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2").write_bytes(pickle.dumps(Evil()))
    check_refused(
        tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2", "nasbench201", "runs whatever code is in it", "write a CSV"
    )
    assert not (tmp_path / "run.txt").exists()
    (tmp_path / "nasbench_only108.tfrecord").write_bytes(b"")
    check_refused(tmp_path / "nasbench_only108.tfrecord", "nasbench1shot1-1", "TensorFlow", "write a CSV")


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ([1], "no file of NAS-Bench-201"),
        ({"meta_archs": 3, "arch2infos": {}}, "no file of NAS-Bench-201"),
        ({"meta_archs": [CELL], "arch2infos": {0: {}}}, "architecture 0 does not have the format"),
        ({"meta_archs": [CELL], "arch2infos": {0: None}}, "architecture 0 does not have the format"),
        ({"meta_archs": [3], "arch2infos": {0: {}}}, "architecture 0 does not have the format"),
    ],
)
def test_other_data_in_a_pth_file(document: Any, word: str, tmp_path: Path) -> None:
    torch.save(document, tmp_path / "api.pth")
    check_refused(tmp_path / "api.pth", "nasbench201", word)


def test_nasbench_macro_csv_and_json(tmp_path: Path, macro: Path) -> None:
    space = zcpt.get_space("nasbench-macro")
    runs = {"00000000": [80, 81, 85], "22222222": [81, 82, 86], "11111111": [82, 83, 87]}
    document = {text: {"test_acc": accuracies, "mean_acc": 1, "params": 2} for text, accuracies in runs.items()}
    (tmp_path / "macro.json").write_text(json.dumps(document))
    for path in (macro, tmp_path / "macro.json"):
        table = read_table(path, space)
        assert table.lookup(space.parse("22222222"), "cifar10") == 83
        assert table.lookup(space.parse("22222222"), "cifar10", "best-test") == 86
        assert table.lookup(space.parse("22222221"), "cifar10") is None
        assert table.summarize("cifar10") == {"architectures": 3, "best": 84, "mean": 83}


def make_cell(space: NasBench1Shot1, *operations: str) -> zcpt.Architecture:
    names = dict(zip(("node1", "node2", "node3"), operations, strict=True))
    kept: dict[str, tuple[str, ...]] = {f"{node}/operation": (name,) for node, name in names.items()}
    kept |= {"node3/parents": ("input", "1"), "output/parents": ("2", "3")}
    return space.architecture(kept)


def test_nasbench1shot1_is_looked_up_by_the_graph(tmp_path: Path) -> None:
    space = cast(NasBench1Shot1, zcpt.get_space("nasbench1shot1-1"))
    first = make_cell(space, "maxpool3x3", "conv3x3-bn-relu", "conv1x1-bn-relu")
    spec = space.to_spec(first)
    bits, ops = "a" + "".join(str(bit) for row in spec.matrix for bit in row), ",".join(spec.ops)
    rows = [["1", bits, ops, 90, 91, 95], ["2", "of another space", ops, 1, 1, 1]]
    table = read_table(write_csv(tmp_path / "t.csv.gz", ["space", "adj49", "ops", *RUNS], *rows), space)
    assert table.architectures == (first,)
    assert table.columns["cifar10", "test"].tolist() == [92.0]
    assert table.columns["cifar10", "best-test"].tolist() == [95.0]
    assert table.lookup(make_cell(space, "maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu"), "cifar10") == 92
    assert table.lookup(make_cell(space, "conv3x3-bn-relu", "maxpool3x3", "conv1x1-bn-relu"), "cifar10") is None
    # Any table of NAS-Bench-101: cells that are not in the space are left out.
    chain = "a" + "".join("1" if target == source + 1 else "0" for source in range(7) for target in range(7))
    rows = [[chain, ops, 1, 1, 1], [bits, ops, 90, 91, 95]]
    table = read_table(write_csv(tmp_path / "t.csv", ["adj49", "ops", *RUNS], *rows), space)
    assert table.architectures == (first,)
    check_refused(
        write_csv(tmp_path / "t.csv", ["adj49", "ops", *RUNS], rows[0]), space.name, "lists no architecture of space"
    )


def test_cells_of_darts_that_are_listed_twice_have_the_mean(tmp_path: Path) -> None:
    edges = "sep_conv_3x3~0;skip_connect~1;sep_conv_3x3~1;skip_connect~0;sep_conv_3x3~0;max_pool_3x3~1"
    edges += ";dil_conv_5x5~3;sep_conv_5x5~2"
    swapped = "skip_connect~1;sep_conv_3x3~0" + edges[len("sep_conv_3x3~0;skip_connect~1") :]
    columns = ["normal", "reduce", "nb301_surrogate_valid_acc_pct"]
    path = write_csv(tmp_path / "t.csv", columns, [edges, swapped, 94], [swapped, edges, 92])
    table = read_table(path, "darts")
    assert len(table) == 1
    assert table.lookup(table.architectures[0], "cifar10", "valid") == 93
    assert (table.size.channels, table.size.layers) == (32, 8)
    check_refused(
        write_csv(tmp_path / "t.csv", columns, [edges + ";x~1", edges, 9]), "darts", "line 2: 'normal' must be eight"
    )


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        (["arch", "c10_test_acc_200ep_pct"], [[CELL, 1]], ["line 1: there is no column 'arch_str', but arch, c10_"]),
        (["arch_str", "accuracy"], [[CELL, 1]], ["has no accuracies", "docs/benchmarks.md"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [], ["lists no architecture"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, 1, 2]], ["line 2: it has 3 fields, the header 2"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, "high"]], ["line 2: 'high' is no accuracy in percent"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, 0.5], ["|a~0|", 9]], ["line 3: '|a~0|' is not of the form"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [["", 9]], ["line 2: 'arch_str' is empty"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, 9], [CELL, 8]], ["line 3", "that of line 2"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, 120]], ["line 2: '120' is no accuracy"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, 0.94]], ["is more than 0.94 %: write percent, not fractions"]),
        (["arch_str", "c10_test_acc_200ep_pct"], [[CELL, "9" * 140_000]], ["line 2: it is no CSV (field larger"]),
        (["arch_str", "arch_str"], [[CELL, 94]], ["line 1: there are two columns 'arch_str'"]),
    ],
)
def test_errors_in_a_file_name_its_line(columns: Any, rows: Any, words: Any, tmp_path: Path) -> None:
    check_refused(write_csv(tmp_path / "t.csv", columns, *rows), "nasbench201", *words)


def test_byte_order_marks_and_blank_lines_of_spreadsheets_are_ignored(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["arch_str", "c10_test_acc_200ep_pct"], [CELL, 94])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n")
    assert read_table(path, "nasbench201").columns["cifar10", "test"].tolist() == [94.0]


def test_spaces_around_fields_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'"arch_str", "c10_test_acc_200ep_pct" ,note\n {CELL} , 94.5, "a, b"\n')
    assert read_table(path, "nasbench201").columns["cifar10", "test"].tolist() == [94.5]


@pytest.mark.parametrize(
    ("space", "suffix"), [("nasbench201", ".csv"), ("nasbench201", ".pth"), ("nasbench-macro", ".json")]
)
def test_a_folder_in_place_of_a_table_is_refused_with_its_files(space: str, suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / f"tables{suffix}"
    folder.mkdir()
    check_refused(folder, space, f"{folder} is a folder: give one file with --table; this folder has none.")
    for name in ("b.csv", "a.csv.gz", ".hidden"):
        (folder / name).write_text("")
    check_refused(folder, space, "it has a.csv.gz, b.csv.")


def test_cells_of_nasbench101_that_are_listed_twice_were_trained_twice(tmp_path: Path) -> None:
    space = cast(NasBench1Shot1, zcpt.get_space("nasbench1shot1-1"))
    one, three = "conv1x1-bn-relu", "conv3x3-bn-relu"
    both = [make_cell(space, "maxpool3x3", *convs) for convs in ((one, three), (three, one))]
    specs = [space.to_spec(architecture) for architecture in both]
    rows = [
        ["a" + "".join(str(bit) for row in spec.matrix for bit in row), ",".join(spec.ops), accuracy]
        for spec, accuracy in zip(specs, (90, 94), strict=True)
    ]
    table = read_table(write_csv(tmp_path / "t.csv", ["adj49", "ops", "test_acc_single_run_pct"], *rows), space)
    assert len(table) == 2
    for architecture in both:
        assert table.lookup(architecture, "cifar10") == 92
        assert table.lookup(architecture, "cifar10", "best-test") == 94


def test_invalid_accuracies_of_the_api_are_refused(tmp_path: Path) -> None:
    for wrong in (9000.0, math.nan):
        document = official(list)
        document["arch2infos"][0]["full"]["all_results"]["cifar10", 777]["eval_acc1es"]["ori-test@199"] = wrong
        torch.save(document, tmp_path / "api.pth")
        check_refused(tmp_path / "api.pth", "nasbench201", "is no accuracy in percent")
    (tmp_path / "text.pth").write_text("arch_str,c10_test_acc_200ep_pct")
    check_refused(tmp_path / "text.pth", "nasbench201", "cannot be read as plain data")
    (tmp_path / "macro.json").write_text('{"22222222": {"test_acc": "93"}}')
    check_refused(tmp_path / "macro.json", "nasbench-macro", "'93' is no list")


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.pth"):
        check_refused(tmp_path / name, "nasbench-macro" if name == "a.json" else "nasbench201", "there is no table")
    (tmp_path / "a.csv").write_bytes(b"\x1f\x8b cut short")
    check_refused(tmp_path / "a.csv", "nasbench201", "cannot be read as CSV")
    for text, word in (
        ("{", "not a complete JSON document (Expecting property name enclosed in double quotes, line 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"2": ' + "9" * 5000 + "}", "an integer of thousands of digits"),
        ("[]", "must map digits"),
        ('{"2": {}}', "must map digits"),
    ):
        (tmp_path / "a.json").write_text(text)
        check_refused(tmp_path / "a.json", "nasbench-macro", word)
    with pytest.raises(zcpt.ConfigError, match="unknown space with a benchmark 'proxyless'"):
        read_table(tmp_path / "a.csv", "proxyless")


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "space", "count", "key", "best", "mean", "text"),
    [
        ("nb201_accuracy", "nasbench201", 15625, ("cifar10", "test"), 94.373, 87.06, None),
        ("nb201_accuracy", "nasbench201", 15625, ("cifar100", "test"), 73.513, 61.41, None),
        ("nb201_accuracy", "nasbench201", 15625, ("imagenet16-120", "test"), 47.311, 33.59, None),
        ("nbmacro_c10", "nasbench-macro", 6561, ("cifar10", "test"), 93.127, 90.25, "22212202"),
        ("nb1shot1_spaces1_2", "nasbench1shot1-1", 2487, ("cifar10", "best-test"), 100 - 5.4487, None, None),
        ("nb1shot1_spaces1_2", "nasbench1shot1-1", 2487, ("cifar10", "test"), 100 - 5.7993, None, None),
        ("nb1shot1_spaces1_2", "nasbench1shot1-2", 3609, ("cifar10", "best-test"), 100 - 5.7792, None, None),
        ("nb1shot1_spaces1_2", "nasbench1shot1-2", 3609, ("cifar10", "test"), 100 - 6.0931, None, None),
        ("darts_nb301_zcproxies_naslib_early", "darts", 1218, ("cifar10", "valid"), None, None, None),
    ],
)
def test_published_optima_counts_and_means(
    file: str, space: str, count: int, key: Any, best: Any, mean: float | None, text: str | None, real_data: Path
) -> None:
    table = read_once(real_data / "tables" / f"{file}.csv.gz", space)
    about = table.summarize(*key)
    assert len(table) == about["architectures"] == count
    assert best is None or about["best"] == pytest.approx(best, abs=1e-3)
    assert mean is None or about["mean"] == pytest.approx(mean, abs=5e-3)
    architecture, accuracy = table.find_best(*key)
    assert text in (None, table.space.format(architecture))
    assert table.lookup(architecture, *key) == accuracy
    assert table.rank(accuracy, *key) == 1


def test_cells_are_different() -> None:
    assert len(set(cells(30))) == 30


@pytest.mark.parametrize("space", ["nasbench201", "nasbench-macro", "nasbench1shot1-1", "darts"])
def test_a_device_without_end_is_no_table(space: str) -> None:
    with pytest.raises(DataError, match="^/dev/zero is a device or a pipe, no file: give the file"):
        read_table("/dev/zero", space)
