"""Which proxy ``--proxy auto`` stands for: one for each use, by what docs/defaults.md measures."""

from __future__ import annotations

from typing import Literal

Use = Literal["operations", "validation"]
"""Scoring the operations of a supernet (stage 1), or discrete networks (stage 2)."""

AUTO: dict[Use, str] = {"operations": "naswot", "validation": "naswot"}
"""For each use the proxy or the aggregate that was measured to serve it best."""


def resolve_auto(name: str, use: Use) -> str:
    """The name of a proxy or an aggregate, where it may be 'auto'."""
    return AUTO[use] if name == "auto" else name
