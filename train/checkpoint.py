"""Checkpoints of a training, and files of trained networks."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from train.images import Statistics
from train.preprocessing import DEFAULT_PREPROCESSING, PictureTransform, Preprocessing
from zcpt.architecture import Architecture
from zcpt.architecture_files import find_training
from zcpt.errors import ConfigError, SpaceError, ZcptError
from zcpt.files import parse_json, require_keys, write_atomically
from zcpt.options import format_count, pluralize
from zcpt.printing import shorten
from zcpt.space import DiscreteNetwork, NetworkConfig, SearchSpace
from zcpt.space_registry import get_space

CHECKPOINT = "last.pt"
WEIGHTS = "model.safetensors"
INITIAL = "initial.safetensors"
"""Network that the training started from (``zcpt train --from``)."""
BEST = "best.safetensors"
"""Network of the epoch that was best on the training images kept back."""
_AUXILIARY = "auxiliary."
_METADATA_KEYS = ("architecture", "shape.image_size", "statistics", "classes", "about")


@dataclass(frozen=True)
class TrainedNetwork:
    """Trained network with everything needed to use it."""

    network: DiscreteNetwork
    space: SearchSpace
    architecture: Architecture
    network_config: NetworkConfig
    statistics: Statistics
    """Mean and standard deviation for the normalisation of its images."""
    classes: tuple[str, ...]
    about: dict[str, Any]
    """Test accuracy, epochs, data set and versions."""
    preprocessing: Preprocessing = DEFAULT_PREPROCESSING
    """Settings of its test images."""

    @property
    def transform(self) -> PictureTransform:
        """Transform from a picture to the image [C, H, W] that the network takes."""
        return PictureTransform(self.network_config.image_size, self.statistics, self.preprocessing)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def load_checkpoint(path: Path, architecture: Architecture) -> dict[str, Any]:
    """Load a checkpoint; ConfigError if it is damaged or of another architecture."""
    if not path.is_file():  # reading a named pipe would wait for ever
        raise ConfigError(f"{path} cannot be read: it is no regular file.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, depending on where the file is damaged
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}): the file is damaged.") from error
    require_keys(state, ("architecture", "network", "optimizer", "rows"), path)
    _check_kinds(state, path)
    if state["architecture"] != architecture.to_json():
        raise ConfigError(
            f"{path} is a checkpoint of another architecture than the one in {path.parent / 'architecture.json'}: "
            "resume with the architecture that it was trained with, or train anew with another --out."
        )
    return state


def _check_kinds(state: dict[str, Any], path: Path) -> None:
    """Raise ConfigError unless the entries of a checkpoint are what ``Trainer.state_dict`` returns."""
    weights, rows = state["network"], state["rows"]
    has_weights = isinstance(weights, dict) and all(isinstance(weight, torch.Tensor) for weight in weights.values())
    has_rows = (
        isinstance(rows, list)
        and len(rows) > 0
        # Later versions measure more: the first rows of a resumed training may lack columns.
        and all(isinstance(row, dict) and {"epoch", "train_loss"} <= row.keys() for row in rows)
        and all(isinstance(value, int | float) for row in rows for value in row.values())
        and [row["epoch"] for row in rows] == list(range(len(rows)))
    )
    count = state.get("processes", 1)
    has_processes = type(count) is int and count > 0
    for name, is_right in (("network", has_weights), ("rows", has_rows), ("processes", has_processes)):
        if not is_right:
            raise ConfigError(f"{path} is damaged: its '{name}' is not what a training writes.")


def has_network_of(path: Path, epochs: int) -> bool:
    """Return whether a file holds a network that was trained for so many epochs, and can be loaded."""
    try:
        return bool(load_network(path).about.get("epochs") == epochs)
    except ZcptError:
        return False


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Write the weights, without the auxiliary head, as safetensors, with the network's description as metadata."""
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in trained.network.state_dict().items()
        if not name.startswith(_AUXILIARY)
    }
    metadata = {
        "architecture": trained.architecture.to_json(),
        "shape": asdict(trained.network_config),  # the key that files have had since the first version
        "statistics": trained.statistics,
        "classes": trained.classes,
        "about": trained.about,
        "preprocessing": trained.preprocessing.to_document(),
    }
    write_atomically(path, save(weights, {"format": "pt", "zcpt": json.dumps(metadata)}))


def find_weights(path: str | Path) -> Path:
    """Return the file of a trained network.

    Args:
        path: The file itself, the folder of a training, or that of a search with one training.

    Raises:
        ConfigError: There are several trainings, or none.
    """
    given = Path(path)
    return given if given.is_file() else find_training(given, WEIGHTS, "that is finished") / WEIGHTS


def load_network(path: Path) -> TrainedNetwork:
    """Load a trained network, in evaluation mode.

    Raises:
        ConfigError: The file is missing, damaged, or was not written by zcpt.
        SpaceError: The space is unknown, or does not have the architecture.
    """
    if not path.exists():
        raise ConfigError(f"{path} is missing: give the folder of a finished 'zcpt train'.")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {})["zcpt"]
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no dict
    except (SafetensorError, KeyError) as error:
        raise ConfigError(f"{path} is damaged or was not written by zcpt ({shorten(error)}).") from None
    metadata = require_keys(parse_json(text, f"the description in {path}"), _METADATA_KEYS, path)
    architecture = Architecture.from_json(json.dumps(metadata["architecture"]), str(path))
    space = get_space(architecture.space)
    space.check(architecture)
    network_config = read_network_config(metadata["shape"], path)
    classes, statistics = read_classes_and_statistics(metadata, network_config, path)
    _check_size(space, architecture, network_config, weights, path)
    network = space.build_network(architecture, network_config)
    load_weights(network, weights, path)
    network.eval()
    preprocessing = _read_preprocessing(metadata, path)
    about = metadata["about"]
    return TrainedNetwork(network, space, architecture, network_config, statistics, classes, about, preprocessing)


def _read_preprocessing(metadata: dict[str, Any], path: Path) -> Preprocessing:
    """Read the settings of test images, which files of 0.1.0 lack."""
    if "preprocessing" not in metadata:
        return DEFAULT_PREPROCESSING
    try:
        return Preprocessing.from_document(metadata["preprocessing"])
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: its 'preprocessing' cannot be used: {error}.") from None


def _check_size(
    space: SearchSpace,
    architecture: Architecture,
    config: NetworkConfig,
    weights: dict[str, torch.Tensor],
    path: Path,
) -> None:
    """Raise ConfigError if the network has more parameters than the file.

    Building it would show the same, but the network that a foreign file describes may not fit the memory.
    """
    try:
        described = space.cost(architecture, config).params
    except SpaceError:  # a space of a third party without costs, or an architecture that building refuses too
        return
    held = sum(weight.numel() for weight in weights.values())
    if described > held:
        raise ConfigError(
            f"the weights in {path} are those of another network: it describes one of {format_count(described)} "
            f"parameters, and has {format_count(held)} numbers."
        )


def read_network_config(shape: Any, path: Path) -> NetworkConfig:
    """Read the configuration of a network from the description in a file; ConfigError if it is damaged."""
    names = [field.name for field in fields(NetworkConfig)]
    if not isinstance(shape, dict) or sorted(shape) != sorted(names) or not isinstance(shape["image_size"], list):
        raise ConfigError(
            f"{path} is damaged, or of a newer version of zcpt: its 'shape' must have {', '.join(names)}, and it is "
            f"{shorten(shape)}."
        )
    try:
        return NetworkConfig(**{**shape, "image_size": tuple(shape["image_size"])})
    except ConfigError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None


def read_classes_and_statistics(
    metadata: dict[str, Any], config: NetworkConfig, path: Path
) -> tuple[tuple[str, ...], Statistics]:
    """Read the classes and the statistics of the images from such a description; ConfigError if they are damaged."""
    classes, statistics = metadata["classes"], metadata["statistics"]
    if not isinstance(classes, list) or len(classes) != config.num_classes or {*map(type, classes)} != {str}:
        raise ConfigError(f"{path} is damaged: its 'classes' must be the names of {config.num_classes} classes.")
    for values in statistics if isinstance(statistics, list) and len(statistics) == 2 else [None]:
        # Not isinstance, because True is an int. A range, because JSON readers accept Infinity and NaN.
        if not isinstance(values, list) or not all(type(v) in (int, float) and abs(v) < 1e30 for v in values):
            raise ConfigError(f"{path} is damaged: its 'statistics' must be the lists of means and deviations.")
    mean, std = statistics
    if not len(mean) == len(std) == config.in_channels or min(std) <= 0:
        raise ConfigError(
            f"{path} is damaged: its 'statistics' must have the mean and a positive deviation of "
            f"{pluralize(config.in_channels, 'channel')}."
        )
    return tuple(classes), (tuple(mean), tuple(std))


def transfer_weights(trained: TrainedNetwork, network: DiscreteNetwork, classes: tuple[str, ...]) -> None:
    """Copy the weights of a trained network to one that is to be trained on.

    The classifier is copied if the classes are the same; else it keeps its initial weights, as the auxiliary head does.

    Args:
        trained: Trained network.
        network: Network of the same architecture, width and depth.
        classes: Classes of ``network``.

    Raises:
        ConfigError: The networks differ in more than classifier and auxiliary head, as those for small and for large
            images do.
    """
    own, given = network.state_dict(), trained.network.state_dict()
    last = trained.network.get_classifier()
    prefix = next(f"{name}." for name, module in trained.network.named_modules() if module is last)
    copied = {
        name: weight for name, weight in given.items() if classes == trained.classes or not name.startswith(prefix)
    }
    for name, weight in copied.items():
        if name not in own or own[name].shape != weight.shape:
            height, width = trained.network_config.image_size
            raise ConfigError(
                f"the trained network is for other images, of {height}x{width} pixels and "
                f"{pluralize(trained.network_config.in_channels, 'channel')}: its {name} does not fit. Add "
                f"--image-size {height}x{width}, or images of as many channels."
            )
    network.load_state_dict({**own, **copied})


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict from ``path`` into the network; ConfigError if it is of another network."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"the weights in {path} are those of another network: {reason}") from None
