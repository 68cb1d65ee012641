"""Settings of the training of a supernet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from train.data import ImageData, choose_recipe
from train.recipe import TrainConfig, read_recipe
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import check_types, format_flag, option
from zcpt.space import SearchSpace

_POSITIVE = ("channels", "layers", "epochs", "lr")


@dataclass(frozen=True)
class SupernetConfig:
    """Settings of the training of a supernet. The defaults are those of DARTS' search on CIFAR-10.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
    """

    channels: int = option(16, "width: channels of the first cells", shown="the space's for a search")
    layers: int = option(8, "depth, as the space counts it", shown="the space's for a search")
    epochs: int = option(50, "passes over the half of the images that trains the weights")
    samples: float = option(1.0, "share of the training images that is used, drawn at random once")
    batch_size: int = option(64, "images of each of the two mini-batches of a step")
    lr: float = option(0.025, "first learning rate of the weights, which falls along a cosine")
    min_lr: float = option(0.001, "last learning rate of the weights")
    momentum: float = option(0.9, "momentum of the weights")
    weight_decay: float = option(3e-4, "weight decay of the weights")
    clip_grad: float = option(5.0, "maximum norm of the gradient of the weights; 0 does not clip")
    alpha_lr: float = option(3e-4, "learning rate of the architecture parameters; 0 leaves them as they are")
    alpha_weight_decay: float = option(1e-3, "weight decay of the architecture parameters")
    alpha_noise: float = option(1e-3, "standard deviation of the first architecture parameters")
    alpha_order: Literal["first", "second"] = option(
        "first",
        "gradient of the architecture parameters: at the weights as they are, or (second) through the next step of the "
        "weights, which takes about three times as long",
    )
    crop_padding: int = option(
        4, "pixels of padding of random crops; 0 does not crop", shown="an eighth of the images' shorter side"
    )
    flip: bool = option(True, "flip images horizontally at random", shown="--flip, but for digits")
    save_every: int = option(0, "epochs between supernets that are kept, such as epoch_010.safetensors; 0: the last")
    seed: int = option(0, "seed of the halves, initial weights, order and augmentation")
    workers: int = option(0, "worker processes that read images; 0 uses the main process")

    def __post_init__(self) -> None:
        check_types(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"{format_flag(field.name)} {value} must not be negative.")
        for name in _POSITIVE:
            if not getattr(self, name):
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must be above 0.")
        if self.batch_size < 2:
            raise ConfigError(f"--batch-size {self.batch_size} is too small: it must be at least 2.")
        if not 0 < self.samples <= 1:
            raise ConfigError(f"--samples {self.samples} must be above 0 and at most 1.")
        if self.min_lr > self.lr:
            raise ConfigError(f"--min-lr {self.min_lr} must not be above --lr {self.lr}.")


def make_supernet_config(space: SearchSpace, data: ImageData, **options: Any) -> SupernetConfig:
    """Make the settings of the training of a supernet.

    Args:
        space: Space that gives the default width and depth.
        data: Data set; its images give the default padding, and its recipe says whether they are flipped.
        options: Fields of ``SupernetConfig`` that take precedence.

    Raises:
        ConfigError: A name is unknown, or a value is out of range.
    """
    names = [field.name for field in fields(SupernetConfig)]
    for name in options:
        if name not in names:
            raise ConfigError(describe_unknown_name("option of train-supernet", name, names))
    defaults = {
        "channels": space.search_size.channels,
        "layers": space.search_size.layers,
        "crop_padding": max(1, round(min(data.image_shape[1:]) / 8)),  # as in the batches of a search
        "flip": read_recipe(choose_recipe(data)).values.get("flip", True),
    }
    return SupernetConfig(**{**defaults, **options})


def make_train_config(config: SupernetConfig, seed: int, **changes: Any) -> TrainConfig:
    """Return the settings for the parts that a supernet shares with networks: loader, optimiser and schedule.

    Args:
        config: Settings of the supernet.
        seed: Seed of order and augmentation.
        changes: Fields of ``TrainConfig`` that differ.
    """
    shared = (
        "channels", "layers", "epochs", "batch_size", "lr", "min_lr", "momentum", "weight_decay", "clip_grad",
        "crop_padding", "flip", "workers",
    )  # fmt: skip
    values: dict[str, Any] = {name: getattr(config, name) for name in shared}
    values |= {"crop": "pad", "cutout": 0, "auxiliary_weight": 0.0, "drop_path": 0.0, "seed": seed}
    return TrainConfig(recipe="supernet", **{**values, **changes})
