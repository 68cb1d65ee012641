"""Cells and networks of NAS-Bench-101: graphs whose vertices are operations (Ying et al., ICML 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.cost import (
    Block,
    Cost,
    HeightWidth,
    addition_block,
    classifier_block,
    compute_output_size,
    concatenation_block,
    conv_cost,
    norm_cost,
)
from zcpt.errors import NotationError, SpaceError, describe_unknown_name
from zcpt.layers import add_drop_path
from zcpt.notation import clean_text, find_calls, find_literal, pick_single
from zcpt.printing import shorten
from zcpt.space import NetworkConfig
from zcpt.staged_network import StagedNetwork, run_checkpointed

OPERATIONS = ("maxpool3x3", "conv3x3-bn-relu", "conv1x1-bn-relu")
INPUT, OUTPUT = "input", "output"
STACKS = 3
_KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}
_FIELDS = ("matrix", "ops", "data_format")
_OTHER_NAMES = {"module_adjacency": "matrix", "module_operations": "ops"}
"""Name of a field in the published table -> its name in the published API."""
_FORM = "ModelSpec(matrix=[[0, 1, ...], ...], ops=['input', 'conv3x3-bn-relu', ..., 'output'])"


class ConvBnRelu(nn.Sequential):
    """Convolution that keeps the size, affine BatchNorm, ReLU.

    The class name must stay as in the published code: the proxy ``naswot-official`` counts a composite module a second
    time if its class name contains 'ReLU', and this one has 'Relu'.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), nn.ReLU())

    @staticmethod
    def cost(in_channels: int, out_channels: int, kernel: int, size: HeightWidth) -> Cost:
        """Compute the cost with an output of height and width ``size``."""
        return conv_cost(in_channels, out_channels, kernel, size) + norm_cost(out_channels)


def build_operation(name: str, channels: int) -> nn.Module:
    """Build the module of an operation, which keeps size and channels."""
    return ConvBnRelu(channels, channels, _KERNELS[name]) if name in _KERNELS else nn.MaxPool2d(3, 1, padding=1)


@dataclass(frozen=True)
class CellSpec:
    """A cell in the format of NAS-Bench-101. Vertex 0 is the input and the last vertex the output.

    Raises:
        SpaceError: The matrix is not square, not of 0 and 1 or not upper triangular, or a label does not fit.
    """

    matrix: tuple[tuple[int, ...], ...]
    """``matrix[source][target]`` is 1 where there is an edge."""
    ops: tuple[str, ...]
    """Label of every vertex: its operation, or 'input' and 'output'."""

    def __post_init__(self) -> None:
        size = len(self.ops)
        if size < 2 or [len(row) for row in self.matrix] != [size] * size:
            raise SpaceError(f"a cell with {size} labels has a matrix of {size} rows and columns.")
        for source, row in enumerate(self.matrix):
            if not all(entry in (0, 1) for entry in row) or any(row[: source + 1]):
                raise SpaceError(f"row {source} of the matrix must be 0 up to the diagonal and 0 or 1 after it.")
        if (self.ops[0], self.ops[-1]) != (INPUT, OUTPUT):
            raise SpaceError(f"the labels of a cell go from '{INPUT}' to '{OUTPUT}', not {shorten(list(self.ops))}.")
        for name in self.ops[1:-1]:
            if name not in OPERATIONS:
                raise SpaceError(describe_unknown_name("operation", name, OPERATIONS))

    @classmethod
    def from_arrays(cls, matrix: Iterable[Iterable[Any]], ops: Sequence[str]) -> CellSpec:
        """Build a cell from lists or arrays."""
        rows = (tuple(int(entry) if entry in (0, 1) else entry for entry in row) for row in matrix)
        return cls(tuple(rows), tuple(ops))

    @property
    def output(self) -> int:
        """Index of the output vertex."""
        return len(self.ops) - 1

    def list_parents(self, vertex: int) -> tuple[int, ...]:
        """Return the vertices with an edge to this one."""
        return tuple(source for source, row in enumerate(self.matrix) if row[vertex])

    def list_live_vertices(self) -> tuple[int, ...]:
        """Return the vertices on paths from the input to the output; empty if there is no such path."""
        # One pass in each direction suffices: the matrix is upper triangular, so edges lead to larger vertices only.
        from_input, to_output = {0}, {self.output}
        for vertex in range(1, len(self.ops)):
            if from_input & {*self.list_parents(vertex)}:
                from_input.add(vertex)
        for vertex in range(self.output, 0, -1):
            if vertex in to_output:
                to_output |= {*self.list_parents(vertex)}
        return tuple(sorted(from_input & to_output)) if self.output in from_input else ()

    def prune(self) -> CellSpec:
        """Return the cell without the vertices that do not influence its output.

        Raises:
            SpaceError: There is no path from the input to the output.
        """
        live = self.list_live_vertices()
        if not live:
            raise SpaceError("the cell has no path from its input to its output.")
        matrix = tuple(tuple(self.matrix[source][target] for target in live) for source in live)
        return CellSpec(matrix, tuple(self.ops[vertex] for vertex in live))

    def compute_widths(self, in_channels: int, out_channels: int) -> tuple[int, ...]:
        """Compute the channels of every vertex of a pruned cell, as NAS-Bench-101's ``compute_vertex_channels`` does.

        The vertices that feed the output share its channels; if these cannot be divided evenly, the first ones take one
        more each. Any other vertex is as wide as the widest vertex that it feeds.
        """
        # The input does not count: it is projected and added to the concatenation instead of being part of it.
        feeding = [vertex for vertex in self.list_parents(self.output) if vertex]
        share, rest = divmod(out_channels, max(len(feeding), 1))
        widths = {0: in_channels, self.output: out_channels}
        widths |= {vertex: share + (position < rest) for position, vertex in enumerate(feeding)}
        # Backwards, so that the widths of all vertices that a vertex feeds are known.
        for vertex in range(self.output - 1, 0, -1):
            if vertex not in widths:
                widths[vertex] = max(widths[target] for target, edge in enumerate(self.matrix[vertex]) if edge)
        return tuple(widths[vertex] for vertex in range(len(self.ops)))

    def isomorphism_class(self) -> str:
        """Return a text that is equal for exactly those cells whose pruned graphs are isomorphic."""
        # The smallest text over all orders of the inner vertices: at most five vertices, hence at most 120 orders.
        # Unlike NAS-Bench-101's iterated hashes of vertices this is exact by construction.
        pruned = self.prune()
        return min(
            pruned._format_in_order((0, *order, pruned.output)) for order in permutations(range(1, pruned.output))
        )

    def _format_in_order(self, order: Sequence[int]) -> str:
        rows = ("".join(str(self.matrix[source][target]) for target in order) for source in order)
        return ",".join(self.ops[vertex] for vertex in order) + ":" + "-".join(rows)


def read_model_spec(given: object) -> CellSpec:
    """Read ``ModelSpec(matrix=..., ops=...)``, the call that builds a cell in NAS-Bench-101's own API.

    The text may be a line of a log or a Python file, and a mapping of the two fields is read too. Nothing is evaluated.

    Raises:
        NotationError: There is no cell in the text.
        SpaceError: The cell is invalid, or the text has several cells.
    """
    text = clean_text(given)
    form_error = NotationError(f"'{shorten(text)}' is not of the form {_FORM}.")
    calls = find_calls(text, "ModelSpec")
    found = [(call.target, {**dict(zip(_FIELDS, call.arguments, strict=False)), **call.keywords}) for call in calls]
    if not found:
        document = find_literal(text, r"\{\s*[uU]?['\"](?:matrix|ops|module_)")
        found = [("", document)] if isinstance(document, dict) else []
    if not found:
        raise form_error
    fields = {_OTHER_NAMES.get(name, name): value for name, value in pick_single(found, "cells").items()}
    matrix, ops = fields.get("matrix"), fields.get("ops")
    if not set(fields) <= {*_FIELDS} or not isinstance(matrix, list) or not isinstance(ops, list):
        raise form_error
    if not _has_only(str, ops) or not all(_has_only(int, row) for row in matrix):
        raise form_error
    return CellSpec.from_arrays(matrix, ops)


def _has_only(kind: type, items: Any) -> bool:
    # The type itself, because True is an int.
    return isinstance(items, list) and all(type(item) is kind for item in items)


def write_model_spec(spec: CellSpec) -> str:
    """Return the call that builds the cell in NAS-Bench-101's own API."""
    return f"ModelSpec(matrix={[list(row) for row in spec.matrix]}, ops={list(spec.ops)})"


def has_pooling_before(index: int, layers: int) -> bool:
    """Return whether a pooling precedes a cell: at the first cell of stacks 2 and 3, where the channels double."""
    return index > 0 and index % (layers // STACKS) == 0


@dataclass(frozen=True)
class _StackedCell:
    """One cell of a network: its channels, and height and width of its output."""

    in_channels: int
    out_channels: int
    size: HeightWidth


@lru_cache(maxsize=16)
def _plan_cells(config: NetworkConfig) -> tuple[_StackedCell, ...]:
    in_channels = out_channels = config.channels
    size, plans = config.image_size, []
    for index in range(config.layers):
        if has_pooling_before(index, config.layers):
            out_channels, size = 2 * out_channels, compute_output_size(size, 2)
        plans.append(_StackedCell(in_channels, out_channels, size))
        in_channels = out_channels
    return tuple(plans)


class _Cell(nn.Module):
    def __init__(self, spec: CellSpec, plan: _StackedCell) -> None:
        super().__init__()
        # Lists, which torch.jit.script can index by a variable.
        self.matrix = [list(row) for row in spec.matrix]
        self.widths = list(spec.compute_widths(plan.in_channels, plan.out_channels))
        self.projections = nn.ModuleDict()
        self.operations = nn.ModuleDict()
        for vertex in range(1, spec.output + 1):
            if spec.matrix[0][vertex]:
                self.projections[str(vertex)] = ConvBnRelu(plan.in_channels, self.widths[vertex], 1)
            if vertex != spec.output:
                self.operations[str(vertex)] = add_drop_path(build_operation(spec.ops[vertex], self.widths[vertex]))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for operation in self.operations.values():
            width = self.widths[len(values)]
            # A vertex is at least as wide as those that it feeds. They read its first channels only (NAS-Bench-101's
            # ``truncate``), and only the cell's input has projections.
            terms = [value[:, :width] for value in self._list_feeding(values)]
            values.append(operation(self._add_projection(terms, x, len(values))))
        feeding = self._list_feeding(values)
        return self._add_projection([torch.cat(feeding, dim=1)] if len(feeding) > 0 else [], x, len(values))

    def _list_feeding(self, values: list[Tensor]) -> list[Tensor]:
        """Return the values that the next vertex reads, without the cell's input."""
        feeding: list[Tensor] = []
        for source in range(1, len(values)):
            if self.matrix[source][len(values)] == 1:
                feeding.append(values[source])
        return feeding

    def _add_projection(self, terms: list[Tensor], x: Tensor, vertex: int) -> Tensor:
        """Add up terms and the projection of the cell's input to a vertex, if it has one."""
        for name, projection in self.projections.items():  # torch.jit.script cannot look up modules by a computed name
            if int(name) == vertex:
                terms.append(projection(x))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class NasBench101Network(StagedNetwork):
    """Discrete network of a pruned cell: stem, three stacks of cells with poolings between them, linear classifier."""

    def __init__(self, spec: CellSpec, config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        plans = _plan_cells(config)
        self.stem = ConvBnRelu(config.in_channels, config.channels, 3)
        # Odd sizes are rounded up, as by TensorFlow's padding 'same'.
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.cells = nn.ModuleList(_Cell(spec, plan) for plan in plans)
        self.pools_before = [has_pooling_before(index, config.layers) for index in range(config.layers)]
        levels = [("stem", config.channels, 1)]
        for index, plan in enumerate(plans):
            levels.append((f"cells.{index}", plan.out_channels, levels[-1][2] * (2 if self.pools_before[index] else 1)))
        # Two thirds into the network, as in DARTS.
        self._add_head(levels, config.num_classes, 1 + 2 * config.layers // 3, auxiliary)

    def forward_blocks(self, images: Tensor, kept: list[int]) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(images)
        outputs: list[Tensor] = [x] if 0 in kept else []
        for index, cell in enumerate(self.cells):
            x = self.pool(x) if self.pools_before[index] else x
            x = run_checkpointed(cell, x) if self.grad_checkpointing else cell(x)
            if index + 1 in kept:
                outputs.append(x)
        return x, outputs


def fixed_blocks(config: NetworkConfig) -> Iterator[Block]:
    """Yield the blocks that all networks of a config have: stem, poolings between the stacks, classifier."""
    size = config.image_size
    yield _convolution(config.in_channels, config.channels, 3, size)
    for plan in _plan_cells(config):
        if plan.in_channels != plan.out_channels:
            yield Block(
                "pool", plan.in_channels, plan.in_channels, 2, size, Cost(), partial(nn.MaxPool2d, 2, ceil_mode=True)
            )
        size = plan.size
    yield classifier_block(plan.out_channels, config.num_classes, size)


def list_widths_by_cell(spec: CellSpec, config: NetworkConfig) -> list[tuple[int, ...]]:
    """Return for each vertex of a pruned cell its channels in all cells of the network."""
    widths = {
        key: spec.compute_widths(*key)
        for key in {(plan.in_channels, plan.out_channels) for plan in _plan_cells(config)}
    }
    return list(zip(*(widths[plan.in_channels, plan.out_channels] for plan in _plan_cells(config)), strict=True))


def operation_blocks(name: str, widths: Sequence[int], config: NetworkConfig) -> Iterator[Block]:
    """Yield the blocks of a vertex's operation in all cells; ``widths`` are its channels in each."""
    for width, plan in zip(widths, _plan_cells(config), strict=True):
        if name in _KERNELS:
            yield _convolution(width, width, _KERNELS[name], plan.size)
        else:
            yield Block(name, width, width, 1, plan.size, Cost(), partial(build_operation, name, width))


def join_blocks(
    widths: Sequence[int], parents: Sequence[int], config: NetworkConfig, *, is_output: bool
) -> Iterator[Block]:
    """Yield the blocks that join what enters a vertex in all cells.

    Args:
        widths: Channels of the vertex in each cell.
        parents: Its parents; 0 is the cell's input, whose projection is added.
        config: Config of the network.
        is_output: Whether the vertex is the cell's output, which concatenates the other parents.
    """
    inner = len(parents) - (0 in parents)
    for width, plan in zip(widths, _plan_cells(config), strict=True):
        if is_output and inner:
            yield concatenation_block(-(-width // inner), inner, plan.size)  # some parts have one channel less
        terms = len(parents) if not is_output else 1 + (0 in parents and inner > 0)
        yield from [addition_block(width, plan.size)] * (terms - 1)


def projection_blocks(widths: Sequence[int], config: NetworkConfig) -> Iterator[Block]:
    """Yield the blocks that project the cell's input to a vertex in all cells; ``widths`` are its channels in each."""
    for width, plan in zip(widths, _plan_cells(config), strict=True):
        yield _convolution(plan.in_channels, width, 1, plan.size)


def network_blocks(spec: CellSpec, config: NetworkConfig) -> Iterator[Block]:
    """Yield the blocks of the network of a pruned cell, without an auxiliary head."""
    yield from fixed_blocks(config)
    for vertex, widths in enumerate(list_widths_by_cell(spec, config)):
        if spec.matrix[0][vertex]:
            yield from projection_blocks(widths, config)
        if 0 < vertex < spec.output:
            yield from operation_blocks(spec.ops[vertex], widths, config)
        if vertex:
            yield from join_blocks(widths, spec.list_parents(vertex), config, is_output=vertex == spec.output)


def _convolution(in_channels: int, out_channels: int, kernel: int, size: HeightWidth) -> Block:
    cost = ConvBnRelu.cost(in_channels, out_channels, kernel, size)
    build = partial(ConvBnRelu, in_channels, out_channels, kernel)
    return Block(f"conv{kernel}x{kernel}-bn-relu", in_channels, out_channels, 1, size, cost, build)
