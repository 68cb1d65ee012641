"""Mutations of texts, bytes and documents, each a function of a random generator."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

TOKENS = (
    *("", "0", "1", "-1", "2", "1.5", "1e999", "-1e-999", "NaN", "Infinity", "nan", "inf", "null", "true", "None"),
    *("9" * 5_000, "1" + 40 * "0", "9223372036854775808", "0x10", "1_000", "٣", "²", "1e3", "+1", " 1 ", "600M", "1k"),
    *("é", "\udcff", "\x1b[31m", "\u202e", "\ufeff", "\0", "\n", "a\nb", '"', "'", "\\", "$(touch pwned)", "-", "--"),
    *(100_000 * "[", 50_000 * '{"a":', "(" * 5_000, "../../x", "/dev/null", "/dev/zero", "~", "~no", ".", 300 * "x"),
    *("digits", "cifar10", "folder:.", "folder:", "darts", "nasbench201", "naswot", "naswat", "paper", "cpu"),
    *("cuda", "meta", "cuda:99", "hpu", "fixed", "global-op-once", "8x8", "0x0", "a,b", ",", "0,1,2", "digits.json"),
)  # fmt: skip
"""Values that readers of numbers, names, paths and documents meet in the wild."""


def draw_token(random: Random) -> str:
    """Draw one of the tokens; very long ones seldom."""
    token = random.choice(TOKENS)
    return token if len(token) < 1000 or random.random() < 0.2 else random.choice(TOKENS[:20])


def mutate_bytes(random: Random, content: bytes) -> bytes:
    """Change one to three places of a file."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        size = len(content)
        start = random.randrange(size + 1)
        end = min(size, start + random.choice((1, 1, 4, 30, size)))
        token = draw_token(random).encode("utf-8", "surrogateescape")
        kind = random.randrange(8)
        if kind == 0 and size:
            place = random.randrange(size)
            content = content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]
        elif kind == 1:
            content = content[:start]
        elif kind == 2:
            content = content[:start] + content[end:]
        elif kind == 3:
            content = content[:start] + content[start:end] * 2 + content[end:]
        elif kind == 4:
            content = content[:start] + token + content[start:]
        elif kind == 5:
            content = content[:start] + random.randbytes(random.randrange(20)) + content[end:]
        else:
            words = list(re.finditer(rb"-?[0-9.]+|[A-Za-z_][\w-]*|\"[^\"]*\"", content))
            if words:
                word = random.choice(words)
                content = content[: word.start()] + token + content[word.end() :]
    return content


def mutate_text(random: Random, text: str) -> str:
    """Change one to three places of a text."""
    return mutate_bytes(random, text.encode()).decode("utf-8", "surrogateescape")


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 10**40, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "0"),
    *([], [1], ["x"], [[]], {}, {"a": 1}, "\x1b[31m", "../../x", "/dev/null", {"$float": "nan"}, {"$float": "x"}),
)  # fmt: skip


def mutate_document(random: Random, document: Any) -> Any:
    """Change one value, key or item at a random place of a JSON document."""
    places = list(_list_places(document))
    if not places:
        return random.choice(VALUES)
    parent, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[f"{key}_of_a_newer_version"] = random.choice(VALUES)
    elif kind == 1:
        parent.insert(random.randrange(len(parent) + 1), random.choice(VALUES))
    elif kind == 2 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = random.choice(VALUES)
    return document


def _list_places(document: Any) -> Any:
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from _list_places(document[key])


def mutate_file(random: Random, content: bytes) -> bytes:
    """Change a file: as bytes, or one of its lines or the whole as a JSON document."""
    if random.random() < 0.5:
        return mutate_bytes(random, content)
    lines = content.splitlines(keepends=True)
    line = random.randrange(len(lines)) if len(lines) > 0 and random.random() < 0.5 else None
    try:
        document = json.loads(content if line is None else lines[line])
    except ValueError:
        return mutate_bytes(random, content)
    changed = json.dumps(mutate_document(random, document)).encode() + b"\n"
    return changed if line is None else b"".join([*lines[:line], changed, *lines[line + 1 :]])
