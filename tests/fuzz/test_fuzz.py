"""Random inputs: each is read or refused by one sentence."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcpt
from zcpt.errors import ZcptError
from zcpt.files import parse_json
from zcpt.notation import find_calls, read_literal

ROOT = Path(__file__).parents[2]


def fuzz(seed: int, seconds: int, inputs: int = 10**9) -> int:
    """Fuzz in a process of its own; return the number of inputs."""
    limits = ["--seed", str(seed), "--seconds", str(seconds), "--inputs", str(inputs)]
    words = [sys.executable, "-m", "tests.fuzz", *limits]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    count = re.search(r"(\d+) inputs in", done.stdout)
    assert count, done.stdout
    return int(count[1])


def test_random_inputs_are_read_or_refused_for_some_seconds() -> None:
    assert fuzz(seed=0, seconds=8) > 30


@pytest.mark.slow  # about ten minutes
def test_twenty_thousand_random_inputs_are_read_or_refused() -> None:
    assert fuzz(seed=1, seconds=3000, inputs=20_000) == 20_000


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18) + 1, 10**18 - 1) | st.text(max_size=9),
    lambda items: st.lists(items, max_size=4) | st.dictionaries(st.text(max_size=5), items, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(documents)
def test_every_literal_is_read_back(document: object) -> None:
    assert read_literal(repr(document)) == document


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=40), st.binary(max_size=40))
def test_any_text_is_read_or_refused(text: str, content: bytes) -> None:
    for read in (read_literal, zcpt.Architecture.from_json, lambda given: parse_json(content, "x")):
        with contextlib.suppress(ZcptError):
            read(text)
    find_calls(f"F({text}", "F")
