"""The worked example of docs/engine.md."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[4] / "docs" / "engine.md"


def test_the_script_of_the_engine_page_prints_its_listing() -> None:
    script, listing = re.findall(r"```(?:python|text)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(script, {})
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == listing.splitlines()
