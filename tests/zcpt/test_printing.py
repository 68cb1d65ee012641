"""Names with any character, on one line and without effect on terminals and shells."""

from __future__ import annotations

import io
import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcpt.errors import describe_unknown_name
from zcpt.printing import escape_text, print_lines, quote_words, shorten

NAMES = [
    "runs/a",
    "a b",
    "it's",
    "$(touch owned)",
    "`touch owned`",
    "a; touch owned",
    "a\nnext          python -m zcpt train --arch b; touch owned",
    "a\rb",
    "\x1b[2Jb",
    "\x1b]0;title\x07",
    "tab\tb",
    "a\\nb",
    "a\\\n'b",
    "\u202etxt.exe",
    "\u2028x",
    "größe",
    os.fsdecode(b"\xff\xfe"),
    "-n",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shown_name_is_printable_and_a_quoted_one_is_the_same_word_for_a_shell(name: str) -> None:
    assert escape_text(name).isprintable()
    quoted = quote_words(["printf", "%s", name])
    assert quoted.isprintable()
    done = subprocess.run(["bash", "-c", quoted], capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.stdout == os.fsencode(name)


@given(st.text())
def test_printable_texts_stay_as_they_are(text: str) -> None:
    assert (escape_text(text) == text) == text.isprintable()
    if text.isprintable():
        assert quote_words([text]) == shlex.quote(text)


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert escape_text(os.fsdecode(b"a\xffb")) == r"a\xffb"
    assert escape_text("\x1b\n\u202e") == r"\x1b\n\u202e"


def test_what_the_output_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", output)
    print_lines("größe", "a\nb", "\udcff")
    output.seek(0)
    assert output.read() == "gr\\xf6\\xdfe\na\\nb\n\\xff\n"


def test_lines_end_with_one_newline(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("a", "b")
    assert capsys.readouterr().out == "a\nb\n"


def test_a_text_in_a_message_is_on_one_line_and_short() -> None:
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 57 + "..."
    assert shorten("\n" * 10**6) == "\\n" * 28 + "\\..."
    assert len(describe_unknown_name("proxy", "\x1b" * 10**6, ["naswot"])) < 200
