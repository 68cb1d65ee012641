"""How results and spaces show themselves in a shell and in a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import MORE, random_architecture
from zcpt.search import SearchConfig, SearchResult, ValidatedArchitecture
from zcpt.space import SearchSpace


def make_result(space: SearchSpace, run_dir: Path | None = None) -> SearchResult:
    architectures = [random_architecture(space, seed) for seed in range(2)]
    candidates = (
        ValidatedArchitecture(architectures[0], (0, 2), (1.0, 2.0)), ValidatedArchitecture(architectures[1], (1,), ())
    )  # fmt: skip
    return SearchResult(architectures[0], candidates, SearchConfig(), run_dir)


@pytest.mark.few_spaces(*MORE)
def test_a_result_of_any_space_is_one_short_line_and_a_picture_with_a_table(space: SearchSpace) -> None:
    result = make_result(space, Path("runs/<a>\n"))
    assert repr(result) == f"<SearchResult of {space.name}: 2 distinct of 3 proposals, run folder runs/<a>\\n>"
    assert repr(result.candidates[0]) == "<ValidatedArchitecture of proposals 0, 2, mean score 1.50>"
    assert repr(result.candidates[1]) == "<ValidatedArchitecture of proposals 1>"
    shown = result._repr_html_()
    assert "runs/&lt;a&gt;" in shown
    assert "data:image/png;base64,iVBOR" in shown
    assert re.findall("<td>(.*?)</td>", shown) == ["0, 2", "1.50", "yes", "1", "", ""]


def test_a_result_of_a_space_that_is_not_registered_has_no_picture() -> None:
    result = make_result(zcpt.get_space("nasbench201"))
    foreign = replace(result, architecture=zcpt.Architecture("gone", {"a": ("b",)}))
    assert "<img" not in foreign._repr_html_()
    assert "<table>" in foreign._repr_html_()


def test_a_space_is_one_short_line(space: SearchSpace) -> None:
    assert repr(space) == f"<{type(space).__name__} space '{space.name}' with {len(space.choices)} choices>"


def test_a_finished_search_shows_its_result(pictures: TensorDataset) -> None:
    options: dict[str, Any] = {"proxy": "hashed", "proposals": 1, "batch_size": 4, "channels": 2, "layers": 1}
    result = zcpt.search("nasbench201", pictures, num_classes=10, validation_batch_size=4, **options)
    assert repr(result) == "<SearchResult of nasbench201: 1 distinct of 1 proposal>"
    assert result._repr_html_().count("<img") == 1
