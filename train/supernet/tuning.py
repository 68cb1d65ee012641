"""Further training of a trained supernet, and the images on which it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from train.data import ImageData
from train.images import select_images
from train.loaders import TestOptions, build_test_loader
from train.loop import keep_random_state
from train.supernet.checkpoint import TrainedSupernet
from train.supernet.loop import SupernetTrainer, split_images
from zcpt.batches import Batch
from zcpt.devices import move_batch
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.seeding import derive_seed
from zcpt.supernet import Supernet

RATE_SHARE = 0.1
"""Share of the first learning rate with which DARTS-PT trains on, at a constant rate."""


@dataclass(frozen=True)
class SupernetTuning:
    """Trains copies of a trained supernet further: weights and open architecture parameters, as before.

    Each call starts from the trained supernet, with fresh optimisers and the same order of images: so the copies that
    several decisions lead to are comparable. Parameters of decided choices are not trained.
    """

    trained: TrainedSupernet
    data: ImageData
    """The images that the supernet was trained on."""
    epochs: int
    device: torch.device

    def __call__(self, mixture: Mixture) -> tuple[Supernet, Mixture]:
        """Train a copy with the decisions of a mixture; return it in evaluation mode, and its mixture."""
        trainer = SupernetTrainer.continue_from(self.trained, self.data, self.epochs, RATE_SHARE, self.device)
        # Of the mixture only what is decided or removed counts: shares are those of the trained parameters.
        trainer.mixture = mixture
        with keep_random_state(self.device):
            for _ in range(self.epochs):
                trainer.run_epoch()
        return trainer.net.eval(), trainer.alphas.weigh(mixture)


def build_validation_batches(
    trained: TrainedSupernet, data: ImageData, device: torch.device, images: int = 0
) -> list[Batch]:
    """Return the images that have not trained the weights, without augmentation, in batches of the training's size.

    They are shuffled once, since BatchNorms use the statistics of a batch and images may be sorted by class.

    Args:
        trained: Trained supernet.
        data: The images that it was trained on.
        device: Device of the batches.
        images: Number of images; 0 takes all.

    Raises:
        ConfigError: There are fewer images.
    """
    config = trained.config
    _, valid = split_images(data.train, config)
    if not 0 <= images <= len(valid) or images == 1:
        raise ConfigError(f"--validation-images {images} must be from 2 to the {len(valid)} that there are, or 0.")
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "validation"))
    order = torch.randperm(len(valid), generator=generator)[: images or None]
    options = TestOptions(batch_size=config.batch_size)
    size = trained.network_config.image_size
    loader = build_test_loader(select_images(valid, order.tolist()), trained.statistics, options, size, device)
    batches = [move_batch(Batch(batch.images, batch.labels), device) for batch in loader.load_epoch(0)]
    # A last batch of one image has no statistics.
    return batches[:-1] if len(batches) > 1 and len(batches[-1].labels) == 1 else batches


def check_data(trained: TrainedSupernet, data: ImageData) -> ImageData:
    """Return the data with the statistics of a trained supernet.

    Raises:
        ConfigError: The images have another size, or other classes.
    """
    channels, height, width = data.image_shape
    config = trained.network_config
    if (channels, (height, width), data.classes) != (config.in_channels, config.image_size, trained.classes):
        raise ConfigError(
            f"{data.name} has images of {channels}x{height}x{width} and {len(data.classes)} classes, and the supernet "
            f"was trained on {config.in_channels}x{config.image_size[0]}x{config.image_size[1]} and "
            f"{config.num_classes}: give the data set that it was trained on."
        )
    return replace(data, known_statistics=trained.statistics)
