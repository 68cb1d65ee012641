"""The criterion behind ``--proxy auto``: one for each stage, chosen by the measurements in docs/defaults.md."""

from __future__ import annotations

from typing import Literal

Use = Literal["operations", "validation"]
"""Stage of a search that a criterion serves: operations of a supernet (stage 1), or discrete networks (stage 2)."""

AUTO: dict[Use, str] = {"operations": "naswot", "validation": "naswot"}
"""The proxy or aggregate that measured best for each use."""


def resolve_auto(name: str, use: Use) -> str:
    """Return the name of a criterion, with 'auto' replaced by the one for that use."""
    return AUTO[use] if name == "auto" else name
