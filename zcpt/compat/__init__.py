"""Compatibility with DARTS code: its names (``zcpt.compat.darts``), and ``select`` for its search networks."""

from zcpt.compat.selection import select

__all__ = ["select"]
