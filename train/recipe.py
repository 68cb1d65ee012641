"""Settings of a training, and the published recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.files import parse_yaml, read_text
from zcpt.options import check_types, format_flag, option
from zcpt.space import SearchSpace, WidthDepth


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training. The defaults are the DARTS recipe for CIFAR.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
    """

    recipe: str = option("cifar", "name of a set of values, as 'zcpt list recipes' shows them")
    channels: int = option(36, "width: channels of the first cells", shown="the space's for the data set")
    layers: int = option(20, "depth, as the space counts it", shown="the space's for the data set")
    epochs: int = option(600, "passes over the training images")
    samples: float = option(1.0, "share of the training images that is trained on, drawn at random once")
    batch_size: int = option(96, "images per mini-batch, over all processes together")
    optimizer: str = option("momentum", "optimiser, by its name in timm; 'momentum' is SGD without Nesterov")
    optimizer_eps: float = option(0.0, "epsilon of the optimiser; 0 takes that of timm")
    lr: float = option(0.025, "highest learning rate")
    lr_base_size: int = option(
        0,
        "global batch for which --lr, --warmup-lr and --min-lr are stated: with another one they are scaled in "
        "proportion; 0 does not scale",
    )
    momentum: float = option(0.9, "momentum of the optimiser")
    weight_decay: float = option(3e-4, "weight decay")
    decay_all: bool = option(True, "decay biases and the parameters of norms too")
    schedule: Literal["cosine", "linear", "step", "none"] = option(
        "cosine",
        "schedule of the learning rate: cosine or linear to --min-lr, step by --decay-rate, or none, which keeps it "
        "constant",
    )
    schedule_per: Literal["epoch", "batch"] = option("epoch", "how often the learning rate is set")
    schedule_epochs: int = option(
        0, "epochs of the whole schedule, if the training ends before it does; 0: those of the training"
    )
    min_lr: float = option(0.0, "final learning rate of the schedules cosine and linear")
    warmup_epochs: int = option(0, "first epochs, in which the learning rate rises linearly from --warmup-lr")
    warmup_lr: float = option(0.0, "learning rate at the beginning of the warm-up")
    decay_epochs: float = option(1.0, "epochs after which the schedule 'step' multiplies by --decay-rate")
    decay_rate: float = option(0.97, "factor of the schedule 'step'")
    slow_epochs: int = option(
        0, "last epochs of the schedule 'linear' that fall less steeply: 1/n of the last step in n epochs"
    )
    clip_grad: float = option(5.0, "maximum norm of the gradient; 0 does not clip")
    accumulate: int = option(1, "parts in which each process computes its share of a mini-batch, to save memory")
    label_smoothing: float = option(0.0, "label smoothing of the loss")
    auxiliary_weight: float = option(0.4, "weight of the auxiliary head's loss; 0 builds no auxiliary head")
    auxiliary_norm: bool = option(True, "normalise after the auxiliary head's last convolution")
    drop_path: float = option(0.2, "drop-path probability, see --drop-path-schedule")
    drop_path_schedule: Literal["ramp", "constant", "depth"] = option(
        "ramp",
        "ramp: --drop-path rises linearly from 0 over the epochs; constant: the same in all epochs; depth: likewise, "
        "and rises linearly over the blocks, from 0 in the first",
    )
    dropout: float = option(
        0.0, "dropout probability before the classifier; 0 keeps that of the space", shown="0.2 for proxyless, else 0"
    )
    crop: Literal["pad", "resized", "none"] = option(
        "pad", "random crops: of padded images, of a random area that is resized (ImageNet), or none"
    )
    crop_padding: int = option(
        4,
        "pixels of padding of --crop pad; 0 does not crop",
        shown="an eighth of the images' shorter side",
    )
    crop_scale: float = option(0.08, "smallest share of a picture that --crop resized takes")
    flip: bool = option(True, "flip images horizontally at random")
    color_jitter: float = option(0.0, "largest random change of brightness, contrast and saturation")
    hue_jitter: float = option(0.0, "largest random change of the hue, as a share of the circle: 0 to 0.5")
    auto_augment: str = option("", "random operations on pictures, in timm's spelling, such as rand-m9-mstd0.5")
    random_erase: float = option(0.0, "probability with which a random rectangle is replaced by noise")
    cutout: int = option(
        16, "side of the square of Cutout in pixels; 0 turns Cutout off", shown="half the images' shorter side"
    )
    mixup: float = option(0.0, "alpha of mixup, between the images of one process; 0 turns it off")
    cutmix: float = option(0.0, "alpha of CutMix, likewise; with both, each batch has one or the other")
    mixup_off_epochs: int = option(0, "last epochs without mixup and CutMix")
    interpolation: Literal["bilinear", "bicubic"] = option("bilinear", "interpolation where pictures are resized")
    test_crop: float = option(
        1.0, "side of the centre crop of a test picture, as a share of the side to which it is resized"
    )
    holdout: float = option(
        0.0, "share of the training images kept back, on which the best epoch is chosen; 0: the last epoch counts"
    )
    ema: bool = option(False, "average the weights over the steps (EMA), and measure and keep the averages")
    ema_decay: float = option(0.9999, "decay of the averages in each step")
    seed: int = option(0, "seed of initial weights, order and augmentation")
    workers: int = option(
        0,
        "worker processes that read and augment images; 0 uses the main process",
        shown="0 on a CPU, else the number of cores, at most 8",
    )
    amp: bool = option(False, "compute in --amp-dtype under torch.autocast")
    amp_dtype: Literal["bfloat16", "float16"] = option("bfloat16", "type of numbers of --amp")
    sync_bn: bool = option(False, "compute the statistics of BatchNorm over the images of all processes")
    grad_checkpointing: bool = option(False, "compute activations again in the backward pass, to save memory")
    channels_last: bool = option(False, "store images and weights in channels-last memory format")
    compile: bool = option(False, "compile the network with torch.compile")

    def __post_init__(self) -> None:
        check_types(self)
        # BatchNorms on 1x1 maps need two images.
        for name, least in (("channels", 1), ("layers", 1), ("epochs", 1), ("batch_size", 2), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{format_flag(name)} {getattr(self, name)} is too small: it must be at least {least}."
                )
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"{format_flag(f.name)} {value} must not be negative.")
        if self.drop_path >= 1 or self.label_smoothing >= 1:
            raise ConfigError("--drop-path and --label-smoothing must be below 1.")
        for names, is_right, rule in _RULES:
            for name in names:
                if not is_right(getattr(self, name)):
                    raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must be {rule}.")
        for name in ("warmup_epochs", "slow_epochs"):
            if 0 < self.epochs <= getattr(self, name):
                raise ConfigError(
                    f"{format_flag(name)} {getattr(self, name)} must be less than --epochs {self.epochs}."
                )
        if 0 < self.schedule_epochs < self.epochs:
            raise ConfigError(
                f"--schedule-epochs {self.schedule_epochs} must be at least --epochs {self.epochs}, or 0."
            )
        if self.auto_augment and (self.color_jitter or self.hue_jitter):
            raise ConfigError(
                "--auto-augment changes colours itself: add --color-jitter 0 --hue-jitter 0, or leave it out."
            )

    @property
    def schedule_length(self) -> int:
        """Number of epochs from which learning rates and drop-path follow."""
        return self.schedule_epochs or self.epochs


_RULES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("dropout", "holdout", "ema_decay"), lambda value: value < 1, "below 1"),
    (("test_crop", "crop_scale", "decay_rate", "samples"), lambda value: 0 < value <= 1, "above 0 and at most 1"),
    (("random_erase",), lambda value: value <= 1, "at most 1"),
    (("hue_jitter",), lambda value: value <= 0.5, "at most 0.5"),
    (("decay_epochs",), lambda value: value > 0, "above 0"),
)
"""Settings, the test that their values pass, and its words."""


@dataclass(frozen=True)
class Recipe:
    """Named set of values of ``TrainConfig``: a file in ``train/recipes``, or one of the user's."""

    name: str
    summary: str
    """One line for ``zcpt list``."""
    values: dict[str, Any]
    """Values that differ from the defaults."""
    cost: str = ""
    """Rough cost in words, for ``zcpt list``."""
    size: str = "train"
    """Width and depth: the space's size of this name, such as ``search_size``; 'usual': that of the data set."""
    image_side: int = 32
    """Side of the images, in pixels, for which crop_padding and cutout are stated; they grow with the images."""
    image_size: int = 0
    """Largest side of the images, in pixels; larger pictures are brought to it. 0: any."""
    width: float = 1.0
    """Share of the channels of that size which the network has: reduced trainings have fewer (``train.reduced``)."""
    resolution: float = 1.0
    """Share of the height and width of the images to which they are brought."""

    @property
    def is_reduced(self) -> bool:
        """Whether network or images are smaller than usual."""
        return self.width != 1 or self.resolution != 1


_FOLDER = Path(__file__).parent / "recipes"
_KEYS: dict[str, type] = {
    "summary": str, "cost": str, "size": str, "image_side": int, "image_size": int, "width": float,
    "resolution": float, "values": dict,
}  # fmt: skip
"""Keys of a file of a recipe, and the types of their values."""
_SIZES = ("search", "train", "small", "imagenet", "usual")


def list_recipes() -> list[str]:
    """Return the names of the recipes, DARTS' first."""
    return sorted((path.stem for path in _FOLDER.glob("*.yaml")), key=lambda name: (name != "cifar", name))


def read_recipe(name: str) -> Recipe:
    """Read a recipe by its name, or from a YAML file of the user, which has the form of those in ``train/recipes``.

    Raises:
        ConfigError: There is no such recipe, or the file is damaged or has unknown keys.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name).expanduser()
    elif name in list_recipes():
        path = _FOLDER / f"{name}.yaml"
    else:
        raise ConfigError(
            f"{describe_unknown_name('recipe', name, list_recipes(), 'zcpt list recipes')}, or give FILE.yaml"
        )
    document = parse_yaml(read_text(path), path)
    if not isinstance(document, dict) or not isinstance(document.get("values"), dict):
        raise ConfigError(f"{path} is no recipe: it must have the key 'values', with settings such as 'epochs: 100'.")
    for key, value in document.items():
        if key not in _KEYS:
            raise ConfigError(f"{path}: {describe_unknown_name('key', str(key), _KEYS)}.")
        if type(value) is not _KEYS[key] and not (_KEYS[key] is float and type(value) is int):
            raise ConfigError(f"{path}: '{key}' takes a value of type {_KEYS[key].__name__}, not {value!r}.")
    recipe = Recipe(path.stem, **{"summary": "", **document})
    if recipe.size not in _SIZES or recipe.image_side < 1 or recipe.image_size < 0:
        raise ConfigError(
            f"{path}: size must be {', '.join(_SIZES)}, image_side at least 1, and image_size at least 0."
        )
    if not (0 < recipe.width <= 1 and 0 < recipe.resolution <= 1):
        raise ConfigError(f"{path}: width and resolution must be above 0 and at most 1.")
    names = [f.name for f in fields(TrainConfig) if f.name not in ("recipe", "channels", "layers")]
    for key in recipe.values:
        if key not in names:
            raise ConfigError(f"{path}: {describe_unknown_name('setting', str(key), names)}.")
    _check_values(recipe, path)
    return recipe


def describe_recipe(recipe: Recipe) -> tuple[str, ...]:
    """Return the row of a recipe in ``zcpt list recipes``: a text for each column."""
    return str(_get_value(recipe, "epochs")), str(_get_value(recipe, "batch_size")), recipe.summary, recipe.cost


def _check_values(recipe: Recipe, path: Path) -> None:
    try:
        TrainConfig(**recipe.values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def suggest_recipe(image_size: tuple[int, int]) -> str:
    """Return the name of the recipe for images of this height and width, where the data set names none."""
    side = min(image_size)
    # DARTS' networks reduce CIFAR's 32 pixels to 8; its ImageNet recipe takes areas of pictures, which must be large.
    return "digits" if side <= 12 else "cifar-fast" if side <= 48 else "imagenet"


def make_train_config(
    space: SearchSpace,
    recipe: str | Recipe,
    dataset: str = "cifar10",
    image_size: tuple[int, int] | None = None,
    **options: Any,
) -> TrainConfig:
    """Make the settings of a training.

    Args:
        space: Space that gives the default width and depth.
        recipe: A recipe, or its name or file for ``read_recipe``.
        dataset: Data set, which width and depth depend on.
        image_size: Height and width of the images, which crops and Cutout depend on; None is that of the recipe.
        options: Fields of ``TrainConfig`` that take precedence over recipe and space.

    Raises:
        ConfigError: A name is unknown, or a value is out of range.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(recipe)
    size = choose_width_depth(space, recipe, dataset)
    values = {"channels": reduce_channels(size.channels, recipe), "layers": size.layers, **recipe.values}
    values |= {**_scale_augmentation(recipe, image_size), **_shorten_phases(recipe, options), **options}
    names = [f.name for f in fields(TrainConfig)]
    for name in values:
        if name not in names:
            raise ConfigError(describe_unknown_name("option of train", name, names))
    return TrainConfig(recipe=recipe.name, **values)


def reduce_channels(channels: int, recipe: Recipe) -> int:
    """Return the channels of a recipe's network, which may have a share of the usual ones."""
    return max(1, round(recipe.width * channels))


def _get_value(recipe: Recipe, name: str) -> Any:
    return recipe.values.get(name, TrainConfig.__dataclass_fields__[name].default)


def _scale_augmentation(recipe: Recipe, image_size: tuple[int, int] | None) -> dict[str, int]:
    """Return the recipe's pixels of crops and Cutout for images of this size."""
    if image_size is None:
        return {}
    stated = {name: _get_value(recipe, name) for name in ("crop_padding", "cutout")}
    scale = min(image_size) / recipe.image_side  # the search's crops are scaled and rounded in the same way
    most = min(image_size) - 1
    return {name: min(max(1, round(scale * pixels)), most) for name, pixels in stated.items() if pixels}


def _shorten_phases(recipe: Recipe, options: dict[str, Any]) -> dict[str, int]:
    """Return the recipe's numbers of first and last epochs, in proportion if the user gives fewer epochs."""
    epochs, given = _get_value(recipe, "epochs"), options.get("epochs")
    if type(given) is not int or not 0 < given < epochs:
        return {}
    names = ("warmup_epochs", "slow_epochs", "mixup_off_epochs")
    return {name: min(round(_get_value(recipe, name) * given / epochs), given - 1) for name in names}


def check_augmentation(config: TrainConfig, image_size: tuple[int, int]) -> None:
    """Raise ConfigError if crops or Cutout can leave nothing of an image of this height and width."""
    side = min(image_size)
    for name in ("crop_padding", "cutout"):
        if getattr(config, name) >= side:
            raise ConfigError(
                f"{format_flag(name)} {getattr(config, name)} can leave nothing of an image of {image_size[0]}x"
                f"{image_size[1]} pixels: give less than {side}, or 0 to turn it off."
            )


def choose_width_depth(space: SearchSpace, recipe: Recipe, dataset: str) -> WidthDepth:
    """Return the usual width and depth of a recipe's networks for a data set."""
    # The published experiments train on CIFAR-100 and SVHN at the width and depth of the search (Zela et al.,
    # arXiv 1909.09656).
    name = "search" if recipe.size in ("train", "usual") and dataset in ("cifar100", "svhn") else recipe.size
    size: WidthDepth = getattr(space, f"{name}_size", space.train_size)
    return size
