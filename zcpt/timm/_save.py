"""Trained networks as folders that timm and the Hugging Face hub read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm.models import create_model, save_for_hf
from timm.models._hub import generate_readme

from zcpt._version import __version__
from zcpt.files import write_atomically

if TYPE_CHECKING:
    from train.checkpoint import TrainedNetwork

_USAGE = """```python
import timm
import zcpt.timm  # registers the model: pip install zcpt

network = timm.create_model("hf-hub:OWNER/{name}", pretrained=True)  # or local-dir:FOLDER
```"""


def save_model(run: str | Path, directory: str | Path, *, license: str = "other") -> Path:
    """Save the network of a training for ``timm.create_model("local-dir:DIRECTORY", pretrained=True)``.

    The folder holds the weights (safetensors), ``config.json`` with the architecture, the classes and the normalisation
    of images, and a model card. ``timm.models.push_to_hf_hub`` or ``huggingface-cli upload`` sends it to the hub.

    Args:
        run: Folder of a training, or of a search with one training, or a ``model.safetensors``.
        directory: Folder to write, which is created.
        license: Name of the license for the model card, as the hub spells it.

    Returns:
        The folder.

    Raises:
        ConfigError: The training cannot be read.
    """
    # Not at the top: under timm's train.py, which imports this package, the name `train` is that script.
    from train.checkpoint import find_weights, load_network

    folder = Path(directory)
    trained = load_network(find_weights(run))
    config = trained.network_config
    # A text, so that the folder does not depend on files elsewhere.
    arguments: dict[str, Any] = {
        "architecture": json.dumps(trained.architecture.to_json()),
        "channels": config.channels,
        "layers": config.layers,
        "in_chans": config.in_channels,
        "img_size": config.image_size,
        "num_classes": config.num_classes,
    }
    model: Any = create_model("zcpt", **arguments)
    model.load_state_dict(trained.network.state_dict())
    mean, std = trained.statistics
    images = {
        "input_size": (config.in_channels, *config.image_size),
        "mean": mean,
        "std": std,
        "crop_pct": trained.preprocessing.test_crop,
        "interpolation": trained.preprocessing.interpolation,
    }
    save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(trained.classes), "pretrained_cfg": images},
        safe_serialization=True,
        data_config=images,
    )
    card = generate_readme(_describe_model(trained, folder.name, license), folder.name)
    write_atomically(folder / "README.md", card.encode())
    return folder


def _describe_model(trained: TrainedNetwork, name: str, license: str) -> dict[str, Any]:
    """Return the model card as timm's ``generate_readme`` takes it."""
    cost = trained.space.cost(trained.architecture, trained.network_config)
    height, width = trained.network_config.image_size
    training = {key: value for key, value in trained.about.items() if isinstance(value, str | int | float)}
    if "dataset" in training:  # without the folders of this machine, because cards are published
        training["dataset"] = Path(str(training["dataset"])).name
    details = {
        "Search space": trained.space.name,
        "Architecture": f"`{trained.space.format(trained.architecture)}`",
        "Parameters": f"{cost.params:,}",
        "MACs": f"{cost.macs:,}",
        "Image size": f"{height} x {width}",
        "Classes": ", ".join(trained.classes[:20]) + (" ..." if len(trained.classes) > 20 else ""),
        "Training": training,
    }
    return {
        "tags": ["image-classification", "timm", "neural-architecture-search", "zcpt"],
        "license": license,
        "description": f"Image classification network found and trained by zcpt {__version__}.",
        "details": details,
        "usage": _USAGE.format(name=name),
    }
