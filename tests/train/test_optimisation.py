"""Optimiser and learning rates: timm's, and the published schedules that they stand for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from train.optimisation import Schedule, build_optimizer
from train.recipe import TrainConfig, read_recipe


def list_rates(batches: int = 1, **options: Any) -> list[float]:
    """Return the learning rates of all updates."""
    config = TrainConfig(**options)
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = Schedule(optimizer, config, batches)
    rates = []
    for epoch in range(config.epochs):
        for batch in range(batches):
            schedule.set_rate(epoch, batch)
            rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_cosine_falls_by_epoch_or_by_batch() -> None:
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert list_rates(lr=0.1, min_lr=0.01, epochs=4) == pytest.approx(expected)
    assert list_rates(2, lr=0.1, min_lr=0.01, epochs=2, schedule_per="batch") == pytest.approx(expected)
    assert list_rates(2, lr=0.1, min_lr=0.01, epochs=2)[1::2] == list_rates(2, lr=0.1, min_lr=0.01, epochs=2)[::2]


def test_the_linear_schedule_is_that_of_pc_darts() -> None:
    rates = list_rates(lr=0.5, epochs=250, schedule="linear", slow_epochs=5)
    expected = [0.5 * (245 - e) / 245 if 250 - e > 5 else 0.5 * (250 - e) / (245 * 5) for e in range(250)]
    assert rates == pytest.approx(expected)


def test_steps_and_warm_up() -> None:
    assert list_rates(lr=0.1, epochs=4, schedule="step", decay_epochs=1.0, decay_rate=0.97) == pytest.approx(
        [0.1 * 0.97**epoch for epoch in range(4)]
    )
    assert list_rates(lr=0.1, epochs=4, schedule="none", warmup_epochs=2, warmup_lr=0.02) == pytest.approx(
        [0.02, 0.06, 0.1, 0.1]
    )


def test_the_rate_grows_with_the_batch_where_the_settings_say_so() -> None:
    assert list_rates(lr=0.1, lr_base_size=256, batch_size=1024, epochs=1) == pytest.approx([0.4])
    assert list_rates(lr=0.1, batch_size=1024, epochs=1) == [0.1]
    ends: dict[str, Any] = {"lr": 0.1, "warmup_lr": 0.02, "min_lr": 0.04}
    ends |= {"warmup_epochs": 1, "schedule": "linear", "epochs": 3}
    rates = list_rates(lr_base_size=256, batch_size=512, **ends)
    assert rates == pytest.approx([2 * rate for rate in list_rates(**ends)])
    assert rates[0] == pytest.approx(0.04)


def test_imagenet_large_batch_has_the_rates_of_pc_darts() -> None:
    """``adjust_lr`` and the warm-up of ``train_imagenet.py``; timm's warm-up rises to the rate of epoch 0."""
    rates = list_rates(**read_recipe("imagenet-large-batch").values)
    published = [0.5 * (245 - e) / 245 if 250 - e > 5 else 0.5 * (250 - e) / (245 * 5) for e in range(250)]
    published[:5] = [rate * (epoch + 1) / 5 for epoch, rate in enumerate(published[:5])]
    assert rates[4:] == pytest.approx(published[4:])
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[:4] == pytest.approx(published[:4], rel=0.0125)


def test_biases_and_norms_are_decayed_only_where_the_settings_say_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    for decay_all, expected in ((True, {0.01}), (False, {0.0, 0.01})):
        optimizer = build_optimizer(network, TrainConfig(weight_decay=0.01, decay_all=decay_all))
        decays = {group["weight_decay"] for group in optimizer.param_groups for _ in group["params"]}
        assert decays == expected
    assert isinstance(build_optimizer(network, TrainConfig()), torch.optim.SGD)


def test_the_epsilon_of_the_optimiser_is_set() -> None:
    network = nn.Linear(2, 2)
    for value, expected in ((0.0, None), (0.002, 0.002)):
        config = TrainConfig(optimizer="rmsproptf", optimizer_eps=value)
        found = build_optimizer(network, config).param_groups[0]["eps"]
        assert found == (expected if expected else pytest.approx(1e-10))
