"""What is shown to the user: names that may hold any character, commands to be typed, and answers.

A folder may be called ``a<newline>next rm -rf ~`` or hold escape sequences of a terminal. So all names pass through
this module before they are shown.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_text(text: str) -> str:
    r"""Return a text on one line, with all characters that are not printable as ``\n``, ``\x1b``, ``\u202e``.

    Bytes of a file's name that are no UTF-8, which Python keeps as lone surrogates, are shown as bytes: ``\xff``.
    """
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(character, short)


def shorten(value: object, limit: int = 60) -> str:
    """Return a value for a message, escaped and cut to ``limit`` characters."""
    try:
        text = str(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        text = "an integer of thousands of digits"
    # Only what can be shown is escaped: the text may have millions of characters.
    shown = escape_text(text[: limit + 1])
    return shown if len(text) <= limit and len(shown) <= limit else shown[: limit - 3] + "..."


def quote_words(words: Iterable[str]) -> str:
    r"""Return a command that a shell splits into these words, on one line of printable characters.

    A word with other characters is written as ``$'a\nb'``, which bash, zsh and ksh read.
    """
    return " ".join(map(_quote_word, words))


def _quote_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + escape_text(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def print_lines(*lines: str) -> None:
    """Print the answer of a command: each text on one line of the standard output.

    Characters that the output cannot encode are escaped.
    """
    text = "".join(f"{escape_text(line)}\n" for line in lines)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
