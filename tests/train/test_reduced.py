"""Reduced trainings: their sizes, what measures them, and stages that add up to the whole."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import LAYERS, random_architecture
from train.data import ImageData, load_data
from train.holdout import draw_samples
from train.images import InMemoryImages
from train.loop import Trainer
from train.optimisation import Schedule, build_optimizer
from train.recipe import TrainConfig, make_train_config, read_recipe
from train.reduced import ReducedTraining, limit_image_size, prepare_training, reduce_settings
from zcpt import ConfigError

SPACE = zcpt.get_space("nasbench201")
ARCHITECTURE = SPACE.parse("|nor_conv_1x1~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|none~2|")


def make_images(name: str = "cifar10", side: int = 32, count: int = 100) -> ImageData:
    """Return random images whose test part cannot be read."""

    def load(train: bool) -> InMemoryImages:
        assert train, "the test images were read"
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
        return InMemoryImages(images, torch.arange(count) % 2)

    return ImageData(("a", "b"), load, name, known_statistics=((0.5,) * 3, (0.25,) * 3))


def prepare_small(**options: Any) -> ReducedTraining:
    return prepare_training(SPACE, make_images(), "econas", **{"layers": 1, "epochs": 3, **options})


@pytest.mark.parametrize(
    ("recipe", "space", "channels", "layers", "side", "epochs", "schedule"),
    [
        ("econas", "nasbench201", 4, 5, 8, 20, 40),  # r8c4 after 20 of 40 epochs
        ("econas+", "nasbench201", 8, 5, 16, 15, 40),  # r16c8
        ("c4r4s0e60", "darts", 9, 20, 8, 60, 60),  # 9 channels, 8x8 images, 60 epochs
    ],
)
def test_published_settings(
    recipe: str, space: str, channels: int, layers: int, side: int, epochs: int, schedule: int
) -> None:
    training = prepare_training(zcpt.get_space(space), make_images(), recipe)
    config = training.config
    assert (config.channels, config.layers, config.epochs, config.schedule_length) == (
        channels,
        layers,
        epochs,
        schedule,
    )
    assert training.images[0][0].shape == training.held_back[0][0].shape == (3, side, side)
    assert (len(training.images), len(training.held_back)) == (80, 20)
    assert (config.cutout, config.drop_path, config.auxiliary_weight, config.crop_padding) == (0, 0, 0, side // 8)


def test_the_size_is_a_share_of_the_usual_one_of_the_data_set() -> None:
    darts, recipe = zcpt.get_space("darts"), read_recipe("econas")
    assert reduce_settings(darts, load_data("digits"), recipe)["channels"] == 4  # of the 16 for small images
    assert reduce_settings(darts, make_images("cifar100"), recipe)["channels"] == 4  # of the search's 16
    assert reduce_settings(darts, make_images("cifar10"), recipe)["channels"] == 9  # of 36
    assert reduce_settings(darts, make_images("cifar10"), read_recipe("cifar")) == {}
    assert reduce_settings(darts, load_data("digits"), recipe)["flip"] is False  # a mirrored digit is none


def test_small_images_stay_as_they_are_and_few_images_have_small_batches() -> None:
    digits, recipe = load_data("digits"), read_recipe("econas")
    assert limit_image_size(digits, recipe).image_shape == (1, 8, 8)
    assert limit_image_size(make_images(side=12), recipe).image_shape == (3, 8, 8)
    batches = [reduce_settings(SPACE, make_images(side=2, count=n), recipe)["batch_size"] for n in (99, 25_000, 60_000)]
    assert batches == [32, 1024, 2048]


def test_options_take_precedence() -> None:
    config = prepare_small(channels=3, batch_size=16, flip=False, samples=0.5).config
    assert (config.channels, config.batch_size, config.flip, config.samples) == (3, 16, False, 1.0)
    assert len(prepare_small(samples=0.25).images) == 20


def test_images_kept_back_measure_and_test_images_are_never_read() -> None:
    training = prepare_small()
    outcome = training.measure(ARCHITECTURE, seed=3)
    assert outcome.value in [5.0 * right for right in range(21)]  # of 20 images
    assert outcome.report["epochs"] == 3
    assert outcome.seconds > 0
    assert training.measure(ARCHITECTURE, seed=3).report == outcome.report
    assert training.measure(ARCHITECTURE, seed=4).report != outcome.report


def test_all_trainings_have_the_same_images() -> None:
    one, other = prepare_small(), prepare_small(seed=1)
    assert torch.equal(images_of(one.held_back), images_of(prepare_small().held_back))
    assert not torch.equal(images_of(one.held_back), images_of(other.held_back))
    own = {image.numpy().tobytes() for image in images_of(one.images)}
    assert not own & {image.numpy().tobytes() for image in images_of(one.held_back)}


def images_of(images: Any) -> torch.Tensor:
    return torch.stack([images[index][0] for index in range(len(images))])


def test_the_callers_random_numbers_stay() -> None:
    state = torch.get_rng_state()
    prepare_small(epochs=1).measure(ARCHITECTURE)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_stages_add_up_to_the_whole_training(space: str, tmp_path: Path) -> None:
    kind = zcpt.get_space(space)
    options: dict[str, Any] = {"epochs": 3, "channels": 2, "layers": LAYERS[space]}
    training = prepare_training(kind, make_images(count=40), "c4r4s0e60", **options)
    architecture = random_architecture(kind, 0)
    whole = training.measure(architecture, seed=7)
    for stage in (1, 2, 3):
        outcome = training.measure_share(architecture, 7, stage / 3, tmp_path / "last.pt")
        assert outcome.report["epochs"] == stage
    assert (outcome.value, outcome.report) == (whole.value, whole.report)


def test_a_checkpoint_changes_nothing_but_the_time(tmp_path: Path) -> None:
    training, path = prepare_small(), tmp_path / "last.pt"
    expected = training.measure_share(ARCHITECTURE, 0, 2 / 3).report
    training.measure_share(ARCHITECTURE, 0, 1 / 3, path)
    first = path.read_bytes()
    for content in (first, None, b"damaged", training_of_all_epochs(training, tmp_path)):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        for _ in range(2):  # the second time as after a kill between checkpoint and journal
            assert training.measure_share(ARCHITECTURE, 0, 2 / 3, path).report == expected


def training_of_all_epochs(training: ReducedTraining, folder: Path) -> bytes:
    training.measure_share(ARCHITECTURE, 0, 1.0, folder / "whole.pt")
    return (folder / "whole.pt").read_bytes()


def test_a_training_can_be_sent_to_a_process() -> None:
    training = prepare_small(epochs=1)
    assert pickle.loads(pickle.dumps(training)).measure(ARCHITECTURE).report == training.measure(ARCHITECTURE).report


def test_a_training_that_diverges_has_no_value() -> None:
    outcome = prepare_small(lr=1e30).measure(ARCHITECTURE)
    assert outcome.value != outcome.value


def test_a_recipe_that_keeps_nothing_back_is_refused() -> None:
    with pytest.raises(ConfigError, match="recipe cifar keeps no training images back"):
        prepare_training(SPACE, make_images(), "cifar")
    assert len(prepare_training(SPACE, make_images(), "cifar", holdout=0.1).held_back) == 10


def test_a_training_that_ends_before_its_schedule() -> None:
    """The rates of the first epochs are those of the longer training."""
    rates: list[list[float]] = []
    for epochs, whole in ((10, 0), (4, 10)):
        config = make_train_config(SPACE, "econas", epochs=epochs, schedule_epochs=whole)
        network = torch.nn.Linear(1, 1)
        optimizer = build_optimizer(network, config)
        schedule = Schedule(optimizer, config, 1)
        rates.append([])
        for epoch in range(4):
            schedule.set_rate(epoch, 0)
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]
    assert rates[0][0] == 0.1
    assert 0.05 < rates[0][3] < 0.1
    with pytest.raises(ConfigError, match="--schedule-epochs 3 must be at least --epochs 4, or 0"):
        TrainConfig(epochs=4, schedule_epochs=3)


def test_a_sample_is_drawn_once() -> None:
    images = make_images().train
    drawn = draw_samples(images, 0.3, 1)
    assert len(drawn) == 30
    assert torch.equal(images_of(drawn), images_of(draw_samples(images, 0.3, 1)))
    assert draw_samples(images, 1.0, 1) is images
    config = make_train_config(SPACE, "econas", samples=0.5, channels=2, layers=1, batch_size=16)
    trainer = Trainer(SPACE, ARCHITECTURE, make_images(), config, torch.device("cpu"))
    assert len(trainer.train_images) == 40


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("width: 2.0", "width and resolution must be above 0 and at most 1"),
        ("resolution: 0", "width and resolution must be above 0 and at most 1"),
        ("width: half", "'width' takes a value of type float, not 'half'"),
    ],
)
def test_a_wrong_share_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"{text}\nvalues: {{}}\n")
    with pytest.raises(ConfigError, match=complaint):
        read_recipe(str(tmp_path / "mine.yaml"))
