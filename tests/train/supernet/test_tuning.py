"""Further training of trained supernets, and the images on which they are measured."""

from __future__ import annotations

import pytest
import torch

import zcpt
from tests.train.supernet.conftest import make_pictures
from train.data import ImageData
from train.supernet import (
    SupernetTuning,
    TrainedSupernet,
    build_validation_batches,
    check_data,
    make_supernet_config,
    train_supernet,
)
from train.supernet.loop import SupernetTrainer, split_images
from zcpt import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, random_pictures: ImageData) -> TrainedSupernet:
    space = zcpt.get_space("nasbench201")
    config = make_supernet_config(space, random_pictures, channels=2, layers=1, epochs=1, batch_size=4)
    return train_supernet(space, random_pictures, config, tmp_path_factory.mktemp("supernet") / "a")


def test_tuning_trains_a_copy_under_the_decisions(trained: TrainedSupernet, random_pictures: ImageData) -> None:
    before = {name: tensor.clone() for name, tensor in trained.net.state_dict().items()}
    mixture = trained.mixture.select("node1/edge0", ("nor_conv_3x3",))
    tune = SupernetTuning(trained, random_pictures, 2, CPU)
    net, tuned = tune(mixture)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.net.state_dict().items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert list(tuned.weights["node1/edge0"]) == [0, 0, 0, 1, 0]
    assert tuned.weights["node3/edge2"] != mixture.weights["node3/edge2"]
    assert not any(module.training for module in net.modules())
    again, same = tune(mixture)
    assert same == tuned
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_tuning_has_a_tenth_of_the_rate_in_all_epochs(trained: TrainedSupernet, random_pictures: ImageData) -> None:
    trainer = SupernetTrainer.continue_from(trained, random_pictures, 3, 0.1, CPU)
    assert [trainer.run_epoch()["lr"] for _ in range(3)] == [pytest.approx(0.0025)] * 3


def test_accuracies_are_measured_on_the_other_half(trained: TrainedSupernet, random_pictures: ImageData) -> None:
    batches = build_validation_batches(trained, random_pictures, CPU)
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    train, valid = split_images(random_pictures.train, trained.config)
    mean, std = 0.5, 0.25
    seen = {image.mul(std).add(mean).mul(255).round().byte().numpy().tobytes() for b in batches for image in b.images}
    assert seen == {valid[index][0].numpy().tobytes() for index in range(10)}
    assert not seen & {train[index][0].numpy().tobytes() for index in range(10)}
    assert [len(batch.labels) for batch in build_validation_batches(trained, random_pictures, CPU, 6)] == [4, 2]
    with pytest.raises(ConfigError, match="--validation-images 11 must be from 2 to the 10"):
        build_validation_batches(trained, random_pictures, CPU, 11)


def test_other_images_are_refused(trained: TrainedSupernet, random_pictures: ImageData) -> None:
    assert check_data(trained, random_pictures).statistics == trained.statistics
    with pytest.raises(ConfigError, match="give the data set that it was trained on"):
        check_data(trained, make_pictures(classes=5))
    with pytest.raises(ConfigError, match="images of 3x4x4"):
        check_data(trained, random_pictures.resize((4, 4)))
