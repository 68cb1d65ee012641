"""Everything that decides what a training does, and the published recipes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import check_types, format_flag, option
from zcpt.space import SearchSpace, WidthDepth


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; the defaults are the DARTS recipe for CIFAR. ConfigError if they cannot be used."""

    recipe: str = option("cifar", "named set of the values below: cifar or digits")
    channels: int = option(36, "width: channels of the first cells", shown="the space's for the data set")
    layers: int = option(20, "depth, as the space counts it", shown="the space's for the data set")
    epochs: int = option(600, "passes over the training images")
    batch_size: int = option(96, "images in a mini-batch")
    optimizer: str = option("momentum", "timm's name of the optimiser; 'momentum' is SGD without Nesterov")
    lr: float = option(0.025, "learning rate at the start")
    momentum: float = option(0.9, "momentum of the optimiser")
    weight_decay: float = option(3e-4, "weight decay, on all parameters")
    schedule: Literal["cosine", "none"] = option("cosine", "learning rate from epoch to epoch: cosine, or the same")
    min_lr: float = option(0.0, "learning rate that the schedule comes to")
    clip_grad: float = option(5.0, "largest norm of the gradient; 0 does not clip")
    label_smoothing: float = option(0.0, "label smoothing of the loss")
    auxiliary_weight: float = option(0.4, "weight of the auxiliary head's loss; 0 builds no such head")
    drop_path: float = option(0.2, "drop-path probability that the last epoch comes to; it rises linearly from 0")
    crop_padding: int = option(4, "pixels of padding before random crops; 0 does not crop")
    flip: bool = option(True, "mirror images at random")
    cutout: int = option(16, "side of the square that is cut out of each image, in pixels; 0 cuts nothing")
    seed: int = option(0, "seed of weights, order and augmentation")
    workers: int = option(
        0,
        "processes that read and augment images; 0 does it in the main process",
        shown="0 on a CPU, else 8 or as many as there are cores",
    )
    amp: bool = option(False, "compute in bfloat16 where torch.autocast deems it safe")
    channels_last: bool = option(False, "store images and weights with channels last")
    compile: bool = option(False, "compile the network with torch.compile")

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in (("channels", 1), ("layers", 1), ("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:  # the BatchNorms need two images
                raise ConfigError(
                    f"{format_flag(name)} {getattr(self, name)} is too small: it must be at least {least}."
                )
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"{format_flag(f.name)} {value} must not be negative.")
        if self.drop_path >= 1 or self.label_smoothing >= 1:
            raise ConfigError("--drop-path and --label-smoothing must be below 1.")


@dataclass(frozen=True)
class Recipe:
    """A named set of values."""

    summary: str
    values: dict[str, Any]


RECIPES = {
    "cifar": Recipe("DARTS' recipe for CIFAR-10 and its like: 600 epochs, cutout, drop path", {}),
    "digits": Recipe(
        "a minute or two on a CPU for 8x8 digits",
        {
            "epochs": 30,
            "flip": False,
            "crop_padding": 1,
            "cutout": 2,
            "drop_path": 0.05,
            "channels_last": True,
        },
    ),
}


_SMALL_NETWORKS = ("cifar100", "svhn")


def _size(space: SearchSpace, recipe: str, dataset: str) -> WidthDepth:
    if recipe == "digits":
        return space.small_size
    # The published experiments trained on these at the width and depth of the search.
    return space.search_size if dataset in _SMALL_NETWORKS else space.train_size


def configure(space: SearchSpace, recipe: str, dataset: str = "cifar10", **options: Any) -> TrainConfig:
    """The settings for a space and a data set: the recipe's values, width and depth, below the options given."""
    if recipe not in RECIPES:
        raise ConfigError(describe_unknown_name("recipe", recipe, RECIPES, "zcpt list recipes"))
    size = _size(space, recipe, dataset)
    values = {"channels": size.channels, "layers": size.layers, **RECIPES[recipe].values, **options}
    known = [f.name for f in fields(TrainConfig)]
    for name in values:
        if name not in known:
            raise ConfigError(describe_unknown_name("option of train", name, known))
    return TrainConfig(recipe=recipe, **values)
