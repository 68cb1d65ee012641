"""Versions that results may depend on."""

from __future__ import annotations

import platform

import torch

from zcpt._version import __version__


def get_versions() -> dict[str, str]:
    """Return the versions that run folders, checkpoints and latency tables record."""
    return {"zcpt": __version__, "torch": torch.__version__, "python": platform.python_version()}
