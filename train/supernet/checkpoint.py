"""Files of trained supernets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from train.checkpoint import load_weights, read_classes_and_statistics, read_network_config
from train.images import Statistics
from train.supernet.alphas import ArchitectureParameters
from train.supernet.config import SupernetConfig
from zcpt.devices import move_network
from zcpt.errors import ConfigError
from zcpt.files import parse_json, require_keys, write_atomically
from zcpt.mixture import Mixture
from zcpt.printing import shorten
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.space_registry import get_space
from zcpt.supernet import Supernet

SUPERNET = "supernet.safetensors"
CHECKPOINT = "last.pt"
_ALPHA = "alpha/"
_KEYS = ("space", "network_config.image_size", "statistics", "classes", "config", "about")


@dataclass(frozen=True)
class TrainedSupernet:
    """Trained supernet with everything needed to score its operations."""

    net: Supernet
    space: SearchSpace
    network_config: NetworkConfig
    alphas: ArchitectureParameters
    statistics: Statistics
    """Mean and standard deviation for the normalisation of its images."""
    classes: tuple[str, ...]
    config: SupernetConfig
    about: dict[str, Any]
    """Epochs, data set and versions."""

    @property
    def mixture(self) -> Mixture:
        """Mixture before any decision: the candidates weigh their trained shares."""
        return self.alphas.weigh(self.net.initial_mixture())

    def to(self, device: torch.device) -> TrainedSupernet:
        """Move the weights to a device in place, and return the supernet."""
        move_network(self.net, device)
        for alpha in self.alphas.list_tensors():
            alpha.data = alpha.data.to(device)
        return self


def save_supernet(path: Path, trained: TrainedSupernet) -> None:
    """Write weights and architecture parameters as safetensors, with the description of the supernet as metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.net.state_dict().items()}
    alphas = {f"{_ALPHA}{name}": alpha for name, alpha in trained.alphas.state_dict().items()}
    metadata = {
        "space": trained.space.name,
        "network_config": asdict(trained.network_config),
        "statistics": trained.statistics,
        "classes": trained.classes,
        "config": asdict(trained.config),
        "about": trained.about,
    }
    # One entry alone: safetensors writes several in a random order, and equal supernets would have other bytes.
    write_atomically(path, save({**weights, **alphas}, {"zcpt_supernet": json.dumps(metadata)}))


def load_supernet(path: str | Path) -> TrainedSupernet:
    """Load a trained supernet, on the CPU and in evaluation mode.

    Args:
        path: The folder of a training, or a file in it such as ``epoch_010.safetensors``.

    Raises:
        ConfigError: The file is missing, damaged, or holds no supernet.
        SpaceError: The space is unknown.
    """
    path = Path(path)
    path = path / SUPERNET if path.is_dir() else path
    if not path.exists():
        raise ConfigError(f"{path} is missing: give the folder of a finished 'zcpt train-supernet'.")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {})["zcpt_supernet"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no dict
    except (SafetensorError, KeyError) as error:
        raise ConfigError(f"{path} is damaged, or no supernet of zcpt ({shorten(error)}).") from None
    metadata = require_keys(parse_json(text, f"the description in {path}"), _KEYS, path)
    space = get_space(str(metadata["space"]))
    network_config = read_network_config(metadata["network_config"], path)
    classes, statistics = read_classes_and_statistics(metadata, network_config, path)
    net = _build_supernet(space, network_config, tensors, path)
    alphas = ArchitectureParameters.draw(space.choices, 0.0, 0, torch.device("cpu"))
    alphas.load_state_dict(
        {name.removeprefix(_ALPHA): alpha for name, alpha in tensors.items() if name.startswith(_ALPHA)}, path
    )
    config = read_supernet_config(metadata["config"], path)
    return TrainedSupernet(net, space, network_config, alphas, statistics, classes, config, metadata["about"])


def _build_supernet(space: SearchSpace, config: NetworkConfig, tensors: Mapping[str, Tensor], path: Path) -> Supernet:
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(_ALPHA)}
    # Without memory first: the supernet that a foreign file describes may not fit it.
    with torch.device("meta"):
        described = {name: tuple(tensor.shape) for name, tensor in space.build_supernet(config).state_dict().items()}
    if described != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise ConfigError(f"the weights in {path} are those of another supernet than the one that it describes.")
    net = space.build_supernet(config)
    load_weights(net, weights, path)
    return move_network(net, torch.device("cpu")).eval()


def read_supernet_config(settings: Any, source: object) -> SupernetConfig:
    """Read the settings of a supernet from a file; ConfigError names the source if one is unknown or wrong."""
    try:
        return SupernetConfig(**settings)
    except TypeError:
        raise ConfigError(f"{source} has settings that this version of zcpt does not know.") from None
    except ConfigError as error:
        raise ConfigError(f"the settings in {source} cannot be used: {error}") from None
