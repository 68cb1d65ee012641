"""Measure the throughput of training side by side: zcpt, timm's pipeline, and a plain loop in the style of DARTS.

    python benchmarks/training.py [--device cpu] [--dtype float32] [--channels 8] [--layers 5]

All three train the same network of DARTS' published cell on the same images, which lie in memory as those of CIFAR-10
do. They differ in how images are augmented and what happens around a step:

- ``zcpt`` is the loop of ``zcpt train`` by the recipe ``cifar``: whole batches are augmented, on the device.
- ``timm`` does what timm's ``train.py`` does with its default flags, by timm's functions: PIL transforms in worker
  processes, normalisation on the device, ``ClassificationTask``, and one ``item()`` a batch.
- ``plain`` does what DARTS' ``train.py`` does: torchvision's transforms and Cutout for each image in worker processes,
  momentum SGD, clipped gradients, and loss and accuracy of every batch read by ``item()``. It knows float32 alone.

After a warm-up the three take turns, one epoch each, so that a change of the machine's speed concerns all of them.
Writes ``benchmarks/results/training.json``, which keeps one measurement for each type of device and number; the table
is in docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask
from timm.utils import accuracy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt.timm  # noqa: F401  # registers the network
from benchmarks.engine import describe_hardware
from benchmarks.training_report import RESULT
from darts_space.published import get_genotype
from train.data import ImageData
from train.images import InMemoryImages, Statistics
from train.loop import Trainer
from train.recipe import TrainConfig
from zcpt.files import to_json_text, write_atomically
from zcpt.space_registry import get_space

CELL = "darts_v2"
DROP_PATH = 0.2
"""Probability of drop path in all three, constant."""
CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
SIDE = 32
CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement."""

    device: torch.device
    dtype: str
    """'float32', or 'bfloat16' for autocast and channels-last tensors."""
    channels: int
    layers: int
    batch_size: int
    batches: int
    """Batches of an epoch."""
    workers: int
    """Worker processes of each loader that has them."""

    @property
    def is_mixed(self) -> bool:
        """Whether layers compute in bfloat16."""
        return self.dtype == "bfloat16"

    @property
    def images(self) -> int:
        """Number of images of an epoch."""
        return self.batches * self.batch_size


@dataclass(frozen=True)
class EpochTime:
    """Seconds of an epoch of training."""

    seconds: float
    wait_seconds: float
    """Seconds of it in which the loop waited for images."""


EpochFunction = Callable[[], EpochTime]


class Pictures(Dataset[tuple[Any, int]]):
    """Pictures in memory that are transformed one by one, as torchvision's CIFAR-10 does."""

    def __init__(self, pixels: NDArray[np.uint8], labels: list[int]) -> None:
        self.pixels = pixels
        self.labels = labels
        self.transform: Callable[[Image.Image], Any] = lambda picture: picture

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class Cutout:
    """Cutout of one image [C, H, W], as DARTS writes it: a square around a random pixel is set to 0."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        mask = np.ones((height, width), np.float32)
        y, x = np.random.randint(height), np.random.randint(width)
        top, bottom = np.clip((y - self.length // 2, y + self.length // 2), 0, height)
        left, right = np.clip((x - self.length // 2, x + self.length // 2), 0, width)
        mask[top:bottom, left:right] = 0.0
        return image * torch.from_numpy(mask).expand_as(image)


class WaitTimer:
    """Measures how long a loop waits for its batches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def iterate(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches."""
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(iterator, None)
            self.seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def make_pictures(count: int) -> Pictures:
    """Return random pictures of 32x32 pixels with random labels."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    return Pictures(pixels, generator.integers(0, CLASSES, count).tolist())


def build_network(settings: Settings) -> nn.Module:
    """Build the network by timm, on its device."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        f"zcpt_{CELL}",
        num_classes=CLASSES,
        img_size=SIDE,
        channels=settings.channels,
        layers=settings.layers,
        drop_path_rate=DROP_PATH,
    )
    return network.to(settings.device)


def measure_epoch(settings: Settings, train: Callable[[WaitTimer], object]) -> EpochTime:
    """Measure one epoch of a function that waits by the timer."""
    timer, began = WaitTimer(), time.perf_counter()
    train(timer)
    if settings.device.type == "cuda":
        torch.cuda.synchronize(settings.device)
    return EpochTime(time.perf_counter() - began, timer.seconds)


def build_trainer(settings: Settings) -> Trainer:
    """Build the training of ``zcpt train`` on random images."""
    pictures, space = make_pictures(settings.images), get_space("darts")
    images = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2).contiguous()
    train, test = (InMemoryImages(images[:n], torch.tensor(pictures.labels[:n])) for n in (settings.images, 2))
    data = ImageData(
        tuple(map(str, range(CLASSES))),
        lambda is_train: train if is_train else test,
        name="random images",
        known_statistics=CIFAR10,
    )
    config = TrainConfig(
        recipe="cifar",
        channels=settings.channels,
        layers=settings.layers,
        batch_size=settings.batch_size,
        auxiliary_weight=0.0,
        drop_path=DROP_PATH,
        drop_path_schedule="constant",
        amp=settings.is_mixed,
        channels_last=settings.is_mixed,
    )
    return Trainer(space, space.parse(get_genotype(CELL)), data, config, settings.device)


def build_zcpt(settings: Settings) -> EpochFunction:
    """Return the function that trains for an epoch as ``zcpt train`` does."""
    trainer = build_trainer(settings)

    def train_epoch() -> EpochTime:
        with torch.backends.cudnn.flags(benchmark=False):
            metrics = trainer.run_epoch()  # its seconds are those of the training images
        return EpochTime(metrics["seconds"], metrics["wait_seconds"])

    return train_epoch


def build_timm(settings: Settings) -> EpochFunction:
    """Return the function that trains for an epoch as timm's ``train.py`` does by default."""
    memory_format = torch.channels_last if settings.is_mixed else torch.contiguous_format
    network: Any = build_network(settings)
    network = network.to(memory_format=memory_format)
    loader = create_loader(
        make_pictures(settings.images),
        input_size=(3, SIDE, SIDE),
        batch_size=settings.batch_size,
        is_training=True,
        color_jitter=0.4,
        interpolation="random",
        mean=CIFAR10[0],
        std=CIFAR10[1],
        num_workers=settings.workers,
        device=settings.device,
        persistent_workers=settings.workers > 0,
    )
    task = ClassificationTask(network, criterion_kwargs={"smoothing": 0.1}, device=settings.device, verbose=False)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=300, updates_per_epoch=len(loader))

    def train(timer: WaitTimer) -> None:
        task.train()
        for number, (images, labels) in enumerate(timer.iterate(loader), 1):
            images = images.contiguous(memory_format=memory_format)
            with torch.autocast(settings.device.type, torch.bfloat16) if settings.is_mixed else nullcontext():
                loss = task(images, labels)["loss"]
            loss.backward()
            optimizer.step()
            loss.item()
            optimizer.zero_grad()
            scheduler.step_update(num_updates=number)

    def train_epoch() -> EpochTime:
        with torch.backends.cudnn.flags(benchmark=True):
            return measure_epoch(settings, train)

    return train_epoch


def build_plain(settings: Settings) -> EpochFunction:
    """Return the function that trains for an epoch as DARTS' ``train.py`` does."""
    network, pictures = build_network(settings), make_pictures(settings.images)
    pictures.transform = transforms.Compose(
        [
            transforms.RandomCrop(SIDE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(*CIFAR10),
            Cutout(16),
        ]
    )
    loader = DataLoader(
        pictures,
        batch_size=settings.batch_size,
        shuffle=True,
        num_workers=settings.workers,
        pin_memory=settings.device.type == "cuda",
        # DARTS starts them in every epoch, which would weigh more in the short epochs here than in those of CIFAR-10.
        persistent_workers=settings.workers > 0,
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    def train(timer: WaitTimer) -> None:
        network.train()
        loss_sum = top1_sum = top5_sum = 0.0
        for images, labels in timer.iterate(loader):
            images, labels = images.to(settings.device), labels.to(settings.device, non_blocking=True)
            optimizer.zero_grad()
            logits = network(images)
            loss = criterion(logits, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            top1, top5 = accuracy(logits, labels, topk=(1, 5))
            loss_sum, top1_sum, top5_sum = loss_sum + loss.item(), top1_sum + top1.item(), top5_sum + top5.item()

    def train_epoch() -> EpochTime:
        with torch.backends.cudnn.flags(benchmark=True):
            return measure_epoch(settings, train)

    return train_epoch


LOOPS: dict[str, Callable[[Settings], EpochFunction]] = {"zcpt": build_zcpt, "timm": build_timm, "plain": build_plain}
"""Measured loops, in the order of the columns."""


def measure_training(settings: Settings, rounds: int) -> dict[str, Any]:
    """Measure the loops in turns, and return the median of each."""
    loops = {name: build(settings) for name, build in LOOPS.items()}
    times: dict[str, list[EpochTime]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, train_epoch in loops.items():
            taken = train_epoch()
            if number:  # the first epoch starts the workers, and chooses the algorithms of convolutions
                times[name].append(taken)
    results: dict[str, Any] = {}
    for name, taken_times in times.items():
        rates = [settings.images / taken.seconds for taken in taken_times]
        results[name] = {
            "images a second": statistics.median(rates),
            "range": [min(rates), max(rates)],
            "share of waiting for images": statistics.median(t.wait_seconds / t.seconds for t in taken_times),
        }
    for name in loops:
        results[name]["zcpt, times as fast"] = statistics.median(
            other.seconds / own.seconds for own, other in zip(times["zcpt"], times[name], strict=True)
        )
    return results


def parse_settings() -> tuple[Settings, int]:
    """Parse the arguments: the settings and the number of rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--channels", type=int, help="default: DARTS' 36 on a GPU, else 8")
    parser.add_argument("--layers", type=int, help="default: DARTS' 20 on a GPU, else 5")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--batches", type=int, help="batches of an epoch (default: 100 on a GPU, else 20)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of timm and of the plain loop")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each loop, of which the median is reported")
    args = parser.parse_args()
    device = torch.device(args.device)
    channels, layers, batches = (36, 20, 100) if device.type == "cuda" else (8, 5, 20)
    settings = Settings(
        device, args.dtype, args.channels or channels, args.layers or layers, args.batch, batches, args.workers
    )
    return replace(settings, batches=args.batches or batches), args.rounds


def main() -> None:
    """Measure, and write the results."""
    settings, rounds = parse_settings()
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    document[f"{settings.device.type} {settings.dtype}"] = {
        "hardware": describe_hardware(settings.device),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "date": date.today().isoformat(),
        "cell": CELL,
        "channels": settings.channels,
        "layers": settings.layers,
        "batch": settings.batch_size,
        "batches": settings.batches,
        "workers": settings.workers,
        "rounds": rounds,
        "loops": measure_training(settings, rounds),
    }
    write_atomically(RESULT, to_json_text(document))


if __name__ == "__main__":
    main()
