"""The Python examples of docs/operation-scores.md, run in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import zcpt

PAGE = Path(__file__).parents[3] / "docs" / "operation-scores.md"


def test_the_examples_run_and_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    names: dict[str, Any] = {}
    for example in examples:
        smaller = example.replace("channels=16, layers=5", "channels=4, layers=1").replace("(64", "(4")
        exec(compile(smaller, str(PAGE), "exec"), names)
    shown = re.search(r"# \[(.*?)\]", examples[0])
    assert shown
    assert names["values"] == pytest.approx([float(value) for value in shown[1].split(",")], abs=0.005)
    choice = zcpt.get_space("nasbench201").choices[0]
    assert len(names["importances"]["node1/edge0"]) == len(choice.selectable) == 5
