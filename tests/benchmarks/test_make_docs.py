"""The pages of the documentation, and the results that their numbers come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import make_docs
from benchmarks.make_docs import TABLES
from zcpt.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = Path("page.md")


def test_every_page_has_the_numbers_of_the_results() -> None:
    pages = make_docs.render_pages(ROOT)
    outdated = [str(page.relative_to(ROOT)) for page, text in pages if not page.exists() or page.read_text() != text]
    assert not outdated, "run 'python benchmarks/make_docs.py' and commit what it writes"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_comes_from_results(name: str) -> None:
    assert TABLES[name]().strip()


def test_a_marker_within_a_sentence_takes_the_current_number() -> None:
    marker = "<!-- results:interval:nasbench201-cifar10-search -->"
    text = f"Searches find {marker}1<!-- /results --> on average."
    expected = f"Searches find {marker}94.21 [94.13, 94.29]<!-- /results --> on average."
    assert make_docs.fill_markers(text, PAGE) == expected
    assert make_docs.fill_markers(expected, PAGE) == expected


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("differing:plain", "none of 2,710"),
        ("differing:bf16", "1 of 240"),
        ("largest-gap:bf16", "4.6e-4"),
        ("largest-difference:plain", "3.2e-4"),
        ("spearman:nasbench201-cifar10-proxies-100 grasp", "-0.29"),
        ("proposals:nasbench-macro-search", "40"),
        ("better:nasbench-macro-search", "20"),
    ],
)
def test_numbers_of_a_sentence_come_from_results(name: str, number: str) -> None:
    assert make_docs.render_fragment(name, PAGE) == number


def test_a_table_stands_in_a_paragraph_of_its_own() -> None:
    text = make_docs.fill_markers("<!-- results:orders -->\nold\n<!-- /results -->\n", PAGE)
    lines = text.splitlines()
    assert lines[:2] == ["<!-- results:orders -->", ""]
    assert lines[-2:] == ["", "<!-- /results -->"]
    assert "old" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results:order -->1<!-- /results -->", "did you mean 'orders'"),
        ("<!-- results:men:nasbench201-cifar10-search -->1<!-- /results -->", "did you mean 'mean'"),
        ("<!-- results:mean:nasbench301 -->1<!-- /results -->", "there is no result"),
        ("<!-- results:spearman:nasbench201-cifar10-proxies snap -->1<!-- /results -->", "no such number"),
        ("<!-- results:differing:bf17 -->1<!-- /results -->", "no such number"),
        ("<!-- results:orders -->1", "not closed"),
        ("1<!-- /results -->", "not closed"),
    ],
)
def test_a_wrong_marker_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_docs.fill_markers(text, PAGE)


def test_a_page_that_disagrees_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- results:orders-variance -->0.00<!-- /results -->")
    ((page, text),) = make_docs.render_pages(tmp_path)
    assert page.read_text() != text
    assert TABLES["orders-variance"]() in text


def test_results_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in (ROOT / "benchmarks" / "results").rglob("*") if path.is_file()}
    assert max(sizes.values()) <= 150_000
    assert sum(sizes.values()) <= 3_000_000
