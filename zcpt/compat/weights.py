"""Weights of discrete networks of DARTS and PC-DARTS: state dicts by their names of modules, and by ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_space.genotype import KINDS, read_genotype
from zcpt.errors import ConfigError
from zcpt.printing import shorten

_HEAD = {
    "auxiliary.reduce.0": "auxiliary_head.features.2",
    "auxiliary.reduce.1": "auxiliary_head.features.3",
    "auxiliary.features.0": "auxiliary_head.features.5",
    "auxiliary.features.1": "auxiliary_head.features.6",  # not in NetworkImageNet
    "auxiliary.classifier": "auxiliary_head.classifier",
    "classifier": "classifier",
}
"""Module of ours -> theirs, outside the cells and the stem."""
_REDUCE = {"conv1": "conv_1", "conv2": "conv_2", "norm": "bn"}
"""Module of our ``FactorizedReduce`` -> theirs."""


def read_darts_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint, such as ``weights.pt`` or ``model_best.pth.tar``, on the CPU.

    No code that is pickled in the file is run.

    Raises:
        ConfigError: The file cannot be read, or holds no state dict.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, depending on where the file is damaged
        raise ConfigError(f"{path} cannot be read as weights ({type(error).__name__}).") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path} holds no state dict: save the one of the network, 'model.state_dict()'.")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def convert_from_darts(state: Mapping[str, Tensor], genotype: str) -> dict[str, Tensor]:
    """Return the weights of a DARTS network by the names of our network of the same genotype.

    Args:
        state: State dict with the names of DARTS' ``NetworkCIFAR`` or ``NetworkImageNet``.
        genotype: Text of the genotype that the network was built from; the order of its inputs numbers its modules.

    Raises:
        ConfigError: A name is none of DARTS'.
        SpaceError: The text is no genotype.
    """
    places, layers = _find_places(genotype), _count_cells(state)
    has_two_stems = any(name.startswith("stem1.") for name in state)
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, tensor = name.rpartition(".")
        edge = re.fullmatch(r"cells\.(\d+)\._ops\.(\d+)\.(.+)", module)
        preprocess = re.fullmatch(r"cells\.(\d+)\.preprocess([01])\.(.+)", module)
        stem = re.fullmatch(r"stem([01]?)\.(\d+)", module)
        if edge:
            cell, index = int(edge[1]), int(edge[2])
            ours = f"cells.{cell}.edges.{places[_get_kind(cell, layers)][index]}.0.{_name_ours(edge[3])}"
        elif preprocess:
            ours = f"cells.{preprocess[1]}.preprocess.{preprocess[2]}.{_name_ours(preprocess[3])}"
        elif stem and bool(stem[1]) == has_two_stems:
            ours = f"stem.{stem[1] or 0}.{stem[2]}"
        elif module in _HEAD.values():
            ours = next(mine for mine, theirs in _HEAD.items() if theirs == module)
        else:
            raise ConfigError(f"'{shorten(name)}' is no weight of a discrete network of DARTS.")
        converted[f"{ours}.{tensor}"] = value
    return converted


def convert_to_darts(state: Mapping[str, Tensor], genotype: str) -> dict[str, Tensor]:
    """Return the weights of our network of the space 'darts' by the names of the DARTS network of a genotype.

    Raises:
        ConfigError: A name is none of ours.
        SpaceError: The text is no genotype.
    """
    places = {
        kind: {ours: theirs for theirs, ours in places.items()} for kind, places in _find_places(genotype).items()
    }
    layers, has_two_stems = _count_cells(state), any(name.startswith("stem.1.") for name in state)
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, tensor = name.rpartition(".")
        edge = re.fullmatch(r"cells\.(\d+)\.edges\.(\d+)\.0\.(.+)", module)
        preprocess = re.fullmatch(r"cells\.(\d+)\.preprocess\.([01])\.(.+)", module)
        stem = re.fullmatch(r"stem\.([01])\.(\d+)", module)
        if edge:
            cell, index = int(edge[1]), int(edge[2])
            theirs = f"cells.{cell}._ops.{places[_get_kind(cell, layers)][index]}.{_name_theirs(edge[3])}"
        elif preprocess:
            theirs = f"cells.{preprocess[1]}.preprocess{preprocess[2]}.{_name_theirs(preprocess[3])}"
        elif stem:
            theirs = f"stem{stem[1] if has_two_stems else ''}.{stem[2]}"
        elif module in _HEAD:
            theirs = _HEAD[module]
        else:
            raise ConfigError(f"'{shorten(name)}' is no weight of a network of the space 'darts'.")
        converted[f"{theirs}.{tensor}"] = value
    return converted


def _name_ours(module: str) -> str:
    """Return our name of a module inside an operation."""
    reduce = {theirs: ours for ours, theirs in _REDUCE.items()}
    return reduce.get(module, module.removeprefix("op."))


def _name_theirs(module: str) -> str:
    return _REDUCE.get(module, f"op.{module}")


def _count_cells(state: Mapping[str, Tensor]) -> int:
    """Return the number of cells; each has weights, those of its preprocessing."""
    cells = [int(name.split(".")[1]) for name in state if re.match(r"cells\.\d+\.", name)]
    return 1 + max(cells, default=-1)


def _get_kind(cell: int, layers: int) -> str:
    return KINDS[cell in (layers // 3, 2 * layers // 3)]


def _find_places(genotype: str) -> dict[str, dict[int, int]]:
    """Return, for each kind of cell, the index of each edge in the genotype and that in our network.

    Our network has the two edges of a node in the order of their inputs, DARTS' has them as the genotype lists them.
    """
    places: dict[str, dict[int, int]] = {}
    for kind, pairs in read_genotype(genotype).items():
        order = sorted(range(len(pairs)), key=lambda edge: (edge // 2, pairs[edge][1]))
        places[kind] = {theirs: ours for ours, theirs in enumerate(order)}
    return places
