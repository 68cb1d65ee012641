"""Weights of discrete networks of DARTS and PC-DARTS: state dicts by their names of modules, and by ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_space.genotype import KINDS, read_genotype
from zcpt.errors import ConfigError
from zcpt.printing import shorten
from zcpt.space import NetworkConfig

_RULES = (
    ("cells.{cell}.edges.{edge}.0.{part}", "cells.{cell}._ops.{edge}.{part}"),
    ("cells.{cell}.preprocess.{number}.{part}", "cells.{cell}.preprocess{number}.{part}"),
    ("auxiliary.reduce.0", "auxiliary_head.features.2"),
    ("auxiliary.reduce.1", "auxiliary_head.features.3"),
    ("auxiliary.features.0", "auxiliary_head.features.5"),
    ("auxiliary.features.1", "auxiliary_head.features.6"),  # not in NetworkImageNet
    ("auxiliary.classifier", "auxiliary_head.classifier"),
    ("classifier", "classifier"),
)
"""Module of ours, and theirs."""
_CIFAR_STEM, _IMAGENET_STEM = ("stem.0.{layer}", "stem.{layer}"), ("stem.{number}.{layer}", "stem{number}.{layer}")
_FIELDS = {
    "{cell}": r"(?P<cell>\d+)",
    "{edge}": r"(?P<edge>\d+)",
    "{number}": "(?P<number>[01])",
    "{layer}": r"(?P<layer>\d+)",
    "{part}": "(?P<part>.+)",
}
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


def infer_network_config(state: Mapping[str, Tensor]) -> NetworkConfig:
    """Return the config of the network whose weights have the names of ours, at the image size of its data set.

    Raises:
        ConfigError: There is no such network.
    """
    has_two_stems = "stem.1.1.weight" in state
    try:
        first, classifier = state["stem.0.0.weight"], state["classifier.weight"]
        channels = len(state["stem.1.1.weight"]) if has_two_stems else len(first) // 3
        side = 224 if has_two_stems else 32
        return NetworkConfig(channels, _count_cells(state), len(classifier), first.shape[1], (side, side))
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"the weights lack those of a stem or a classifier ({shorten(error)}).") from None


def convert_from_darts(state: Mapping[str, Tensor], genotype: str) -> dict[str, Tensor]:
    """Return the weights of a DARTS network by the names of our network of the same genotype.

    Args:
        state: State dict with the names of DARTS' ``NetworkCIFAR`` or ``NetworkImageNet``.
        genotype: Text of the genotype that the network was built from; the order of its inputs numbers its modules.

    Raises:
        ConfigError: A name is none of DARTS'.
        SpaceError: The text is no genotype.
    """
    stem = _IMAGENET_STEM if any(name.startswith("stem1.") for name in state) else _CIFAR_STEM
    rules = [(theirs, ours) for ours, theirs in (*_RULES, stem)]
    return _rename(state, rules, _find_places(genotype), _name_ours, "a discrete network of DARTS")


def convert_to_darts(state: Mapping[str, Tensor], genotype: str) -> dict[str, Tensor]:
    """Return the weights of our network of the space 'darts' by the names of the DARTS network of a genotype.

    Raises:
        ConfigError: A name is none of ours.
        SpaceError: The text is no genotype.
    """
    stem = _IMAGENET_STEM if any(name.startswith("stem.1.") for name in state) else _CIFAR_STEM
    places = {kind: {ours: theirs for theirs, ours in edges.items()} for kind, edges in _find_places(genotype).items()}
    return _rename(state, (*_RULES, stem), places, _name_theirs, "a network of the space 'darts'")


def _rename(
    state: Mapping[str, Tensor],
    rules: Sequence[tuple[str, str]],
    places: Mapping[str, Mapping[int, int]],
    name_part: Callable[[str], str],
    owner: str,
) -> dict[str, Tensor]:
    """Return weights by other names.

    Args:
        state: Weights by their present names.
        rules: Present and new name of each kind of module.
        places: New index of each edge, for each kind of cell.
        name_part: Function that returns the new name of a module inside an operation.
        owner: What the present names are those of.
    """
    patterns = [(_compile_rule(present), new) for present, new in rules]
    layers = _count_cells(state)
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, tensor = name.rpartition(".")
        found = [(match.groupdict(), new) for pattern, new in patterns if (match := pattern.fullmatch(module))]
        if not found:
            raise ConfigError(f"'{shorten(name)}' is no weight of {owner}.")
        fields, new = found[0]
        if "edge" in fields:
            edges = places[_get_kind(int(fields["cell"]), layers)]
            if int(fields["edge"]) not in edges:
                raise ConfigError(f"'{shorten(name)}' is the weight of an edge that the genotype does not have.")
            fields["edge"] = str(edges[int(fields["edge"])])
        if "part" in fields:
            fields["part"] = name_part(fields["part"])
        renamed[f"{new.format(**fields)}.{tensor}"] = value
    return renamed


def _compile_rule(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\{", "{").replace(r"\}", "}")
    for field, expression in _FIELDS.items():
        pattern = pattern.replace(field, expression)
    return re.compile(pattern)


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
