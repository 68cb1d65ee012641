"""What a training leaves on disk: the state to go on from, and the trained network."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from train.images import Statistics
from zcpt.architecture import Architecture
from zcpt.errors import ConfigError
from zcpt.files import require_keys, write_atomically
from zcpt.space import DiscreteNetwork, NetworkConfig
from zcpt.space_registry import get_space

LAST = "last.pt"
WEIGHTS = "model.safetensors"
_AUXILIARY = "auxiliary."
_DOCUMENT = ("architecture", "shape.image_size", "statistics", "classes", "about")


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with everything needed to use it."""

    network: DiscreteNetwork
    architecture: Architecture
    network_config: NetworkConfig
    statistics: Statistics
    """Mean and standard deviation that its images are normalised with."""
    classes: tuple[str, ...]
    about: dict[str, Any]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is either all there or not there at all."""
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def load_state(path: Path, architecture: Architecture) -> dict[str, Any]:
    """Read a checkpoint; ConfigError if it is damaged or of another architecture."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, depending on where the file is damaged
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}): the file is damaged.") from error
    require_keys(state, ("architecture", "network", "optimizer", "rows"), path)
    if state["architecture"] != architecture.to_json():
        raise ConfigError(
            f"{path} is a checkpoint of another architecture than the one in {path.parent / 'architecture.json'}: "
            "resume with the architecture that it was trained with, or train anew with another --out."
        )
    return state


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Write weights (without the auxiliary head) as safetensors; the metadata says which network they belong to."""
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in trained.network.state_dict().items()
        if not name.startswith(_AUXILIARY)
    }
    document = {
        "architecture": trained.architecture.to_json(),
        "shape": asdict(trained.network_config),
        "statistics": trained.statistics,
        "classes": trained.classes,
        "about": trained.about,
    }
    write_atomically(path, save(weights, {"format": "pt", "zcpt": json.dumps(document)}))


def load_network(path: Path) -> TrainedNetwork:
    """Read a network back, ready to use in evaluation mode.

    Raises:
        ConfigError: The file is missing, damaged, or not one of zcpt's.
        SpaceError: Its architecture is not one of its space's.
    """
    if not path.exists():
        raise ConfigError(f"{path} is missing: give the folder that 'zcpt train' wrote, with a finished training.")
    try:
        with safe_open(str(path), framework="pt") as file:
            document = require_keys(json.loads((file.metadata() or {})["zcpt"]), _DOCUMENT, path)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no dict
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is damaged or was not written by zcpt ({error}).") from None
    architecture = Architecture.from_json(json.dumps(document["architecture"]), str(path))
    fields = document["shape"] | {"image_size": tuple(document["shape"]["image_size"])}
    network_config = NetworkConfig(**fields)
    network = get_space(architecture.space).build_network(architecture, network_config)
    load_weights(network, weights, path)
    network.eval()
    mean, std = document["statistics"]
    statistics = tuple(mean), tuple(std)
    return TrainedNetwork(
        network, architecture, network_config, statistics, tuple(document["classes"]), document["about"]
    )


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict that must fit; ConfigError if it is of another network."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"the weights in {path} are those of another network: {reason}") from None
