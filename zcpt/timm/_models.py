"""Entry points of the models that timm can create."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from darts_space.published import DARTS_CELLS, NASBENCH201_CELLS, get_genotype
from mobilenet_space.published import NASBENCH_MACRO, PROXYLESS
from zcpt.architecture_files import read_architecture
from zcpt.errors import ConfigError, ZcptError
from zcpt.space import DiscreteNetwork, SearchSpace, WidthDepth
from zcpt.space_registry import get_space

LARGE_FROM = 128
"""Smallest height and width, in pixels, of images that get a network of ImageNet's size."""
DARTS_LARGE = WidthDepth(48, 14)
"""Width and depth of DARTS' networks for ImageNet."""


@dataclass(frozen=True)
class PublishedNetwork:
    """Architecture that timm knows by name."""

    name: str
    """Name of the model in timm."""
    build_space: Callable[[], SearchSpace]
    text: str
    """Architecture in the notation of its space."""
    image_size: int = 224
    """Height and width of images unless ``img_size`` is given."""
    num_classes: int = 1000
    """Classes unless ``num_classes`` is given."""

    @property
    def space(self) -> SearchSpace:
        """Space of the architecture, with the published widths."""
        return self.build_space()


def choose_size(space: SearchSpace, image_size: tuple[int, int]) -> WidthDepth:
    """Return the published width and depth of networks of a space for images of this size."""
    is_large = min(image_size) >= LARGE_FROM and space.name.startswith("darts")
    return DARTS_LARGE if is_large else space.train_size


def _list_published() -> Iterator[PublishedNetwork]:
    for name in DARTS_CELLS:
        yield PublishedNetwork(_add_prefix(name), partial(get_space, "darts"), get_genotype(name))
    for name, text in NASBENCH201_CELLS.items():
        image_size, num_classes = {"best_c100": (32, 100), "best_in16": (16, 120)}.get(name, (32, 10))
        name = f"zcpt_nasbench201_{name}"
        yield PublishedNetwork(name, partial(get_space, "nasbench201"), text, image_size, num_classes)
    for name, text in NASBENCH_MACRO.items():
        yield PublishedNetwork(_add_prefix(name), partial(get_space, "nasbench-macro"), text, 32, 10)
    for name, (build_space, text) in PROXYLESS.items():
        yield PublishedNetwork(_add_prefix(name), build_space, text)


def _add_prefix(name: str) -> str:
    return name if name.startswith("zcpt_") else f"zcpt_{name}"


_PUBLISHED = {published.name: published for published in _list_published()}


def list_published_networks() -> list[PublishedNetwork]:
    """Return the published networks that timm knows by name."""
    return list(_PUBLISHED.values())


def create_network(
    read: Callable[[], tuple[SearchSpace, str]],
    *,
    num_classes: int,
    in_chans: int = 3,
    img_size: int | tuple[int, int] = 224,
    channels: int | None = None,
    layers: int | None = None,
    global_pool: str = "avg",
    drop_rate: float | None = None,
    drop_path_rate: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> DiscreteNetwork:
    """Create a network with the arguments that timm's models have.

    Args:
        read: Returns the space, and the architecture in its notation.
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Channels of the images.
        img_size: Height and width of the images: one number if they are equal. It decides on the stem.
        channels: Channels of the first cells; None takes the published width for images of this size.
        layers: Number of layers; None takes the published depth.
        global_pool: 'avg', 'max', 'avgmax', 'catavgmax', or '' for none.
        drop_rate: Dropout of the classifier's inputs; None takes that of the space.
        drop_path_rate: Drop path, the same in every epoch.
        device: Device of the weights.
        dtype: Type of the weights.
    """
    space, text = read()
    size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
    published = choose_size(space, size)
    network: Any = space.network(
        space.parse(text),
        channels=published.channels if channels is None else channels,
        layers=published.layers if layers is None else layers,
        num_classes=max(num_classes, 1),
        in_channels=in_chans,
        image_size=size,
    )
    if num_classes == 0 or global_pool != "avg":
        network.reset_classifier(num_classes, global_pool)
    if drop_rate is not None:
        network.set_dropout(drop_rate)
    network.set_drop_path(drop_path_rate)
    network.in_chans = in_chans
    # The only convolution that in_chans changes, so that pretrained weights can be adapted.
    convolutions = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    network._traits = {"first_conv": next(convolutions)}
    built: DiscreteNetwork = network.to(device=device, dtype=dtype)
    return built


def _describe_input(image_size: int, num_classes: int) -> dict[str, Any]:
    """Return timm's description of the images of a model, with the statistics of ImageNet or of CIFAR-10."""
    description = {
        "input_size": (3, image_size, image_size),
        "num_classes": num_classes,
        "classifier": "classifier",
        "interpolation": "bilinear",
        # The stem depends on the size, so timm has to hand it over (img_size).
        "fixed_input_size": True,
    }
    if image_size < LARGE_FROM:
        cifar = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616), "crop_pct": 1.0}
        return description | cifar
    return description


def _list_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, published in _PUBLISHED.items():
        default = _describe_input(published.image_size, published.num_classes)
        if published.image_size >= LARGE_FROM:
            yield f"{name}.imagenet", default
            yield f"{name}.cifar10", _describe_input(32, 10)
        else:
            yield name, default
    yield "zcpt", _describe_input(32, 10)


default_cfgs = generate_default_cfgs(dict(_list_configs()))
"""timm's descriptions of the models; the first of a name is the default."""


def _build_model(
    name: str, read: Callable[[], tuple[SearchSpace, str]], pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    feature_options = {"out_indices": None, "feature_cls": "getter"}
    create = partial(create_network, read)
    model: nn.Module = build_model_with_cfg(create, name, pretrained, feature_cfg=feature_options, **options)
    return model


def _register_published(published: PublishedNetwork) -> None:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        return _build_model(published.name, lambda: (published.space, published.text), pretrained, options)

    create.__name__ = create.__qualname__ = published.name
    create.__doc__ = f"Create the published network {published.name.removeprefix('zcpt_')}."
    globals()[published.name] = register_model(create)


def zcpt(pretrained: bool = False, **options: Any) -> nn.Module:
    """Create the network of any architecture.

    Options are those of ``create_network``, and ``architecture``: a run folder, a file, or the text; a text in the
    notation of a space needs the name of the ``space`` too.
    """
    given, space_name = options.pop("architecture", None), options.pop("space", None)
    if not given:
        raise ConfigError("model 'zcpt' needs an architecture=...: a run folder, a file, or the text.")
    try:
        space, architecture, _ = read_architecture(str(given), space_name)
    except ZcptError as error:
        message = str(error).replace("--arch", "architecture").replace("--space ", "space=")
        raise type(error)(message) from None
    return _build_model("zcpt", lambda: (space, space.format(architecture)), pretrained, options)


register_model(zcpt)
for _published in _PUBLISHED.values():
    _register_published(_published)
