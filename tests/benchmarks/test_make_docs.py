"""The pages of the documentation, and the results that their numbers come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import make_docs
from benchmarks.fragments import FRAGMENTS
from zcpt.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = Path("page.md")


def test_every_page_has_the_numbers_of_the_results() -> None:
    outdated = [str(page.relative_to(ROOT)) for page, text in make_docs.render_pages(ROOT) if page.read_text() != text]
    assert not outdated, "run 'python benchmarks/make_docs.py' and commit what it writes"


@pytest.mark.parametrize("name", FRAGMENTS)
def test_every_number_comes_from_a_result(name: str) -> None:
    assert FRAGMENTS[name]().strip()


def test_a_marker_within_a_sentence_takes_the_current_number() -> None:
    text = "Searches find <!-- results:headline -->1 %<!-- /results --> of it."
    expected = f"Searches find <!-- results:headline -->{FRAGMENTS['headline']()}<!-- /results --> of it."
    assert make_docs.fill_markers(text, PAGE) == expected
    assert make_docs.fill_markers(expected, PAGE) == expected


def test_a_table_stands_in_a_paragraph_of_its_own() -> None:
    text = make_docs.fill_markers("<!-- results:orders -->\nold\n<!-- /results -->\n", PAGE)
    lines = text.splitlines()
    assert lines[:2] == ["<!-- results:orders -->", ""]
    assert lines[-2:] == ["", "<!-- /results -->"]
    assert "old" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results:headlin -->1<!-- /results -->", "did you mean 'headline'"),
        ("<!-- results:headline -->1", "not closed"),
        ("1<!-- /results -->", "not closed"),
    ],
)
def test_a_wrong_marker_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_docs.fill_markers(text, PAGE)


def test_a_page_that_disagrees_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- results:headline -->0.00<!-- /results -->")
    ((page, text),) = make_docs.render_pages(tmp_path)
    assert page.read_text() != text
    assert FRAGMENTS["headline"]() in text
