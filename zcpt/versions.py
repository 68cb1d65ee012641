"""Versions that results may depend on."""

from __future__ import annotations

import platform

import torch

from zcpt._version import __version__


def get_versions() -> dict[str, str]:
    """What run folders, weights and latency tables note of the software that made them."""
    return {"zcpt": __version__, "torch": torch.__version__, "python": platform.python_version()}
