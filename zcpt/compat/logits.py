"""Find the logits in what a network returns: in a tensor, a tuple, a mapping or an object with ``logits``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Path = tuple[Any, ...]
"""Keys, indices or names of attributes that lead to a part of an output; empty for the output itself."""


def get_part(output: Any, path: Path) -> Any:
    """Return a part of an output."""
    for key in path:
        output = getattr(output, key) if isinstance(key, str) and not isinstance(output, Mapping) else output[key]
    return output


class LogitsFinder:
    """Finds the logits among several parts of an output.

    A network may return (logits, logits of an auxiliary head), as discrete networks of DARTS, or (features, logits), as
    in AutoDL-Projects and confopt. So the place does not tell. Logits are the output of a linear layer, and no linear
    layer reads them.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    @contextmanager
    def watch_layers(self) -> Iterator[None]:
        """Watch the linear layers during a forward pass."""

        def record(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            self._inputs += [each for each in given if isinstance(each, Tensor)]
            self._outputs.append(output)

        layers = [module for module in self._network.modules() if isinstance(module, nn.Linear)]
        hooks = [layer.register_forward_hook(record) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def find_logits(self, output: Any, images: int) -> Path | None:
        """Return the path to the logits; None if no part is known to be the logits.

        Args:
            output: What the network returned in a forward pass that was watched.
            images: Number of images of this pass.
        """
        parts = dict(_list_parts(output))
        if () in parts or not parts:
            return () if () in parts and _is_matrix(parts[()], images) else None
        named = [path for path in parts if path == ("logits",)]
        matrices = [path for path, part in parts.items() if _is_matrix(part, images)]
        if named or len(matrices) == 1:
            (path, *_) = named or matrices
            return path if path in matrices else None
        classified = [path for path in matrices if _is_among(parts[path], self._outputs)]
        last = [path for path in classified if not _is_among(parts[path], self._inputs)]
        # Several of them are those of the classifier and of auxiliary heads, and the classifier's come first.
        return last[0] if last else None


def describe_output(output: Any) -> str:
    """Describe what a network returned, for a message."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {list(output.shape)}"
    shapes = [f"{path[0]!r}: {list(part.shape)}" for path, part in _list_parts(output)]
    return f"a {type(output).__name__}" + (f" with tensors {{{', '.join(shapes)}}}" if shapes else "")


def _list_parts(output: Any) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(output, Tensor):
        yield (), output
    elif isinstance(output, Mapping):
        yield from (((key,), part) for key, part in output.items() if isinstance(part, Tensor))
    elif isinstance(getattr(output, "logits", None), Tensor):
        yield ("logits",), output.logits
    elif isinstance(output, list | tuple):
        yield from (((index,), part) for index, part in enumerate(output) if isinstance(part, Tensor))


def _is_matrix(tensor: Tensor, images: int) -> bool:
    return tensor.ndim == 2 and len(tensor) == images and tensor.is_floating_point()


def _is_among(tensor: Tensor, others: list[Tensor]) -> bool:
    return any(tensor is other for other in others)
