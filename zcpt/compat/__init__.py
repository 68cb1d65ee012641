"""For code that is written for DARTS: its names (``zcpt.compat.darts``), and a selection step for its networks."""

from zcpt.compat.selection import select

__all__ = ["select"]
