"""What trial forward passes tell of a search network: its own weights, shapes, and where the logits are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.compat.inspection import MixedEdge, SearchNetworkStructure, unsupported
from zcpt.compat.logits import LogitsFinder, Path, describe_output, get_part
from zcpt.compat.steering import MethodCall, MethodReplacer, Steering, reseed
from zcpt.errors import ConfigError

_SAMPLING_PASSES = 3
"""Forward passes that are compared to tell weights that are always 0 from operations that are sampled."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observation:
    """What trial forward passes of a search network showed."""

    available: dict[str, tuple[str, ...]]
    """Name of an edge's choice -> operations that the network itself does not weigh with exactly 0."""
    shapes: dict[int, torch.Size]
    """Number of a mixer -> shape [C, H, W] of its output."""
    logits: Path
    """Path to the logits in the network's output."""
    num_classes: int


def place_images(network: nn.Module, images: Tensor) -> Tensor:
    """Move images to the device and type of a network.

    They are contiguous: code that flattens with ``view``, as DARTS does, may fail on channels-last images.
    """
    return images.to(next(network.parameters())).contiguous()


@torch.no_grad()
def observe_network(structure: SearchNetworkStructure, images: Tensor) -> Observation:
    """Run a search network a few times: with its own weights, and with equal weights of all operations.

    Args:
        structure: The network, in evaluation mode.
        images: Images [B, C, H, W], of which two are used.

    Raises:
        ConfigError: The forward pass fails, does not run the mixed operations as the code bases do, or returns no
            logits.
    """
    images = place_images(structure.network, images[:2])
    replacer = MethodReplacer(structure.mixers)
    calls: dict[type, MethodCall] = {}
    available = _list_available(structure, _find_own_zeros(structure, replacer, images, calls))
    for call in calls.values():
        _check_weighing(replacer, call)
    finder, steering = LogitsFinder(structure.network), Steering(replacer, {})
    equal = [[(1 / len(edge.names),) * len(edge.names) for edge in mixer.edges] for mixer in structure.mixers]
    with finder.watch_layers(), steering.steer(equal, seed=0):
        output = _run(structure, images, seed=0)
    # A second time without the last operation of each edge: some code counts on all of them.
    fewer = [[(*row[:-1], 0.0) if len(row) > 1 else row for row in rows] for rows in equal]
    with steering.steer(fewer, seed=0):
        _run(structure, images, seed=0, condition=" with the last operation of each edge left out")
    name = type(structure.network).__name__
    path = finder.find_logits(output, len(images))
    if path is None:
        raise unsupported(
            f"the forward pass of {name} does not return logits [images, classes] but {describe_output(output)}: let "
            "it return the logits alone, or a mapping with 'logits'"
        )
    for number, mixer in enumerate(structure.mixers):
        if number not in steering.shapes and any(available[edge.operation] for edge in mixer.edges):
            raise unsupported(f"the forward pass of {name} does not run {mixer.edges[0].path}")
    if not steering.shapes:
        raise unsupported(f"the forward pass of {name} runs none of its cells")
    return Observation(available, steering.shapes, path, get_part(output, path).shape[1])


def _run(structure: SearchNetworkStructure, images: Tensor, seed: int, condition: str = "") -> Any:
    name = type(structure.network).__name__
    try:
        reseed(seed, images.device, "network")
        return structure.network(images)
    except Exception as error:  # the network is the user's code and may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"a trial forward pass, {name}(images) with images {list(images.shape)}{condition}, failed "
            f"({type(error).__name__}: {reason}): "
            + (
                "pass a network whose mixed operations run with any number of operations and weights."
                if condition
                else "pass a network that takes images alone, and images that fit it."
            )
        ) from error


Zeros = dict[str, frozenset[int]]
"""Path of an edge -> indices of operations that a forward pass weighs with 0, or does not run at all."""


def _find_own_zeros(
    structure: SearchNetworkStructure, replacer: MethodReplacer, images: Tensor, calls: dict[type, MethodCall]
) -> Zeros:
    """Find the operations that the network itself weighs with exactly 0 in every forward pass.

    Such are operations that a mask has struck (DrNAS, confopt), and all others of an edge that is decided (SGAS,
    DARTS-PT). Where the zeros differ from pass to pass, the network samples its operations, and none is struck. One
    call of each class of mixed operations is added to ``calls``.
    """
    first = _observe_own_pass(structure, replacer, images, 0, calls)
    if any(first.values()):
        for seed in range(1, _SAMPLING_PASSES):
            if _observe_own_pass(structure, replacer, images, seed, calls) != first:
                return dict.fromkeys(first, frozenset())
    return first


def _observe_own_pass(
    structure: SearchNetworkStructure,
    replacer: MethodReplacer,
    images: Tensor,
    seed: int,
    calls: dict[type, MethodCall],
) -> Zeros:
    """Run the network with its own weights, and find the operations that these leave out."""
    used: dict[str, set[int]] = {edge.path: set() for edge in structure.edges}

    def observe(call: MethodCall) -> Any:
        mixer, weights = replacer.mixers[call.number], replacer.get_weights(call)
        if mixer.rows is None and weights is not None:
            calls.setdefault(type(mixer.module), call)
        with ExitStack() as stack:
            for index, edge in enumerate(mixer.edges):
                numbers = _read_row(weights, None if mixer.rows is None else mixer.rows[index], len(edge.names))
                if numbers is not None:
                    used[edge.path] |= {i for i, weight in enumerate(numbers) if weight}
                elif call.method == mixer.method and weights is None:  # the call names the operation: see what runs
                    stack.enter_context(_watch_operations(edge, used[edge.path]))
                else:  # it samples, or passes weights in a form of its own
                    used[edge.path] |= set(range(len(edge.names)))
            return replacer.run(call)

    with replacer.replace_methods(observe):
        _run(structure, images, seed)
    return {edge.path: frozenset(range(len(edge.names))) - used[edge.path] for edge in structure.edges}


def _check_weighing(replacer: MethodReplacer, call: MethodCall) -> None:
    """Check that a mixed operation takes the weights as they are: its output is linear in them, but for a constant.

    A softmax of its own would be applied to the mixture, too.
    """
    (edge,), module = replacer.mixers[call.number].edges, replacer.mixers[call.number].module
    start = torch.arange(1.0, len(edge.names) + 1).to(call.source) / len(edge.names)
    outputs = []
    for step in range(3):  # along a line on which neither a softmax nor a division by the sum is linear
        reseed(0, call.source.device)
        outputs.append(replacer.mix(call, start + step * start.flip(0)))
    if not all(isinstance(output, Tensor) for output in outputs):
        return
    one, two, three = outputs
    if float((three - 2 * two + one).abs().max()) > 1e-3 * float(three.abs().max()):
        raise unsupported(
            f"the forward of {edge.path} ({type(module).__name__}) does not add up its operations by the weights as "
            "they are: let the cell or the network compute the weights"
        )


def _read_row(weights: Any, row: int | None, size: int) -> list[float] | None:
    """Return the weights of one edge as numbers; None if there are none, or not one for each operation."""
    if weights is None:
        return None
    try:
        numbers = [float(weight) for weight in (weights if row is None else weights[row])]
    except (TypeError, ValueError, IndexError, KeyError, RuntimeError):  # each container refuses in its own way
        return None
    return numbers if len(numbers) == size else None


@contextmanager
def _watch_operations(edge: MixedEdge, used: set[int]) -> Iterator[None]:
    """Add the indices of the operations that run."""
    hooks = [
        operation.register_forward_pre_hook(lambda module, given, index=index: used.add(index))
        for index, operation in enumerate(edge.operations)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _list_available(structure: SearchNetworkStructure, zeros: Zeros) -> dict[str, tuple[str, ...]]:
    """Return the operations of each choice that some cell of its kind does not weigh with 0."""
    names: dict[str, tuple[str, ...]] = {}
    present: dict[str, set[str]] = {}
    for edge in structure.edges:
        names[edge.operation] = edge.names
        left = {name for index, name in enumerate(edge.names) if index not in zeros[edge.path]}
        present.setdefault(edge.operation, set()).update(left)
    available = {choice: tuple(n for n in names[choice] if n in present[choice]) for choice in names}
    struck = sum(len(names[choice]) - len(available[choice]) for choice in names)
    if struck:
        _log.info(
            "%s itself weighs %d of its %d operations with 0 (pruned, or decided against): they are no candidates",
            type(structure.network).__name__,
            struck,
            sum(map(len, names.values())),
        )
    return available
