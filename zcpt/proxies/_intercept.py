"""Interception of what a network calls while it runs: torch functions, and modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Receives a torch function with its positional and keyword arguments, and returns the result of the call."""


def intercept(handler: Handler) -> AbstractContextManager[object]:
    """Return a context in which ``handler`` replaces every call of a torch function.

    Use it where hooks on modules would miss calls: some forward passes call ``F.relu`` or ``F.batch_norm`` directly,
    and some modules do more than the function of interest (timm's BatchNormAct2d normalises and then activates).

    Args:
        handler: Called as ``handler(function, args, kwargs)``; its result is the result of the call. It usually calls
            ``function`` itself. Calls inside the handler are not intercepted again.

    Example: run a network with ReLU in place of SiLU.

        >>> with intercept(lambda f, args, kwargs: F.relu(args[0]) if f is F.silu else f(*args, **kwargs)):
        ...     net(images)
    """
    return _Interceptor(handler)


class _Interceptor(TorchFunctionMode):
    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._handler(func, args, kwargs or {})


@contextmanager
def hook_modules(
    modules: Iterable[nn.Module],
    *,
    before: Callable[[nn.Module, tuple[Any, ...]], Any] | None = None,
    after: Callable[[nn.Module, tuple[Any, ...], Any], Any] | None = None,
) -> Iterator[None]:
    """Register hooks on modules for the duration of a context.

    A hook that keeps a tensor has to return a clone of it for the network to continue with: an in-place operation may
    come next and would change the kept one.

    Args:
        modules: Modules to hook.
        before: Called as ``before(module, inputs)``; a tuple that it returns replaces the inputs.
        after: Called as ``after(module, inputs, output)``; anything but None that it returns replaces the output.
    """
    handles = []
    try:
        for module in modules:
            if before is not None:
                handles.append(module.register_forward_pre_hook(before))
            if after is not None:
                handles.append(module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()
