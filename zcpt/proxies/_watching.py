"""Watching the torch functions that a network calls, whether its modules call them or its forward pass does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zcpt.errors import ProxyError

_RELUS = frozenset(
    {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
)  # nn.ReLU and nn.ReLU6 call these, or F.hardtanh
_GLOBAL = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_max_pool2d", "mean", "amax"})
_ROUNDING = 1e-5
_OF_TOKENS = frozenset({F.linear, F.layer_norm})


class _Calls(TorchFunctionMode):
    """Shows every call with what it gives; what ``see`` returns takes the place of that."""

    def __init__(self, see: Callable[[Any, Any, Mapping[str, Any], Any], Any]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        return self._see(func, args[0] if args else kwargs.get("input"), kwargs, func(*args, **kwargs))


@contextmanager
def watching_relus(see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show what every ReLU and ReLU6 gives on maps [B, C, H, W], modules and functions alike.

    What ``see`` returns takes the place of that; a ReLU that is run twice is shown twice.
    """

    def called(func: Any, read: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        relu = func in _RELUS or (func is F.hardtanh and kwargs.get("min_val") == 0)
        replaced = see(output) if relu and output.ndim == 4 else None
        return output if replaced is None else replaced

    with _Calls(called):
        yield


def no_relus(net: nn.Module, proxy: str) -> ProxyError:
    """The error of a network in which ``watching_relus`` saw nothing."""
    return ProxyError(
        f"proxy '{proxy}' looks at what ReLUs give on feature maps, and no ReLU or ReLU6 ran on any in "
        f"{type(net).__name__}: use a convolutional network with ReLUs."
    )


class LastMaps:
    """Finds the feature maps that a network pools, or flattens, to classify an image.

    They are what the last function reads that reads maps of more than one pixel, or pools maps however small; in a
    network without pooling whose maps shrink to one pixel, they are what is flattened. What comes after the pooling and
    is no larger than a number for each channel is none, though a LayerNorm may have its channels where pixels are.
    """

    def __init__(self, images: Tensor) -> None:
        self._size = len(images)
        self._maps: Tensor | None = None
        self._features: Tensor | None = None
        self._pooled = self._tokens = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch a forward pass."""
        with _Calls(self._see):
            yield

    def _see(self, func: Any, read: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        read = read[0] if isinstance(read, tuple | list) and read else read
        if not isinstance(read, Tensor) or not isinstance(output, Tensor) or not read.is_floating_point():
            return output
        if read.ndim == 4 and len(read) == self._size:
            name = getattr(func, "__name__", "")
            pools = name in _GLOBAL or (name == "avg_pool2d" and output.shape[2:].numel() == 1)
            flattens = output.ndim < 4 and not self._pooled
            after = self._pooled and self._maps is not None and read.numel() <= self._maps.shape[:2].numel()
            if pools or flattens or (read.shape[2:].numel() > 1 and not after):
                self._maps, self._pooled, self._tokens, self._features = read, pools, False, None
        elif read.ndim == 3 and func in _OF_TOKENS:
            self._tokens = True
        elif read.ndim == 2 and func is F.linear and self._features is None:
            self._features = read
        return output

    def averaged_away(self) -> bool:
        """Whether nothing but rounding is left of the maps in what the first linear layer after them reads."""
        if self._maps is None or self._features is None or self._tokens:
            return False
        return bool(self._features.abs().max() <= _ROUNDING * self._maps.abs().max())

    def found(self, net: nn.Module, proxy: str) -> Tensor:
        """The maps [B, C, H, W].

        Raises:
            ProxyError: There are none, or the network makes tokens of them, as vision transformers do.
        """
        if self._maps is None or self._tokens:
            raise ProxyError(
                f"proxy '{proxy}' looks at the feature maps before the global pooling, and {type(net).__name__} has "
                "none: use a convolutional network."
            )
        return self._maps
