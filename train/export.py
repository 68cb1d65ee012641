"""Export of a trained network to the formats of other programs, each read back and compared with the network."""

from __future__ import annotations

import importlib.util
import io
import json
import runpy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.checkpoint import TrainedNetwork, load_network, save_network
from train.images import Statistics
from train.onnx_files import make_onnx_classifier, write_onnx
from train.python_source import write_source
from zcpt.errors import ConfigError, ZcptError
from zcpt.files import write_atomically
from zcpt.printing import shorten
from zcpt.supernet import Stochastic
from zcpt.versions import get_versions

MAX_DIFFERENCE = 1e-4
"""Largest difference to the network's logits, as a share of the largest logit where that is above 1."""
_BATCH_SIZES = (1, 2, 7)
"""Sizes of the random batches on which an exported network is compared."""

Classify = Callable[[Tensor], Tensor]
"""Function from images [B, C, H, W] to logits [B, classes], on the CPU."""


@dataclass(frozen=True)
class ExportTask:
    """What is exported, and what the users of the file need to know."""

    trained: TrainedNetwork
    network: nn.Module
    """The network on the CPU, in evaluation mode, with its normalisation if that is exported too."""
    images: Tensor
    """Example of its input [2, C, H, W]."""
    description: Mapping[str, Any]
    """Architecture, classes, image size and normalisation, as JSON can hold them."""

    @property
    def takes_plain_images(self) -> bool:
        """Whether the network takes values from 0 to 1 and normalises them itself."""
        return isinstance(self.network, NormalizedNetwork)


@dataclass(frozen=True)
class ExportFormat:
    """One format of files."""

    suffixes: tuple[str, ...]
    """Endings of its files, that of the main one first."""
    summary: str
    write: Callable[[ExportTask, Path], None]
    """Function that writes the files; the path is that of the main one."""
    load: Callable[[Path], Classify]
    """Function that reads the files."""
    packages: tuple[str, ...] = ()
    """Packages beside torch that writing and reading needs."""

    def list_files(self, path: Path) -> list[Path]:
        """Return the paths of all files, given that of the main one."""
        return [path.with_suffix(suffix) for suffix in self.suffixes]


@dataclass(frozen=True)
class Comparison:
    """Comparison of the logits of an exported network with those of the network."""

    difference: float
    """Largest absolute difference."""
    largest_logit: float
    random_images: int
    real_images: int

    @property
    def is_equal(self) -> bool:
        """Whether the difference is that of rounding."""
        return self.difference <= MAX_DIFFERENCE * max(1.0, self.largest_logit)


class NormalizedNetwork(nn.Module):
    """A network that takes images with values from 0 to 1, and normalises them itself.

    Args:
        network: The network.
        statistics: Mean and standard deviation of each channel.
    """

    def __init__(self, network: nn.Module, statistics: Statistics) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[None, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def make_task(
    trained: TrainedNetwork, *, normalize: bool = False, image_size: tuple[int, int] | None = None
) -> ExportTask:
    """Return what is exported of a trained network.

    Args:
        trained: The trained network, on the CPU.
        normalize: Whether the exported network takes values from 0 to 1 and normalises them.
        image_size: Height and width of its images; None takes those of the training.

    Raises:
        ConfigError: The output of the network is random.
    """
    if any(isinstance(module, Stochastic) for module in trained.network.modules()):
        raise ConfigError(
            "the architecture has an operation with a random output ('noise'), so no export could be compared with the "
            "network: export another architecture."
        )
    config, size = trained.network_config, image_size or trained.network_config.image_size
    network = NormalizedNetwork(trained.network, trained.statistics) if normalize else trained.network
    description = {
        "space": trained.space.name,
        "architecture": trained.space.format(trained.architecture),
        "classes": list(trained.classes),
        "in_channels": config.in_channels,
        "image_size": list(size),
        "mean": list(trained.statistics[0]),
        "std": list(trained.statistics[1]),
        "input": "values from 0 to 1" if normalize else "values from 0 to 1, minus mean, divided by std",
        "versions": get_versions(),
    }
    images = torch.randn(2, config.in_channels, *size, generator=torch.Generator().manual_seed(0))
    return ExportTask(trained, network.eval(), images, description)


def export_network(task: ExportTask, name: str, path: Path, real_images: Iterable[Tensor] = ()) -> Comparison:
    """Write a network in a format, read it back, and compare its logits with those of the network.

    Args:
        task: What is exported, from ``make_task``.
        name: Name of the format, one of ``FORMATS``.
        path: File to write; it must have the ending of the format.
        real_images: Batches [B, C, H, W], as the exported network takes them, on which it is compared beside random
            ones.

    Raises:
        ConfigError: A package is missing, or the network cannot be written in the format, or the files that were
            written give other logits; then they are removed.
        StorageError: A file cannot be written.
    """
    format = FORMATS[name]
    check_packages(format.packages, f"--format {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporters warn of their own code
        try:
            format.write(task, path)
            comparison = compare_logits(task, format.load(path), real_images)
        except ZcptError:
            _remove_files(format, path)
            raise
        except Exception as error:  # exporters raise many kinds, also for modules of third parties
            _remove_files(format, path)
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ConfigError(
                f"the network cannot be exported as {name} ({type(error).__name__}: {shorten(reason, 200)}): choose "
                "another --format."
            ) from error
    if not comparison.is_equal:
        _remove_files(format, path)
        raise ConfigError(
            f"the network exported as {name} gives other logits, by up to {comparison.difference:.2g}, so it was "
            "removed: choose another --format."
        )
    return comparison


def _remove_files(format: ExportFormat, path: Path) -> None:
    for file in format.list_files(path):
        file.unlink(missing_ok=True)


def check_packages(packages: Iterable[str], what: str) -> None:
    """Raise ConfigError if a package is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"{what} needs the package '{missing[0]}': install it by \"pip install 'zcpt[export]'\".")


def compare_logits(task: ExportTask, classify: Classify, real_images: Iterable[Tensor] = ()) -> Comparison:
    """Compare the logits of an exported network with those of the network, on random and real images."""
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(size, *task.images.shape[1:], generator=generator) for size in _BATCH_SIZES]
    count, difference, largest = 0, 0.0, 0.0
    for images in _chain_batches(batches, real_images):
        logits = task.network(images)
        difference = max(difference, float((classify(images) - logits).abs().max().nan_to_num(torch.inf)))
        largest, count = max(largest, float(logits.abs().max())), count + len(images)
    return Comparison(difference, largest, sum(_BATCH_SIZES), count - sum(_BATCH_SIZES))


def _chain_batches(*sources: Iterable[Tensor]) -> Iterator[Tensor]:
    with torch.no_grad():
        for source in sources:
            yield from source


def _dump_description(task: ExportTask) -> dict[str, Any]:
    return {"zcpt.json": json.dumps(task.description)}


def _write_onnx(task: ExportTask, path: Path) -> None:
    write_onnx(path, task.network, task.images, json.dumps(task.description))


def _write_torch_export(task: ExportTask, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(task.network, (task.images,), dynamic_shapes=({0: batch},), strict=False)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=_dump_description(task))
    write_atomically(path, content.getvalue())


def _load_torch_export(path: Path) -> Classify:
    return torch.export.load(str(path)).module()


def _write_torchscript(task: ExportTask, path: Path) -> None:
    # The graph of torch.fx and not the network itself: the network returns a tensor or a pair of them, and a part of a
    # third party may have annotations that TorchScript cannot read.
    traced = torch.fx.symbolic_trace(task.network)
    for node in traced.graph.nodes:
        node.type = None
    traced.recompile()
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(traced), content, _extra_files=_dump_description(task))
    write_atomically(path, content.getvalue())


def _load_torchscript(path: Path) -> Classify:
    classify: Classify = torch.jit.load(str(path), map_location="cpu")
    return classify


def _write_safetensors(task: ExportTask, path: Path) -> None:
    if task.takes_plain_images:
        raise ConfigError("--format safetensors holds weights alone, which normalise nothing: leave out --normalize.")
    save_network(path, task.trained)


def _load_safetensors(path: Path) -> Classify:
    classify: Any = load_network(path).network
    return classify  # type: ignore[no-any-return]


_PYTHON_FILE = '''\
"""Network found by zcpt {version}. Needs only torch; the weights are in the file of the same name that ends in .pt.

    network = load_network()
    logits = network(images)  # float32 [B, {in_channels}, {height}, {width}] -> [B, {classes}]

Images: {input}.
"""

from collections import OrderedDict  # noqa: F401
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: F401, N812

ARCHITECTURE = {architecture!r}
CLASSES = {class_names!r}
IMAGE_SIZE = {image_size!r}
MEAN = {mean!r}
STD = {std!r}


{source}


def load_network(weights: str | Path = Path(__file__).with_suffix(".pt")) -> {name}:
    """Build the network in evaluation mode, with its weights."""
    network = {name}()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()
'''


def _write_python(task: ExportTask, path: Path) -> None:
    source, name = write_source(task.network)
    about, (height, width) = task.description, task.images.shape[2:]
    text = _PYTHON_FILE.format(
        source=source,
        name=name,
        version=about["versions"]["zcpt"],
        in_channels=about["in_channels"],
        height=height,
        width=width,
        classes=len(about["classes"]),
        input=about["input"].replace("mean", "MEAN").replace("std", "STD"),
        architecture=about["architecture"],
        class_names=tuple(about["classes"]),
        image_size=(height, width),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
    )
    content = io.BytesIO()
    torch.save(task.network.state_dict(), content)
    write_atomically(path.with_suffix(".pt"), content.getvalue())
    write_atomically(path, text)


def _load_python(path: Path) -> Classify:
    # Not by an import, which would leave a __pycache__ beside the user's file.
    classify: Classify = runpy.run_path(str(path))["load_network"]()
    return classify


FORMATS: Mapping[str, ExportFormat] = {
    "onnx": ExportFormat(
        (".onnx",),
        "ONNX, for ONNX Runtime and other inference engines",
        _write_onnx,
        make_onnx_classifier,
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "torch-export": ExportFormat((".pt2",), "torch.export", _write_torch_export, _load_torch_export),
    "torchscript": ExportFormat(
        (".torchscript",), "TorchScript, for C++ and phones", _write_torchscript, _load_torchscript
    ),
    "safetensors": ExportFormat((".safetensors",), "weights and description", _write_safetensors, _load_safetensors),
    "python": ExportFormat((".py", ".pt"), "source that needs only torch, and weights", _write_python, _load_python),
}
