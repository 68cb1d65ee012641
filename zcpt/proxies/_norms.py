"""Normalisation layers in another mode than the network's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.nn import functional as F

from zcpt.proxies._intercept import intercept
from zcpt.proxies._registry import NormMode

_NORM_FUNCTIONS = frozenset(
    {F.batch_norm, F.instance_norm, F.layer_norm, F.group_norm, F.rms_norm, F.local_response_norm}
)
_BATCH_STATISTICS = {F.batch_norm: (5, "training"), F.instance_norm: (5, "use_input_stats")}
"""Position and name of the argument that, if True, makes a function normalise by the statistics of its input."""


def norm_mode(mode: NormMode) -> AbstractContextManager[object]:
    """Return a context in which normalisation layers of a network in evaluation mode work in another mode.

    It changes functions, not modules, because some modules do more than normalise (timm's BatchNormAct2d), and some
    forward passes call ``F.batch_norm`` directly. Norms written out in sums and products are not recognised.

    Args:
        mode: ``"batch"``: BatchNorms and InstanceNorms use the statistics of their input. ``"bypassed"``: every norm
            returns its input. Any other mode changes nothing.
    """
    if mode == "bypassed":
        return intercept(_return_input)
    return intercept(_use_batch_statistics) if mode == "batch" else nullcontext()


def _use_batch_statistics(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function in _BATCH_STATISTICS:
        position, name = _BATCH_STATISTICS[function]
        if len(args) > position:
            args = (*args[:position], True, *args[position + 1 :])
        else:
            kwargs = {**kwargs, name: True}
    return function(*args, **kwargs)


def _return_input(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function in _NORM_FUNCTIONS:
        return args[0] if args else kwargs["input"]
    return function(*args, **kwargs)
