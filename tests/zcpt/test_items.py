"""Data sets of users: what their items may be, and the sentences about those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from zcpt import ConfigError, DataError
from zcpt.batches import Batch, as_batch, as_batches

GOOD = torch.ones(3, 8, 8)


class Listed:
    """Data set of the given items, of three classes."""

    classes = ("a", "b", "c")

    def __init__(self, items: list[Any], length: Any = None) -> None:
        self.items = items
        self.length = len(items) if length is None else length

    def __len__(self) -> Any:
        if isinstance(self.length, Exception):
            raise self.length
        return self.length

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, BaseException):
            raise item
        return item


def draw(items: list[Any], length: Any = None) -> Batch:
    return as_batches(Listed(items, length)).draw(len(items) if length is None else length, 0)


LABELS = {
    "int": 2,
    "bool": True,
    "NumPy integer": np.int64(2),
    "NumPy byte": np.uint8(2),
    "array of one": np.array([2]),
    "scalar tensor": torch.tensor(2),
    "int32 tensor of one": torch.tensor([2], dtype=torch.int32),
    "whole float": 2.0,
    "whole float tensor": torch.tensor(2.0),
}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_labels_that_are_one_whole_number_are_read(label: Any) -> None:
    labels = draw([(GOOD, label)]).labels
    assert labels.tolist() == [1 if label is True else 2]
    assert labels.dtype == torch.int64


BAD_LABELS = {
    "None": (None, "the label None"),
    "text": ("cat", "the label 'cat'"),
    "long text": ("cat" * 99, r"the label 'cat[cat]*\.\.\."),
    "a digit as text": ("2", "the label '2'"),
    "one-hot": (torch.tensor([0, 1, 0]), r"int64 tensor \[3\].*one-hot vector, its argmax"),
    "one-hot array": (np.eye(3)[1], r"float64 array \[3\].*one-hot vector"),
    "one-hot list": ([0, 1, 0], "the label list"),
    "beyond int64": (2**64, "integer of 65 bits"),
    "5,000 digits": (10**5000, "integer of 16610 bits"),
    "negative": (-1, "the label -1"),
    "the number of classes": (3, "the label 3: it must be a whole number from 0 to 2"),
    "a fraction": (1.7, "the label 1.7"),
    "a fraction in a tensor": (torch.tensor(1.7), "float32 tensor 1.7"),
    "nan": (float("nan"), "the label nan"),
    "complex": (1j, "the label complex"),
    "empty": (torch.zeros(0), r"float32 tensor \[0\]"),
    "on meta": (torch.zeros((), device="meta"), r"float32 tensor \[\] on meta"),
    "a mapping": ({"label": 1}, "the label dict"),
    "bytes": (b"1", "the label bytes"),
}


@pytest.mark.parametrize(("label", "complaint"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_other_labels_are_named_with_their_index(label: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=rf"item 1 of the data set has .*{complaint}"):
        draw([(GOOD, 0), (GOOD, label)])


IMAGES: dict[str, Any] = {
    "float16": GOOD.half(),
    "bfloat16": GOOD.bfloat16(),
    "float64": GOOD.double(),
    "with gradient": GOOD.clone().requires_grad_(),
    "array": GOOD.numpy(),
    "float64 array": GOOD.double().numpy(),
    "big-endian array": GOOD.numpy().astype(">f4"),
    "transposed array": GOOD.numpy().transpose(0, 2, 1),
    "three columns": torch.ones(3, 9, 3),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_floating_point_images_become_plain_float32(image: Any) -> None:
    images = draw([(image, 0)]).images
    assert torch.equal(images, torch.ones(1, 3, 8, images.shape[3]) if images.shape[2] == 8 else torch.ones(1, 3, 9, 3))
    assert (images.dtype, images.requires_grad) == (torch.float32, False)


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "None": (None, "is None: .*add a transform"),
    "uint8": (GOOD.byte(), r"is uint8 tensor \[3, 8, 8\]: .*add a transform"),
    "complex": (GOOD.to(torch.complex64), "is complex64 tensor"),
    "integer array": (GOOD.byte().numpy(), "is uint8 array"),
    "PIL": (Image.new("RGB", (8, 8)), "is Image: .*add a transform"),
    "no channel": (GOOD[0], r"is float32 tensor \[8, 8\]"),
    "a batch": (GOOD[None], r"is float32 tensor \[1, 3, 8, 8\]"),
    "channels last": (torch.ones(9, 8, 3), r"looks like \[H, W, C\], so call its permute"),
    "sparse": (GOOD.to_sparse(), "layout sparse_coo: .*to_dense"),
    "on meta": (GOOD.to("meta"), "on meta: .*it has no values"),
    "no pixels": (torch.ones(3, 0, 8), "it has no pixels"),
    "a list": (GOOD.tolist(), "is list"),
    "another size": (torch.ones(3, 9, 8), r"one size, and image \d of the data set has .*a transform that resizes"),
    "nan": (GOOD * float("nan"), "has values that are not finite"),
    "infinite": (GOOD / 0, "has values that are not finite"),
}


@pytest.mark.parametrize(("image", "complaint"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_other_images_are_named_with_their_index(image: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        draw([(GOOD, 0), (image, 0)])
    assert "image 1" in str(caught.value) or "size" in str(caught.value)


ITEMS: dict[str, tuple[Any, str]] = {
    "raises": (KeyError("x"), "item 1 of the data set cannot be read: KeyError: 'x'"),
    "raises without words": (ValueError(), "item 1 of the data set cannot be read: ValueError"),
    "raises lines": (RuntimeError("a\nb"), r"cannot be read: RuntimeError: a\.$"),
    "stops": (StopIteration(), "cannot be read: StopIteration"),
    "None": (None, r"must be pairs \(image, label\), not NoneType"),
    "three": ((GOOD, 0, 0), r"must be pairs \(image, label\), not 3 values"),
    "a mapping": ({"image": GOOD, "label": 0}, "must be pairs .*, not dict"),
}


@pytest.mark.parametrize(("item", "complaint"), ITEMS.values(), ids=ITEMS)
def test_items_that_cannot_be_read_are_named(item: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        draw([(GOOD, 0), item])


LENGTHS: dict[str, tuple[Any, str]] = {
    "too long": (3, "item 2 of the data set cannot be read: IndexError"),
    "negative": (-1, "the length of the data set cannot be read: ValueError"),
    "no number": ("2", "the length of the data set cannot be read: TypeError"),
    "None": (RuntimeError("unknown"), "the length of the data set cannot be read: RuntimeError: unknown"),
    "more than memory": (10**12, "says that it has 1000000000000 items"),
    "beyond int64": (2**70, "the length of the data set cannot be read: OverflowError"),
}


@pytest.mark.parametrize(("length", "complaint"), LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_lies_is_said(length: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        draw([(GOOD, 0), (GOOD, 0)], length)


def test_an_error_of_zcpt_in_a_data_set_is_kept() -> None:
    with pytest.raises(DataError, match="^mine$"):
        draw([DataError("mine")])


def test_the_cause_of_an_error_in_a_data_set_is_chained() -> None:
    with pytest.raises(DataError) as caught:
        draw([KeyError("x")])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "3", 10**0.5])
def test_numbers_of_classes_that_are_none_are_refused(number: Any) -> None:
    with pytest.raises(ConfigError, match="num_classes must be a whole number of at least 1, not"):
        as_batches(Listed([(GOOD, 0)]), number)


def test_the_classes_below_a_subset_are_read() -> None:
    assert as_batches(Subset(Subset(cast(Any, Listed([(GOOD, 0)] * 3)), [0, 1]), [0])).num_classes == 3


PAIRS: dict[str, tuple[Callable[[Tensor, Tensor], Any], int]] = {
    "tensors": (lambda images, labels: (images, labels), 2),
    "a list": (lambda images, labels: [images, labels], 2),
    "arrays": (lambda images, labels: (images.numpy(), labels.numpy()), 2),
    "two images of two labels": (lambda images, labels: (images[:2].numpy(), labels[:2].numpy()), 2),
    "a column of labels": (lambda images, labels: (images, labels[:, None]), 2),
    "whole floats": (lambda images, labels: (images, labels.float()), 2),
    "bytes": (lambda images, labels: (images, labels.byte()), 2),
}


@pytest.mark.parametrize(("make", "classes"), PAIRS.values(), ids=PAIRS)
def test_pairs_of_images_and_labels_are_taken(make: Callable[[Tensor, Tensor], Any], classes: int) -> None:
    pair = make(torch.ones(4, 3, 8, 8), torch.arange(4) % 2)
    batches = as_batches(pair)
    assert batches.num_classes == classes
    assert sorted(batches.draw(2, 0).labels.tolist()) in ([0, 0], [0, 1], [1, 1])
    assert as_batch(pair).labels.dtype == torch.int64


BAD_PAIRS: dict[str, tuple[Any, Any, str]] = {
    "fewer labels": (torch.ones(4, 3, 8, 8), torch.zeros(3), "one label for each image, not labels"),
    "one-hot": (torch.ones(4, 3, 8, 8), torch.eye(4), "one label for each image, not labels"),
    "fractions": (torch.ones(2, 3, 8, 8), torch.tensor([0, 0.5]), "the labels must be whole numbers"),
    "complex": (torch.ones(1, 3, 8, 8), torch.ones(1, dtype=torch.complex64), "the labels must be whole numbers"),
    "uint8": (torch.ones(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1), "must be a float tensor"),
    "no channel": (torch.ones(4, 8, 8), torch.zeros(4), r"must be a float tensor \[B, C, H, W\]"),
}


@pytest.mark.parametrize(("images", "labels", "complaint"), BAD_PAIRS.values(), ids=BAD_PAIRS)
@pytest.mark.parametrize("read", [as_batch, as_batches])
def test_pairs_that_do_not_fit_are_refused(
    read: Callable[[Any], Any], images: Any, labels: Any, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read((images, labels))


def test_an_empty_pair_is_refused() -> None:
    with pytest.raises(DataError, match="no images to draw from"):
        as_batches((torch.ones(0, 3, 8, 8), torch.zeros(0)))


def test_a_number_of_classes_that_contradicts_batches_is_refused() -> None:
    batches = as_batches((torch.ones(4, 3, 8, 8), torch.arange(4)))
    assert as_batches(batches, 4) is batches
    with pytest.raises(ConfigError, match="the batches have 4 classes, and num_classes is 5"):
        as_batches(batches, 5)


def test_batches_of_ones_own_that_lack_something_are_refused() -> None:
    class Drawing:
        def draw(self, size: int, seed: int) -> Batch:
            raise NotImplementedError

    with pytest.raises(ConfigError, match="Drawing draws batches, but has no __len__, num_classes, about"):
        as_batches(Drawing())


def test_negative_labels_of_a_pair_are_named() -> None:
    pair = TensorDataset(torch.ones(2, 3, 8, 8), torch.tensor([-1, -1]))
    with pytest.raises(DataError, match="the label int64 tensor -1"):
        as_batches(pair, 2).draw(2, 0)
