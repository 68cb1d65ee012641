"""A search that is extended ends as one that had the larger size from the start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import Hashed
from tests.zcpt.search.conftest import run_small_search
from zcpt import ConfigError


@zcpt.register_proxy
class HashedAgain(Hashed):
    """Another cheap proxy, for an aggregate."""

    name = "hashed_again"

    def score(self, net: Any, batch: zcpt.Batch, mixture: zcpt.Mixture | None) -> float:
        return super().score(net, batch, mixture) * 7919 % 1


SMALL: dict[str, Any] = {"proposals": 2, "validation_batches": 3, "validation_inits": 2}
AGGREGATE = {"proxy": "log_rank:hashed+hashed_again"}
SIZES = [
    {"proposals": 5},
    {"validation_batches": 7},
    {"proposals": 4, "validation_batches": 6},
    {"proposals": 1},
    {"proposals": 3, "validation_batches": 1},
]
"""Sizes after an extension; where one is smaller than in SMALL, the search began with that."""


def run_search(pictures: TensorDataset, run: Path, **options: Any) -> zcpt.SearchResult:
    return run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, **options)[0]


def read_result(run: Path) -> list[Any]:
    return [(run / name).read_text() for name in ("architecture.json", "genotype.txt")] + [
        json.loads((run / "proposals.json").read_text())
    ]


def assert_same_result(one: Path, other: Path) -> None:
    assert read_result(one) == read_result(other)
    for path in (other / "journal").glob("proposal_*"):
        lines = [[json.loads(line) for line in (run / "journal" / path.name).open()] for run in (one, other)]
        for record in (record for rows in lines for record in rows):
            record["seconds"] = 0
        assert lines[0] == lines[1]


@pytest.mark.parametrize(("kind", "size"), [*(({"proxy": "hashed"}, size) for size in SIZES), (AGGREGATE, SIZES[2])])
def test_an_extended_search_ends_as_one_of_that_size(
    kind: dict[str, Any], size: dict[str, int], pictures: TensorDataset, tmp_path: Path
) -> None:
    first = {name: min(value, size.get(name, value)) for name, value in SMALL.items()}
    last = {name: max(value, size.get(name, value)) for name, value in SMALL.items()}
    run_search(pictures, tmp_path / "run", **{**SMALL, **kind, **first})
    result = run_search(pictures, tmp_path / "run", resume=True, **{**SMALL, **kind, **last})
    whole = run_search(pictures, tmp_path / "whole", **{**SMALL, **kind, **last})
    assert result.architecture == whole.architecture
    assert result.candidates == whole.candidates
    assert_same_result(tmp_path / "run", tmp_path / "whole")
    assert zcpt.replay(tmp_path / "run", pictures).difference == ""
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    sizes = {name: first[name] for name in ("proposals", "validation_batches")}
    assert settings["extended"] == [{**sizes, "finalists": 0}]


def test_an_extension_that_is_stopped_anywhere_ends_the_same(pictures: TensorDataset, tmp_path: Path) -> None:
    """Extend twice, cut the journal anywhere between, as a kill does, and resume."""
    options = {**SMALL, "proxy": "hashed"}
    sizes = [{"proposals": 4}, {"proposals": 6, "validation_batches": 5}]
    run_search(pictures, tmp_path / "first", **options)
    run_search(pictures, tmp_path / "whole", **{**options, **sizes[1]})
    lines = (tmp_path / "first" / "journal" / "validation.jsonl").read_text().splitlines(keepends=True)
    for kept in (0, 1, len(lines)):
        run = shutil.copytree(tmp_path / "first", tmp_path / str(kept))
        (run / "journal" / "validation.jsonl").write_text("".join(lines[:kept]))
        run_search(pictures, run, resume=True, **{**options, **sizes[0]})
        grown = (run / "journal" / "validation.jsonl").read_text().splitlines(keepends=True)
        (run / "journal" / "validation.jsonl").write_text("".join(grown[: max(kept, len(grown) - 1)]))
        run_search(pictures, run, resume=True, **{**options, **sizes[1]})
        assert_same_result(run, tmp_path / "whole")


def test_a_search_does_not_shrink_and_changes_nothing_else(pictures: TensorDataset, tmp_path: Path) -> None:
    options = {**SMALL, "proxy": "hashed"}
    run = tmp_path / "run"
    run_search(pictures, run, **options)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for changes, complaint in [
        ({"proposals": 1}, "has --proposals 2 already: give 2 or more to extend it"),
        ({"validation_batches": 2, "proposals": 9}, "has --validation-batches 3 already"),
        ({"proposals": 9, "seed": 1}, "its seed is 0, not 1"),
        ({"proposals": 9, "validation_inits": 3}, "its validation_inits is 2, not 3"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            run_search(pictures, run, resume=True, **{**options, **changes})
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_extension_that_is_not_finished_is_not_replayed(pictures: TensorDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_search(pictures, run, **{**SMALL, "proxy": "hashed"})
    document = json.loads((run / "config.json").read_text())
    document["search"]["proposals"] = 3  # as a kill leaves it
    document["extended"] = [{"proposals": 2, "validation_batches": 3}]
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="is not finished: resume it"):
        zcpt.replay(run, pictures)
