"""Images of registered data sets, and the statistics of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from train.data import DATASETS, ImageData, load_data, register_dataset
from train.images import ImageOptions, InMemoryImages, compute_statistics, load_into_memory
from zcpt import DataError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
COLOUR = np.stack([GREY, GREY + 60, GREY + 120], 2)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_parts", dict(DATASETS._parts))


def load(items: Any, classes: Any = ("a", "b"), **options: Any) -> ImageData:
    name = f"own{len(DATASETS._parts)}"
    register_dataset(name)(lambda data_dir, download: ImageData(classes, lambda train: items))
    return load_data(name, options=ImageOptions(**options))


USABLE: dict[str, tuple[Any, Any]] = {
    "uint8 tensor": (torch.from_numpy(COLOUR).permute(2, 0, 1), COLOUR),
    "float tensor to 1": (torch.from_numpy(COLOUR).permute(2, 0, 1) / 255, COLOUR),
    "float16 tensor": ((torch.from_numpy(COLOUR).permute(2, 0, 1) / 255).half(), COLOUR),
    "bfloat16 tensor": (torch.full((3, 8, 8), 0.5).bfloat16() * torch.eye(8).bfloat16(), np.eye(8)[..., None] * 128),
    "float64 tensor to 255": (torch.from_numpy(COLOUR).permute(2, 0, 1).double(), COLOUR),
    "int64 tensor": (torch.from_numpy(COLOUR).permute(2, 0, 1).long(), COLOUR),
    "grey array": (GREY, GREY[..., None]),
    "colour array": (COLOUR, COLOUR),
    "float array": (COLOUR / 255, COLOUR),
    "12-bit array": (GREY.astype(np.uint16) * 65, (GREY.astype(np.uint16) * 65 >> 4)[..., None]),
    "grey picture": (Image.fromarray(GREY), GREY[..., None]),
    "16-bit picture": (Image.fromarray(GREY.astype(np.uint16) * 1000), (GREY.astype(int) * 1000 >> 8)[..., None]),
    "palette picture": (Image.fromarray(GREY).convert("P"), GREY[..., None].repeat(3, 2)),
    "transparent picture": (Image.new("RGBA", (8, 8)), np.full((8, 8, 3), 255)),
}


@pytest.mark.parametrize(("image", "expected"), USABLE.values(), ids=USABLE)
def test_images_of_every_type_become_uint8(image: Any, expected: Any) -> None:
    stored, label = load([(image, 1), (image, 0)]).train[0]
    assert (stored.dtype, label) == (torch.uint8, 1)
    assert np.array_equal(stored.permute(1, 2, 0).numpy(), np.broadcast_to(expected, stored.permute(1, 2, 0).shape))


REFUSED: dict[str, tuple[Any, str]] = {
    "None": ((None, 0), "image 0 of data set 'own.*' is None: it must be a PIL picture"),
    "text": (("a.png", 0), "image 0 of .* is 'a.png'"),
    "complex": ((torch.ones(3, 8, 8, dtype=torch.complex64), 0), "image 0 of .* is complex64 tensor"),
    "no channel": ((torch.ones(8, 8), 0), "image 0 of .* is float32 tensor"),
    "on meta": ((torch.ones(3, 8, 8, device="meta"), 0), "image 0 of .* cannot be read"),
    "nan": ((np.full((8, 8), np.nan), 0), "image 0 of .* not finite"),
    "no pixels": ((np.zeros((0, 8), np.uint8), 0), "image 0 of .* has no pixels"),
    "one-hot": ((GREY, [0, 1]), "item 0 of data set 'own.*' has the label list"),
    "label 2": ((GREY, 2), "has the label 2: it must be a whole number from 0 to 1"),
    "no pair": (GREY, r"must be pairs \(image, label\), not ndarray"),
}


@pytest.mark.parametrize(("item", "complaint"), REFUSED.values(), ids=REFUSED)
def test_items_of_registered_data_sets_that_cannot_be_used_are_named(item: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        _ = load([item]).train[0]


LOADERS: dict[str, tuple[Any, str]] = {
    "raises": (lambda data_dir, download: 1 / 0, "data set 'own' cannot be loaded: ZeroDivisionError"),
    "no ImageData": (lambda data_dir, download: [1], "data set 'own' must be loaded as ImageData, not list"),
    "one class": (lambda data_dir, download: ImageData(("a",), lambda train: []), "has 1 classes: at least 2"),
    "no classes": (lambda data_dir, download: ImageData(None, lambda train: []), "cannot be loaded: TypeError"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("loader", "complaint"), LOADERS.values(), ids=LOADERS)
def test_loaders_that_fail_are_named(loader: Any, complaint: str) -> None:
    register_dataset("own")(loader)
    with pytest.raises(DataError, match=complaint):
        load_data("own")


def test_parts_that_are_no_data_sets_are_named(tmp_path: Path) -> None:
    for items, complaint in ((None, "must load a data set with a length and items, not None"), ([], "has no training")):
        with pytest.raises(DataError, match=complaint):
            _ = load(items).statistics


def test_images_are_brought_to_a_given_size() -> None:
    data = load([(COLOUR, 0), (GREY[..., None].repeat(3, 2), 1)], image_size=(4, 6))
    assert data.image_shape == (3, 4, 6)
    assert torch.equal(load_into_memory(data.train)[1][0], data.train[1][0])
    assert data.options.to_document() == {"image_size": "4x6"}


def test_statistics_are_exact_and_need_the_memory_of_one_image() -> None:
    images = torch.randint(0, 256, (50, 3, 7, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = compute_statistics(InMemoryImages(images, torch.zeros(50)), "x")
    values = images.double() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist(), rel=1e-14)
    assert std == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), rel=1e-12)

    class Large(InMemoryImages):
        def __len__(self) -> int:
            return 300

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.images[0], 0

    large = Large(torch.randint(0, 256, (1, 3, 400, 500), dtype=torch.uint8), torch.zeros(1))
    assert len(compute_statistics(large, "x", max_images=20)[0]) == 3  # more than torch can sum at once


def test_images_without_spread_or_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="all training images of own.* have one and the same colour"):
        _ = load([(np.full((8, 8), 7, np.uint8), 0)] * 3).statistics
    with pytest.raises(DataError, match=r"must have one size, and image 1 has \[1, 4, 8\].*give --image-size"):
        _ = load([(GREY, 0), (GREY[:4], 1)]).statistics
