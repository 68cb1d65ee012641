"""Mini-batches that depend on a seed alone."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import zcpt
from zcpt import ConfigError, DataError, DatasetBatches
from zcpt.batches import Batch, as_batches, check_class_count, compute_fingerprint

IMAGES, LABELS = torch.arange(20.0).reshape(20, 1, 1, 1), torch.arange(20) % 4


class Noisy(TensorDataset):
    """A data set whose transform is random."""

    classes = ("a", "b", "c", "d")

    def __getitem__(self, index: Any) -> Any:
        image, label = super().__getitem__(index)
        return image + torch.rand(1) / 2, label


def test_a_batch_depends_on_its_seed_alone() -> None:
    batches = DatasetBatches(Noisy(IMAGES, LABELS))
    first = batches.draw(8, seed=5)
    batches.draw(3, seed=6)
    torch.rand(9)
    again = batches.draw(8, seed=5)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, batches.draw(8, seed=7).images)
    assert batches.num_classes == 4


def test_a_batch_has_different_images_of_the_part_it_draws_from() -> None:
    batches = DatasetBatches(TensorDataset(IMAGES, LABELS), indices=[3, 5, 7, 11], num_classes=4)
    assert len(batches) == 4
    batch = batches.draw(4, seed=0)
    assert sorted(batch.images.flatten().tolist()) == [3, 5, 7, 11]
    assert torch.equal(batch.labels, batch.images.flatten().long() % 4)


def test_what_people_have_is_accepted() -> None:
    batches = DatasetBatches(TensorDataset(IMAGES, LABELS), num_classes=4)
    assert as_batches(batches) is batches
    assert as_batches((IMAGES, LABELS)).num_classes == 4
    assert as_batches(DataLoader(Noisy(IMAGES, LABELS), batch_size=2)).draw(6, 0).images.shape == (6, 1, 1, 1)
    half = DataLoader(TensorDataset(IMAGES, LABELS), sampler=SubsetRandomSampler([2, 4, 6]))
    assert sorted(as_batches(half, num_classes=4).draw(3, 0).images.flatten().tolist()) == [2, 4, 6]
    with pytest.raises(
        ConfigError, match="has no attribute classes: pass the number of classes, for example num_classes=10"
    ):
        as_batches(TensorDataset(IMAGES, LABELS))
    with pytest.raises(ConfigError, match="has no attribute classes"):
        as_batches([1, 2, 3])


class Half(SubsetRandomSampler):
    pass


SAMPLED = {
    "plain": ({}, 20),
    "shuffled": ({"shuffle": True}, 20),
    "one by one": ({"batch_size": None, "sampler": SubsetRandomSampler([2, 4, 6])}, 3),
    "derived": ({"sampler": Half([2, 4, 6])}, 3),
    "of the first ones": ({"sampler": RandomSampler(range(5))}, 5),
    "in a batch sampler": ({"batch_sampler": BatchSampler(SubsetRandomSampler([2, 4, 6]), 2, True)}, 3),
    "in order": ({"batch_sampler": BatchSampler(SequentialSampler(range(7)), 2, True)}, 7),
}


@pytest.mark.parametrize(("options", "count"), SAMPLED.values(), ids=SAMPLED)
def test_a_loader_is_drawn_from_where_its_sampler_draws(options: Any, count: Any) -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), **options)
    drawn = {image for batch, _ in loader for image in batch.flatten().tolist()}
    batches = as_batches(loader, num_classes=4)
    assert len(batches) == count
    assert drawn <= set(batches.draw(count, 0).images.flatten().tolist())


def test_a_loader_whose_sampler_is_not_understood_is_refused() -> None:
    data = TensorDataset(IMAGES, LABELS)
    sentence = r"with a {} draws are not known: give it a SubsetRandomSampler, .* or pass torch\.utils\.data\.Subset"
    with pytest.raises(ConfigError, match=sentence.format("WeightedRandomSampler")):
        as_batches(DataLoader(data, sampler=WeightedRandomSampler([1.0] * 20, 5)), num_classes=4)
    with pytest.raises(ConfigError, match=sentence.format("list")):
        as_batches(DataLoader(data, batch_sampler=[[1, 2]]), num_classes=4)
    with pytest.raises(ConfigError, match="cannot be drawn from Endless"):
        as_batches(DataLoader(Endless()), num_classes=4)


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(())


def test_items_that_are_no_pairs_are_named() -> None:
    three = TensorDataset(IMAGES, LABELS, LABELS)
    with pytest.raises(DataError, match=r"must be pairs \(image, label\), not 3 values"):
        DatasetBatches(three, num_classes=4).draw(2, 0)
    with pytest.raises(DataError, match=r"must be pairs \(image, label\), not Tensor"):
        DatasetBatches(cast(Any, IMAGES), num_classes=4).draw(2, 0)


def test_a_fingerprint_tells_images_labels_and_order_apart() -> None:
    batch = Batch(IMAGES, LABELS)
    assert compute_fingerprint(batch) == compute_fingerprint(Batch(IMAGES.clone(), LABELS.clone()))
    others = [Batch(IMAGES + 1e-6, LABELS), Batch(IMAGES, LABELS + 1), Batch(IMAGES.flip(0), LABELS)]
    assert len({compute_fingerprint(other) for other in [batch, *others]}) == 4


def test_a_class_count_that_no_images_can_have_is_refused() -> None:
    check_class_count(as_batches((IMAGES, LABELS), 100_000))
    for labels, given in ((LABELS, 100_001), (LABELS, 3_000_000), (LABELS + 2_999_990, None)):
        batches = as_batches((IMAGES, labels), given)
        with pytest.raises(DataError, match=f"{batches.num_classes} classes are more than 20 images can have, at most"):
            check_class_count(batches)
    with pytest.raises(DataError, match="3000000 classes"):
        zcpt.search(
            "nasbench201",
            (IMAGES, LABELS),
            proxy="snip",
            num_classes=3_000_000,
            batch_size=4,
            proposals=1,
            validation_batch_size=4,
        )
