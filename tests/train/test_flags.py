"""Every setting of a training changes something that can be seen."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zcpt
from train.data import ImageData
from train.images import InMemoryImages
from train.loaders import ReadingSource
from train.loop import Trainer
from train.recipe import TrainConfig
from zcpt.cli._parser import build_command_parser, list_flags
from zcpt.options import format_flag

TESTS = Path(__file__).parents[1]
SPACE = zcpt.get_space("nasbench201")
CELL = "|skip_connect~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
SMALL: dict[str, Any] = {"channels": 2, "layers": 1, "epochs": 2, "batch_size": 8, "crop_padding": 1, "cutout": 2}

CHANGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "channels": (3, {}),
    "layers": (2, {}),
    "epochs": (3, {}),
    "samples": (0.5, {}),
    "schedule_epochs": (4, {}),
    "batch_size": (6, {}),
    "optimizer": ("adamw", {}),
    "optimizer_eps": (0.1, {"optimizer": "adamw"}),
    "lr": (0.1, {}),
    "lr_base_size": (4, {}),
    "momentum": (0.5, {}),
    "weight_decay": (0.1, {}),
    "decay_all": (False, {"weight_decay": 0.1}),
    "schedule": ("none", {}),
    "schedule_per": ("batch", {}),
    "min_lr": (0.02, {}),
    "warmup_epochs": (1, {}),
    "warmup_lr": (0.01, {"warmup_epochs": 1}),
    "decay_epochs": (2.0, {"schedule": "step"}),
    "decay_rate": (0.5, {"schedule": "step"}),
    "slow_epochs": (2, {"schedule": "linear", "epochs": 4}),
    "clip_grad": (0.01, {}),
    "label_smoothing": (0.2, {}),
    "auxiliary_weight": (1.0, {}),
    "auxiliary_norm": (False, {}),
    "drop_path": (0.9, {}),
    "drop_path_schedule": ("constant", {"drop_path": 0.9}),
    "dropout": (0.5, {}),
    "crop": ("none", {}),
    "crop_padding": (2, {}),
    "crop_scale": (0.9, {"crop": "resized"}),
    "flip": (False, {}),
    "color_jitter": (0.9, {}),
    "hue_jitter": (0.5, {}),
    "auto_augment": ("rand-m9-mstd0.5", {}),
    "random_erase": (1.0, {}),
    "cutout": (5, {}),
    "mixup": (1.0, {}),
    "cutmix": (1.0, {}),
    "mixup_off_epochs": (1, {"mixup": 1.0}),
    "interpolation": ("bicubic", {"test_crop": 0.5}),
    "test_crop": (0.5, {}),
    "holdout": (0.3, {}),
    "ema": (True, {}),
    "ema_decay": (0.1, {"ema": True}),
    "amp": (True, {}),
    "accumulate": (2, {}),
    "seed": (1, {}),
}
"""Setting -> a value that changes what an epoch measures, and the settings without which it has no effect."""


def build_trainer(**options: Any) -> Trainer:
    """Return a training on 24 random images of four colours."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 8, 8), generator=generator, dtype=torch.uint8)
    part = InMemoryImages(images, torch.arange(24) % 4)
    statistics = ((0.5,) * 3, (0.25,) * 3)
    data = ImageData(tuple("abcd"), lambda train: part, "random", known_statistics=statistics)
    return Trainer(SPACE, SPACE.parse(CELL), data, TrainConfig(**{**SMALL, **options}), torch.device("cpu"))


def measure(**options: Any) -> list[dict[str, float]]:
    """Train, and return what is measured of each epoch, but for times and memory."""
    trainer = build_trainer(**options)
    rows = [trainer.run_epoch() for _ in range(trainer.config.epochs)]
    return [{k: v for k, v in row.items() if "second" not in k and k != "memory_mb"} for row in rows]


@cache
def measure_once(options: tuple[tuple[str, Any], ...]) -> list[dict[str, float]]:
    """Return what is measured with the settings from which one is changed: most tests share them."""
    return measure(**dict(options))


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_changes_what_is_measured(name: str) -> None:
    value, others = CHANGED[name]
    assert value != {**TrainConfig.__dict__, **SMALL, **others}.get(name)
    assert measure_once(tuple(others.items())) != measure(**{**others, name: value})


def test_what_is_measured_is_the_same_without_a_change() -> None:
    assert measure() == measure()


def test_workers_read_images() -> None:
    sources = [build_trainer(crop="resized", workers=workers).train_loader for workers in (0, 1)]
    counts = []
    for loader in sources:
        source = getattr(loader, "source")  # noqa: B009  # the protocol does not promise it
        assert isinstance(source, ReadingSource)
        counts.append(source.loader.num_workers)
    assert counts == [0, 1]


def test_channels_last_is_the_memory_format_of_weights_and_images() -> None:
    for is_last in (False, True):
        trainer = build_trainer(channels_last=is_last)
        seen: list[bool] = []
        convolution = next(m for m in trainer.network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
        convolution.register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        trainer.run_epoch()
        assert {*seen} == {is_last}
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == is_last


def test_checkpointing_computes_the_activations_twice() -> None:
    counts = []
    for checkpointing in (False, True):
        trainer = build_trainer(grad_checkpointing=checkpointing, epochs=1)
        calls: list[bool] = []
        convolution = [m for m in trainer.network.modules() if isinstance(m, nn.Conv2d)][4]
        convolution.register_forward_hook(lambda module, inputs, output, calls=calls: calls.append(module.training))
        trainer.run_epoch()
        counts.append(sum(calls))
    assert counts == [3, 6]


def test_the_type_of_amp_is_that_of_the_activations() -> None:
    for name in ("bfloat16", "float16"):
        trainer = build_trainer(amp=True, amp_dtype=name)
        seen: set[torch.dtype] = set()
        convolution = next(m for m in trainer.network.modules() if isinstance(m, nn.Conv2d))
        convolution.register_forward_hook(lambda module, inputs, output, seen=seen: seen.add(output.dtype))
        trainer.run_epoch()
        assert seen == {getattr(torch, name)}


ELSEWHERE = {
    "recipe": ("zcpt/cli/test_train_recipe.py", "test_a_recipe_of_the_user_trains"),
    "compile": ("train/test_loop.py", "test_compiled_training_is_the_plain_one"),
    "workers": ("train/test_flags.py", "test_workers_read_images"),
    "channels_last": ("train/test_flags.py", "test_channels_last_is_the_memory_format_of_weights_and_images"),
    "grad_checkpointing": ("train/test_flags.py", "test_checkpointing_computes_the_activations_twice"),
    "amp_dtype": ("train/test_flags.py", "test_the_type_of_amp_is_that_of_the_activations"),
    "sync_bn": ("train/test_processes.py", "sync_bn"),
    "max_params": ("zcpt/cli/test_train_recipe.py", "test_a_budget_chooses_width_and_depth"),
    "max_macs": ("zcpt/cli/test_train_recipe.py", "test_a_budget_chooses_width_and_depth"),
    "image_size": ("zcpt/cli/test_train_recipe.py", "test_large_pictures_are_brought_to_the_size_of_the_recipe"),
    "arch": ("zcpt/cli/test_train_recipe.py", "WORDS"),
    "from": ("zcpt/cli/test_finetune.py", "test_the_weights_are_those_of_the_trained_network"),
    "space": ("zcpt/cli/test_train_recipe.py", "WORDS"),
    "out": ("zcpt/cli/test_train_recipe.py", "WORDS"),
    "dataset": ("zcpt/cli/test_train_recipe.py", "test_large_pictures_are_brought_to_the_size_of_the_recipe"),
    "resume": ("zcpt/cli/test_training_folder.py", "test_a_finished_training_is_left_as_it_is"),
    "validation_split": ("zcpt/cli/test_pictures.py", "test_a_flat_folder_is_searched_trained_on_and_evaluated"),
    "split_seed": ("zcpt/cli/test_pictures.py", "test_a_flat_folder_is_searched_trained_on_and_evaluated"),
    "data_dir": ("zcpt/cli/test_cli.py", "where embedded images lie"),
    "download": ("zcpt/cli/test_cli.py", "downloading a folder"),
    "device": ("zcpt/cli/test_training_folder.py", "a device that is none"),
    "c": ("zcpt/cli/test_flag_files.py", "-c"),
}
"""Flag -> the test that sees it, where no measurement does."""


def test_every_flag_of_zcpt_train_is_seen_by_a_test() -> None:
    flags = {name for name in list_flags(build_command_parser("train")) if not name.startswith("--no-")}
    seen = {format_flag(name) for name in [*CHANGED, *ELSEWHERE]} - {"--c"} | {"-c"}
    assert flags == seen
    assert {field.name for field in fields(TrainConfig)} <= {*CHANGED, *ELSEWHERE}
    for name, (file, text) in ELSEWHERE.items():
        assert text in (TESTS / file).read_text(), name
