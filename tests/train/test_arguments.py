"""``args.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import zcpt
from train.arguments import ARGUMENTS, format_arguments, make_config_from, read_arguments
from train.recipe import TrainConfig, make_train_config
from zcpt import ConfigError

DATA = {"name": "digits", "directory": None, "train_images": 4, "test_images": 2, "statistics": [[0.5], [0.2]]}


def write(folder: Path, config: TrainConfig, *left_out: str) -> None:
    """Write the settings of a training, some of them left out."""
    document = yaml.safe_load(format_arguments(config, "cpu", DATA))
    (folder / ARGUMENTS).write_text(yaml.safe_dump({key: document[key] for key in document if key not in left_out}))


def test_settings_are_read_back(tmp_path: Path) -> None:
    config = make_train_config(zcpt.get_space("darts"), "cifar", ema=True, schedule="linear", auto_augment="rand-m9")
    write(tmp_path, config)
    assert make_config_from(read_arguments(tmp_path), tmp_path) == config


def test_settings_that_old_files_lack_have_their_defaults(tmp_path: Path) -> None:
    write(tmp_path, TrainConfig(lr=0.1), "ema", "warmup_epochs", "crop")
    assert make_config_from(read_arguments(tmp_path), tmp_path) == TrainConfig(lr=0.1)


def test_settings_that_all_files_have_are_required(tmp_path: Path) -> None:
    write(tmp_path, TrainConfig(), "lr")
    with pytest.raises(ConfigError, match="it has no 'lr'"):
        read_arguments(tmp_path)
