"""Names of the operations of the stand-in for pt.darts, in a module that the others import as a module."""

from __future__ import annotations

PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
