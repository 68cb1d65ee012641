"""``zcpt export``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from train.arguments import ARGUMENTS, read_arguments
from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.data import ImageData
from train.export import FORMATS, Classify, ExportTask, check_packages, export_network, make_task
from train.images import ImageSet, select_images
from train.loaders import TestOptions, build_test_loader
from train.onnx_files import make_onnx_classifier, quantize_onnx
from zcpt.cli._darts_weights import load_darts_network
from zcpt.cli._options import (
    add_data_arguments,
    add_trained_argument,
    load_given_data,
    parse_integer,
    read_image_size,
    reload_data,
)
from zcpt.errors import ConfigError, DataError
from zcpt.printing import print_lines

_log = logging.getLogger(__name__)
_BATCH_SIZE = 64
_INT8 = ".int8.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_trained_argument(parser)
    parser.add_argument(
        "--genotype",
        metavar="FILE|TEXT",
        help="genotype of RUN, where RUN is a checkpoint of DARTS or PC-DARTS; FILE:NAME reads one of several",
    )
    formats = "; ".join(f"{name}: {format.summary}" for name, format in FORMATS.items())
    parser.add_argument("--format", choices=list(FORMATS), default="onnx", help=f"{formats} (default: onnx)")
    help_out = "file to write (default: 'exported' with the ending of the format, in the folder of the training)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=help_out)
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="export the normalisation too: the network takes values from 0 to 1 (default: --no-normalize)",
    )
    help_size = "pixels per side of its images, or height and width as 160x224 (default: those of the training)"
    parser.add_argument("--export-size", type=read_image_size, metavar="INT|HxW", help=help_size)
    parser.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="write a second ONNX file that computes with 8-bit integers, and measure the accuracy of both",
    )
    parser.add_argument(
        "--calibration-images",
        type=parse_integer,
        metavar="INT",
        default=512,
        help="training images from which --int8 takes the ranges of the activations (default: 512)",
    )
    add_data_arguments(parser, ("validation_split", "split_seed"), has_device=False)


def run(args: argparse.Namespace) -> None:
    """Write the network, compare it with that of the training, and print what was written."""
    format = FORMATS[args.format]
    if args.int8 and args.format != "onnx":
        raise ConfigError(f"--int8 quantises ONNX files: give --format onnx, not {args.format}.")
    if args.calibration_images < 1:
        raise ConfigError(f"--calibration-images {args.calibration_images} is too small: it must be at least 1.")
    check_packages(format.packages, f"--format {args.format}")
    folder, trained = _load_network(args)
    task = make_task(trained, normalize=args.normalize, image_size=args.export_size)
    files = format.list_files(_choose_path(args, folder))
    for file in (*files, files[0].with_suffix(_INT8)) if args.int8 else files:
        if file.exists():
            raise ConfigError(f"{file} exists already: give another file with --out, or delete it.")
    data = _load_data(args, folder, trained, task)
    cut = trained.preprocessing
    options = TestOptions(_BATCH_SIZE, test_crop=cut.test_crop, interpolation=cut.interpolation)
    compared = range(min(_BATCH_SIZE, len(data.test))) if data else ()
    images = _load_images(data.test, task, options, compared) if data else ()
    comparison = export_network(task, args.format, files[0], images)
    _, channels, height, width = task.images.shape
    print_lines(
        *(f"file          {file} ({_format_size(file)})" for file in files),
        f"input         images [batch, {channels}, {height}, {width}]: {task.description['input']}",
        f"difference    at most {comparison.difference:.2g} on {comparison.random_images} random and "
        f"{comparison.real_images} test images, whose logits reach {comparison.largest_logit:.1f}",
    )
    if args.int8 and data:
        _quantize(files[0], data, task, options, args.calibration_images)


def _load_network(args: argparse.Namespace) -> tuple[Path, TrainedNetwork]:
    """Return the network to export, and the folder of its file."""
    if args.genotype is None:
        if args.source.suffix in (".pt", ".pth", ".tar") and args.source.is_file():
            raise ConfigError(
                f"{args.source} is a checkpoint, which does not say its architecture: give its run folder or "
                "model.safetensors, or, for weights of DARTS or PC-DARTS, the genotype with --genotype."
            )
        weights = find_weights(args.source)
        return weights.parent, load_network(weights)
    if args.dataset is None:
        _log.warning("the classes of the network have numbers for names: give its data set with --dataset")
    classes = None if args.dataset is None else load_given_data(args).classes
    return args.source.parent, load_darts_network(args.source, args.genotype, classes)


def _format_size(file: Path) -> str:
    kilobytes = file.stat().st_size / 1e3
    return f"{kilobytes / 1e3:.1f} MB" if kilobytes >= 1e3 else f"{kilobytes:.1f} kB"


def _choose_path(args: argparse.Namespace, folder: Path) -> Path:
    """Return the path of the main file; ConfigError if it cannot be written."""
    suffix = FORMATS[args.format].suffixes[0]
    path: Path = args.out or folder / f"exported{suffix}"
    if path.suffix != suffix:
        raise ConfigError(f"--out {path} must end in {suffix}, as files of --format {args.format} do.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}.")
    return path


def _load_data(args: argparse.Namespace, folder: Path, trained: TrainedNetwork, task: ExportTask) -> ImageData | None:
    """Load the images on which the exported network is compared, at its size; None where there are none.

    Raises:
        ConfigError: --int8 needs them, and there are none.
        DataError: The data set that was named cannot be read, or is of other classes or channels.
    """
    try:
        if (folder / ARGUMENTS).exists():
            data = reload_data(read_arguments(folder)["data"], args)
        elif args.dataset is not None:
            data = load_given_data(args)
        else:
            raise DataError(f"{folder} does not say on which images it was trained.")
        if not len(data.test):
            raise DataError(f"{data.name} has no test images.")
    except DataError as error:
        if args.dataset is not None:
            raise
        if args.int8:
            raise ConfigError(f"--int8 needs images: {error} Name them with --dataset.") from None
        _log.warning(f"the exported network is compared on random images alone: {error}")
        return None
    channels, config = data.test[0][0].shape[0], trained.network_config
    if channels != config.in_channels or (args.int8 and data.classes != trained.classes):
        raise DataError(
            f"the network was trained for {config.num_classes} classes of {config.in_channels}-channel images, and "
            f"{data.name} has {len(data.classes)} of {channels}: give another --dataset."
        )
    return data


def _load_images(images: ImageSet, task: ExportTask, options: TestOptions, indices: Sequence[int]) -> Iterator[Tensor]:
    """Yield batches of the images with these indices, as the exported network takes them."""
    yield from (batch for batch, _ in _load_batches(select_images(images, indices), task, options))


def _load_batches(images: ImageSet, task: ExportTask, options: TestOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images as the exported network takes them, with labels."""
    # Values from 0 to 1 are what normalising with mean 0 and deviation 1 leaves.
    _, channels, height, width = task.images.shape
    plain = ((0.0,) * channels, (1.0,) * channels)
    statistics = plain if task.takes_plain_images else task.trained.statistics
    loader = build_test_loader(images, statistics, options, (height, width), torch.device("cpu"))
    yield from ((batch.images, batch.labels) for batch in loader.load_epoch(0))


def _quantize(path: Path, data: ImageData, task: ExportTask, options: TestOptions, count: int) -> None:
    """Write the network with 8-bit integers beside its ONNX file, and print the accuracy of both."""
    target = path.with_suffix(_INT8)
    # The same images each time.
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count].tolist()
    quantize_onnx(path, target, _load_images(data.train, task, options, drawn))
    before, after = (_measure_accuracy(make_onnx_classifier(file), data, task, options) for file in (path, target))
    print_lines(
        f"int8          {target} ({_format_size(target)}), calibrated on {len(drawn)} training images",
        f"accuracy      {before:.2f} % before, {after:.2f} % as int8, on {len(data.test)} test images of {data.name}",
    )


def _measure_accuracy(classify: Classify, data: ImageData, task: ExportTask, options: TestOptions) -> float:
    """Return the accuracy in percent on the test images."""
    correct = sum(
        int((classify(images).argmax(1) == labels).sum()) for images, labels in _load_batches(data.test, task, options)
    )
    return 100 * correct / len(data.test)
