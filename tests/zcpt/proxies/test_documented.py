"""The table in docs/proxies.md agrees with the declarations of the proxies."""

from __future__ import annotations

from pathlib import Path

import zcpt
from tests.conftest import PROXIES
from zcpt.cli.list_names import describe_proxy

PAGE = Path(__file__).parents[3] / "docs" / "proxies.md"


def format_row(name: str) -> str:
    better, cost, norms, needs, measures = describe_proxy(zcpt.get_proxy(name))
    cells = (f"`{name}`", measures.replace("|", "\\|"), better, needs, norms, cost)
    return f"| {' | '.join(cells)} |"


def test_the_table_has_a_row_for_each_proxy() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert lines == [format_row(name) for name in PROXIES], "the table should be:\n" + "\n".join(
        map(format_row, PROXIES)
    )
