"""The recipes cifar and imagenet, step by step, beside the published loop of DARTS written with torch alone.

The values are written here once more, as ``cnn/train.py`` and ``cnn/train_imagenet.py`` of quark0/darts have them. From
the product come the weights, the batches and which images drop path drops; all else is computed again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from train.data import ImageData
from train.images import InMemoryImages
from train.loop import Trainer
from train.recipe import make_train_config
from zcpt.layers import DropPath
from zcpt.space import DiscreteNetwork

EPOCHS = 4
STEPS = 5
"""Batches of an epoch."""
MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
GENOTYPE = """Genotype(
    normal=[('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_5x5', 2), ('avg_pool_3x3', 1),
            ('skip_connect', 2), ('max_pool_3x3', 0), ('dil_conv_5x5', 3)], normal_concat=range(2, 6),
    reduce=[('skip_connect', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2), ('avg_pool_3x3', 1),
            ('dil_conv_5x5', 2), ('skip_connect', 3), ('max_pool_3x3', 0)], reduce_concat=range(2, 6))"""


@dataclass
class Record:
    """What a training of the product did."""

    batches: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Images and labels of each step."""
    losses: list[float] = field(default_factory=list)
    """Loss that each step minimised."""
    kept: list[list[Tensor]] = field(default_factory=list)
    """For each step and each drop path, in the order of computation, which images were kept [B]."""


class PlainDropPath(nn.Module):
    """``drop_path`` of ``cnn/utils.py``, with given masks."""

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0
        self.masks: Iterator[Tensor] = iter(())

    def forward(self, x: Tensor) -> Tensor:
        if self.probability > 0:
            keep_prob = 1 - self.probability
            x = x / keep_prob * next(self.masks)[:, None, None, None]
        return x


class PlainAuxiliaryHead(nn.Module):
    """``AuxiliaryHeadCIFAR`` on 8x8 maps, and ``AuxiliaryHeadImageNet`` on 7x7 maps."""

    def __init__(self, layers: Sequence[nn.Module], stride: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(), nn.AvgPool2d(5, stride=stride, padding=0, count_include_pad=False), *layers[:-1]
        )
        self.classifier = layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        logits: Tensor = self.classifier(x.view(x.size(0), -1))
        return logits


def make_data(count: int, side: int, classes: int) -> ImageData:
    """Return random images and labels."""
    generator = torch.Generator().manual_seed(0)
    # From 1, so that a pixel of a padded crop is 0 only where the padding is.
    images = torch.randint(1, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, (count,), generator=generator)
    names = tuple(map(str, range(classes)))
    return ImageData(names, lambda train: InMemoryImages(images, labels), "random", known_statistics=(MEAN, STD))


def train_by_product(trainer: Trainer) -> Record:
    """Train all epochs, and record every step."""
    record, paths = Record(), [m for m in trainer.network.modules() if isinstance(m, DropPath)]

    def start_step(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        record.batches.append((inputs[0].clone(), inputs[1].clone()))
        record.kept.append([])

    def end_step(module: nn.Module, inputs: tuple[Tensor, ...], output: dict[str, Tensor]) -> None:
        record.losses.append(output["loss"].item())

    def record_mask(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module.training:
            record.kept[-1].append((output.flatten(1) != 0).any(1).float())

    hooks = [trainer.task.register_forward_pre_hook(start_step), trainer.task.register_forward_hook(end_step)]
    hooks += [path.register_forward_hook(record_mask) for path in paths]
    for _ in range(trainer.config.epochs):
        trainer.run_epoch()
    for hook in hooks:
        hook.remove()
    return record


def make_plain(network: DiscreteNetwork, stride: int) -> nn.Module:
    """Return a copy of a network with drop path and auxiliary head of this file."""
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DropPath):
                setattr(module, name, PlainDropPath())
    auxiliary = plain.auxiliary
    assert isinstance(auxiliary, nn.Module)
    # nn.Module's own children, not ours: the order is that of the computation.
    layers = [m for m in auxiliary.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.ReLU | nn.Linear)]
    plain.auxiliary = PlainAuxiliaryHead(layers, stride)
    return plain


def train_by_published_loop(
    plain: nn.Module,
    record: Record,
    *,
    lr: Callable[[int], float],
    weight_decay: float,
    drop_path: float,
    loss_function: Callable[[Tensor, Tensor], Tensor],
) -> list[float]:
    """Train on recorded batches as the published loops do; return the loss of each step."""
    optimizer = torch.optim.SGD(plain.parameters(), 0.0, momentum=0.9, weight_decay=weight_decay)
    paths = [m for m in plain.modules() if isinstance(m, PlainDropPath)]
    losses = []
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = lr(epoch)
        for step in range(epoch * STEPS, (epoch + 1) * STEPS):
            masks = iter(record.kept[step])
            for path in paths:
                path.probability, path.masks = drop_path * epoch / EPOCHS, masks
            images, target = record.batches[step]
            plain.train()
            optimizer.zero_grad()
            logits, logits_aux = plain(images)
            loss = loss_function(logits, target) + 0.4 * loss_function(logits_aux, target)
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 5)
            optimizer.step()
            losses.append(loss.item())
    return losses


def smooth_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """``CrossEntropyLabelSmooth`` with 0.1."""
    log_probs = F.log_softmax(logits, 1)
    targets = torch.zeros_like(log_probs).scatter_(1, target.unsqueeze(1), 1)
    targets = (1 - 0.1) * targets + 0.1 / logits.size(1)
    return (-targets * log_probs).mean(0).sum()


def build_trainer(data: ImageData, recipe: str, batch_size: int, channels: int, layers: int) -> Trainer:
    space = zcpt.get_space("darts")
    config = make_train_config(
        space,
        recipe,
        image_size=data.image_shape[1:],
        epochs=EPOCHS,
        batch_size=batch_size,
        lr_base_size=0,  # the learning rate of the recipe, also at this smaller batch
        channels=channels,
        layers=layers,
    )
    trainer = Trainer(space, space.parse(GENOTYPE), data, config, torch.device("cpu"))
    # Steps on random images and labels are chaotic: in float32 one rounding is a difference of 1e-2 ten steps later.
    trainer.network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return trainer


SIZES = [
    pytest.param(16, 4, 3, id="small"),
    pytest.param(8, 36, 5, id="published width", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("batch_size", "channels", "layers"), SIZES)
def test_twenty_steps_of_cifar_are_those_of_darts(batch_size: int, channels: int, layers: int) -> None:
    data = make_data(STEPS * batch_size, 32, 10)
    trainer = build_trainer(data, "cifar", batch_size, channels, layers)
    plain = make_plain(trainer.network, stride=3)
    record = train_by_product(trainer)
    norms = [m for m in plain.auxiliary.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]
    assert len(norms) == 2
    losses = train_by_published_loop(
        plain,
        record,
        lr=lambda epoch: 0.025 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2,
        weight_decay=3e-4,
        drop_path=0.2,
        loss_function=nn.CrossEntropyLoss(),
    )
    assert len(losses) == len(record.losses) == 20
    assert record.losses == pytest.approx(losses, abs=1e-5)
    assert abs(losses[0] - losses[-1]) > 0.01, "the losses must change"
    for one, other in zip(trainer.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    check_drop_path_rates(record)


def check_drop_path_rates(record: Record) -> None:
    """Assert that drop path drops images with probability 0.2 * epoch / epochs, each for itself."""
    for epoch in range(EPOCHS):
        steps = record.kept[epoch * STEPS : (epoch + 1) * STEPS]
        kept = torch.cat([mask for masks in steps for mask in masks])
        expected = 1 - 0.2 * epoch / EPOCHS
        error = math.sqrt(expected * (1 - expected) / len(kept))
        assert abs(kept.mean().item() - expected) <= 4 * error


@pytest.mark.parametrize(
    ("batch_size", "channels", "layers"),
    [
        pytest.param(6, 4, 3, id="small"),
        pytest.param(4, 48, 5, id="published width", marks=pytest.mark.slow),
    ],
)
def test_twenty_steps_of_imagenet_are_those_of_darts(batch_size: int, channels: int, layers: int) -> None:
    data = make_data(STEPS * batch_size, 224, 12)
    trainer = build_trainer(data, "imagenet", batch_size, channels, layers)
    plain = make_plain(trainer.network, stride=2)
    record = train_by_product(trainer)
    norms = [m for m in plain.auxiliary.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]
    assert len(norms) == 1, "AuxiliaryHeadImageNet has no second BatchNorm"
    losses = train_by_published_loop(
        plain,
        record,
        lr=lambda epoch: 0.1 * 0.97**epoch,
        weight_decay=3e-5,
        drop_path=0.0,
        loss_function=smooth_cross_entropy,
    )
    assert len(losses) == len(record.losses) == 20
    assert record.losses == pytest.approx(losses, abs=1e-5)
    assert abs(losses[0] - losses[-1]) > 0.01, "the losses must change"


def test_the_images_of_cifar_are_those_of_darts() -> None:
    """Every image is RandomCrop(32, padding=4), RandomHorizontalFlip, Normalize and Cutout(16) of its original."""
    data = make_data(60, 32, 10)
    trainer = build_trainer(data, "cifar", 30, 4, 3)
    raw = data.train
    assert isinstance(raw, InMemoryImages)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    padded = F.pad(raw.images.float() / 255, [4] * 4)
    found = []
    for batch in trainer.load_train_batches():
        for image in batch.images:
            found.append(find_transform(image, padded, mean, std))
    assert sorted(index for index, *_ in found) == list(range(60)), "every image once"
    shifts = torch.tensor([[top, left] for _, top, left, _, _, _ in found])
    holes = torch.tensor([[row, column] for *_, row, column in found])
    assert shifts.min() <= 1
    assert shifts.max() >= 7
    assert holes.min() <= 4
    assert holes.max() >= 27
    assert 15 <= sum(flipped for _, _, _, flipped, _, _ in found) <= 45


def find_transform(image: Tensor, padded: Tensor, mean: Tensor, std: Tensor) -> tuple[int, int, int, bool, int, int]:
    """Return index, shifts, flip, and centre of the hole of an augmented image [3, 32, 32]."""
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5)  # [N, 9, 9, 3, 32, 32]
    hole = (image == 0).all(0)
    (row, column) = find_hole(hole)
    y, x = (~hole)[4:28, 4:28].nonzero()[:40].T + 4  # pixels outside of hole and padding say which image it is
    for flipped in (False, True):
        pixels = windows[..., y, 31 - x if flipped else x]
        wanted = (image[:, y, x] * std[:, :, 0] + mean[:, :, 0])[None, None, None]
        matches = ((pixels - wanted).abs() < 1e-4).all(-1).all(-1).nonzero()
        if len(matches):
            (index, top, left), *others = matches.tolist()
            assert not others
            expected = windows[index, top, left]
            expected = ((expected.flip(-1) if flipped else expected) - mean) / std
            torch.testing.assert_close(image, expected.masked_fill(hole, 0), rtol=1e-4, atol=1e-5)
            return index, top, left, flipped, row, column
    raise AssertionError("no crop and flip of an image gives this one")


def find_hole(hole: Tensor) -> tuple[int, int]:
    """Return a centre whose clipped square of 16 pixels, as Cutout of ``cnn/utils.py`` draws it, is this hole."""
    for row in range(32):
        for column in range(32):
            square = torch.zeros(32, 32, dtype=torch.bool)
            square[max(0, row - 8) : min(32, row + 8), max(0, column - 8) : min(32, column + 8)] = True
            if torch.equal(square, hole):
                return row, column
    raise AssertionError("the hole is no square of Cutout")
