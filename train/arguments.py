"""Settings of a training in its run folder: ``args.yaml``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from train.data import ImageData
from train.recipe import TrainConfig
from zcpt.errors import ConfigError
from zcpt.files import describe_difference, parse_yaml, read_run_file, require_keys, write_atomically
from zcpt.printing import shorten

ARGUMENTS = "args.yaml"


def _is_statistics(value: object) -> bool:
    """Return whether a value is a mean and a standard deviation for each channel."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(row, list) and all(isinstance(number, int | float) for number in row) for row in value)
    )


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "device": ("text", lambda value: isinstance(value, str)),
    "data.name": ("text", lambda value: isinstance(value, str)),
    "data.directory": ("text or null", lambda value: value is None or isinstance(value, str)),
    "data.train_images": ("an integer", lambda value: type(value) is int),
    "data.test_images": ("an integer", lambda value: type(value) is int),
    "data.statistics": ("two lists of numbers", _is_statistics),
}
"""Entries beside the settings, and what they must be."""

_LATER = (
    "optimizer_eps", "lr_base_size", "decay_all", "schedule_per", "warmup_epochs", "warmup_lr", "decay_epochs",
    "decay_rate", "slow_epochs", "accumulate", "auxiliary_norm", "drop_path_schedule", "dropout", "crop", "crop_scale",
    "color_jitter", "hue_jitter", "auto_augment", "random_erase", "mixup", "cutmix", "mixup_off_epochs",
    "interpolation", "test_crop", "holdout", "ema", "ema_decay", "amp_dtype", "sync_bn", "grad_checkpointing",
    "samples", "schedule_epochs",
)  # fmt: skip
"""Settings that files of 0.1.0 lack. Their defaults are what that version did, and must stay so."""


def format_arguments(config: TrainConfig, device: str, data: Mapping[str, Any]) -> str:
    """Return the text of ``args.yaml``."""
    return yaml.safe_dump({**dataclasses.asdict(config), "device": device, "data": dict(data)}, sort_keys=False)


def describe_data(data: ImageData) -> dict[str, Any]:
    """Return the entry ``data`` of ``args.yaml``."""
    return {
        "name": data.name,
        "directory": str(data.directory.absolute()) if data.directory else None,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "statistics": [list(values) for values in data.statistics],
        **data.options.to_document(),
    }


def read_arguments(run_dir: Path) -> dict[str, Any]:
    """Read the settings of a training from its ``args.yaml``, with the entries ``device`` and ``data``.

    Raises:
        ConfigError: The file is missing or damaged, or a newer version has settings that this one does not know.
    """
    path = run_dir / ARGUMENTS
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    written = parse_yaml(read_run_file(path), path)
    required = [name for name in defaults if name not in _LATER]
    arguments = {name: defaults[name] for name in _LATER} | require_keys(written, [*required, *_KINDS], path)
    for name, (kind, has_kind) in _KINDS.items():
        value = arguments
        for key in name.split("."):
            value = value[key]
        if not has_kind(value):
            raise ConfigError(f"{path} is damaged: its '{name}' must be {kind}, and is {shorten(repr(value))}.")
    unknown = [name for name in arguments if name not in (*defaults, "device", "data")]
    if unknown:
        raise ConfigError(
            f"{path} has the setting '{shorten(str(unknown[0]))}', which this version of zcpt does not know: use the "
            "version that wrote it, or correct the file."
        )
    make_config_from(arguments, path)
    return arguments


def make_config_from(arguments: Mapping[str, Any], source: object, **changes: Any) -> TrainConfig:
    """Return the settings among the arguments, with changes; ConfigError names the source if one is wrong."""
    try:
        settings = {field.name: arguments[field.name] for field in dataclasses.fields(TrainConfig)}
        return TrainConfig(**{**settings, **changes})
    except ConfigError as error:
        raise ConfigError(f"the settings in {source} cannot be used: {error}") from None


def update_arguments(run_dir: Path, config: TrainConfig, data: Mapping[str, Any]) -> None:
    """Write the number of epochs to ``args.yaml`` if there are more than before, and where the images are now.

    Raises:
        ConfigError: There are fewer, or another setting has changed.
    """
    path = run_dir / ARGUMENTS
    before = read_arguments(run_dir)
    same_epochs = dataclasses.replace(config, epochs=before["epochs"])
    earlier = make_config_from(before, path)
    if same_epochs != earlier:
        difference = describe_difference("settings", dataclasses.asdict(earlier), dataclasses.asdict(same_epochs))
        raise ConfigError(f"{run_dir} belongs to another training: its {difference}. Train anew with another --out.")
    if config.epochs < before["epochs"]:
        raise ConfigError(
            f"--epochs {config.epochs} is less than the {before['epochs']} of {run_dir}: a training can only be "
            "extended. Train anew with another --out."
        )
    moved = {**before["data"], "name": data["name"], "directory": data["directory"]}
    if config.epochs > before["epochs"] or moved != before["data"]:
        write_atomically(path, format_arguments(config, before["device"], moved))
