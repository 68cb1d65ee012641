"""docs/proxies.md says of each proxy what it declares."""

from pathlib import Path

import zcpt
from tests.conftest import PROXIES
from zcpt.cli.list_names import describe_proxy

PAGE = Path(__file__).parents[3] / "docs" / "proxies.md"


def row(name):
    better, cost, norms, needs, measures = describe_proxy(zcpt.get_proxy(name))
    cells = (f"`{name}`", measures.replace("|", "\\|"), better, needs, norms, cost)
    return f"| {' | '.join(cells)} |"


def test_the_table_has_a_row_for_each_proxy():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert lines == [row(name) for name in PROXIES], "the table should be:\n" + "\n".join(map(row, PROXIES))
