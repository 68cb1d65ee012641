"""Mini-batches that depend on a seed alone."""

import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from zcpt import ConfigError, DatasetBatches
from zcpt.batches import Batch, as_batches, fingerprint

IMAGES, LABELS = torch.arange(20.0).reshape(20, 1, 1, 1), torch.arange(20) % 4


class Noisy(TensorDataset):
    """A data set whose transform is random."""

    classes = ("a", "b", "c", "d")

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.rand(1) / 2, label


def test_a_batch_depends_on_its_seed_alone():
    batches = DatasetBatches(Noisy(IMAGES, LABELS))
    first = batches.draw(8, seed=5)
    batches.draw(3, seed=6)
    torch.rand(9)
    again = batches.draw(8, seed=5)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, batches.draw(8, seed=7).images)
    assert batches.num_classes == 4


def test_a_batch_has_different_images_of_the_part_it_draws_from():
    batches = DatasetBatches(TensorDataset(IMAGES, LABELS), indices=[3, 5, 7, 11], num_classes=4)
    assert len(batches) == 4
    batch = batches.draw(4, seed=0)
    assert sorted(batch.images.flatten().tolist()) == [3, 5, 7, 11]
    assert torch.equal(batch.labels, batch.images.flatten().long() % 4)


def test_what_people_have_is_accepted():
    batches = DatasetBatches(TensorDataset(IMAGES, LABELS), num_classes=4)
    assert as_batches(batches) is batches
    assert as_batches((IMAGES, LABELS)).num_classes == 4
    assert as_batches(DataLoader(Noisy(IMAGES, LABELS), batch_size=2)).draw(6, 0).images.shape == (6, 1, 1, 1)
    half = DataLoader(TensorDataset(IMAGES, LABELS), sampler=SubsetRandomSampler([2, 4, 6]))
    assert sorted(as_batches(half, num_classes=4).draw(3, 0).images.flatten().tolist()) == [2, 4, 6]
    with pytest.raises(ConfigError, match="does not say its classes: pass num_classes"):
        as_batches(TensorDataset(IMAGES, LABELS))
    with pytest.raises(ConfigError, match="cannot be drawn from list"):
        as_batches([1, 2, 3])


def test_a_fingerprint_tells_images_labels_and_order_apart():
    batch = Batch(IMAGES, LABELS)
    assert fingerprint(batch) == fingerprint(Batch(IMAGES.clone(), LABELS.clone()))
    others = [Batch(IMAGES + 1e-6, LABELS), Batch(IMAGES, LABELS + 1), Batch(IMAGES.flip(0), LABELS)]
    assert len({fingerprint(other) for other in [batch, *others]}) == 4
