"""Names of the candidate operations of a search network, and its architecture parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.errors import ConfigError

Primitives = Sequence[str] | Sequence[Sequence[str]] | Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
"""Names of the operations: one list for all edges, or a list for each edge, or a mapping to either of them with one key
for normal and one for reduction cells, such as 'primitives_normal' and 'primitives_reduct'."""
Owners = tuple[nn.Module, ...]
"""Modules whose attributes are looked up, the most specific first."""

_SPELLINGS = ("primitives", "_primitives", "PRIMITIVES", "op_names", "_op_names")


def find_names(
    given: Primitives | None, owners: Owners, kind: str, index: int, size: int, path: str
) -> tuple[str, ...]:
    """Return the names of the operations of one edge: ``given``, or the first list of the code base that fits.

    Args:
        given: Names that the user passed.
        owners: The edge, its cell and the network.
        kind: Kind of the cell.
        index: Number of the edge in its cell.
        size: Number of operations of the edge.
        path: Name of the edge, for the message.

    Raises:
        ConfigError: Nothing fits.
    """
    for source in _list_sources(owners, kind) if given is None else (given,):
        names = _names_of_edge(source, kind, index)
        if names is not None and len(set(names)) == len(names) == size and set(names) != {"none"}:
            return names
    missing = "no list PRIMITIVES fits them" if given is None else f"primitives={given!r} does not fit them"
    raise ConfigError(
        f"zcpt.select needs the names of the {size} operations of {path}, and {missing}: pass primitives=[...], the "
        "names in the order of the edge's list, or a mapping with 'normal' and 'reduce' to such a list for every edge."
    )


def _list_sources(owners: Owners, kind: str) -> Iterator[object]:
    """Yield the lists of names that code bases have, the most specific first.

    DARTS and its kin import ``PRIMITIVES``, or the module that has it, into the modules of their classes. DARTS-PT has
    ``primitives`` in each cell and ``op_names`` in the network. It also sets ``PRIMITIVES`` on ``nn.Module`` itself, so
    that every module of the process has the list of the network that was made last: attributes of classes come after
    those of instances. P-DARTS has switches, which tell which of the names an edge still has.
    """
    yield from (vars(owner)[name] for owner in owners for name in _SPELLINGS if name in vars(owner))
    yield from (getattr(owner, name) for owner in owners for name in _SPELLINGS if hasattr(owner, name))
    lists = list(_list_module_names(owners))
    yield from lists
    switches = [vars(owner)[name] for owner in owners if (name := f"switches_{kind}") in vars(owner)]
    yield from (
        [[name for name, is_on in zip(names, row, strict=False) if is_on] for row in rows]
        for rows in switches
        for names in lists
        if isinstance(names, list | tuple) and _is_table(rows, len(names))
    )


def _list_module_names(owners: Owners) -> Iterator[object]:
    for owner in owners:
        for base in type(owner).__mro__:
            variables = vars(sys.modules.get(base.__module__, ModuleType("")))
            imported = [variable for variable in variables.values() if isinstance(variable, ModuleType)]
            for names in (variables, *map(vars, imported)):
                if "PRIMITIVES" in names:
                    yield names["PRIMITIVES"]


def _is_table(rows: object, columns: int) -> bool:
    return isinstance(rows, list | tuple) and all(isinstance(row, list | tuple) and len(row) == columns for row in rows)


def _names_of_edge(names: Any, kind: str, index: int) -> tuple[str, ...] | None:
    """Return the names for one edge; None if ``names`` is not of a form of ``Primitives``."""
    if isinstance(names, Mapping):
        # DARTS-PT has the keys 'primitives_normal' and 'primitives_reduct', hence 'reduc' for 'reduce'.
        keys = [key for key in names if kind[:5] in str(key)]
        names = names[keys[0]] if keys else None
    if isinstance(names, list | tuple) and index < len(names) and isinstance(names[index], list | tuple):
        names = names[index]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def read_alphas(owners: Owners, candidates: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[Tensor]]:
    """Return the architecture parameters of each kind of cell: a row [operations] for each edge, float64, on the CPU.

    Args:
        owners: Modules that may have them as attributes.
        candidates: Kind of cell -> names of the operations of each edge.

    Raises:
        ConfigError: The network has none, or of another shape.
    """
    alphas = {}
    for kind, edges in candidates.items():
        # Names in DARTS; in pt.darts; in AutoDL-Projects; and in NAS-Bench-201's form, where one kind of cell exists.
        names = [f"alphas_{kind}", f"alpha_{kind}", f"arch_{kind}_parameters"]
        if kind == "cell":
            names = ["_arch_parameters", "arch_parameters"]
        given = [(name, getattr(owner, name)) for name in names for owner in owners[::-1] if hasattr(owner, name)]
        name, value = given[0] if given else (names[0], None)
        rows = _list_rows(_call_if_method(name, value))
        sizes = [len(edge) for edge in edges]
        if [row.numel() for row in rows] != sizes:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"shares='alpha' reads '{names[0]}' of the network; {name} is {shape} "
                f"where {len(edges)} rows of {sizes[0]} are needed: leave shares out."
            )
        alphas[kind] = [row.detach().double().cpu() for row in rows]
    return alphas


def _call_if_method(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, nn.Module):
        return value
    try:
        return value()
    except Exception as error:  # the method is the user's code and may raise anything
        raise ConfigError(
            f"shares='alpha' reads '{name}()' of the network, which failed ({type(error).__name__}: {error}): leave "
            "shares out."
        ) from error


def _list_rows(value: object) -> list[Tensor]:
    """Return the rows of a matrix, or of a list of rows or of matrices."""
    if isinstance(value, Tensor):
        return [value] if value.ndim == 1 else list(value.flatten(0, -2)) if value.ndim > 1 else []
    if isinstance(value, list | tuple | nn.ParameterList):
        return [row for part in value for row in _list_rows(part)]
    return []


def compute_shares(row: Tensor) -> tuple[float, ...]:
    """Return the softmax of architecture parameters."""
    return tuple(torch.softmax(row, dim=0).tolist())
