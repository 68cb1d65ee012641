"""Processes that share a training: which images are whose, and what they gather."""

from __future__ import annotations

from dataclasses import dataclass

MIN_IMAGES = 2
"""Fewest images of a process in a training batch: the BatchNorms on 1x1 maps need two."""


@dataclass(frozen=True)
class Share:
    """Part of one of several processes in all batches of a training.

    A global batch of B images is cut into consecutive parts, whose sizes differ by at most one.
    """

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes."""

    def find_part(self, size: int) -> range:
        """Return the positions of this process's images in a global batch of ``size`` images."""
        return range(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def count_batches(self, images: int, batch_size: int) -> int:
        """Return the number of global training batches of an epoch.

        A last, smaller batch is left out if a process would have fewer than ``MIN_IMAGES`` of it.
        """
        full, rest = divmod(images, batch_size)
        return full + (rest // self.world >= MIN_IMAGES)

    def compute_weight(self, size: int) -> float:
        """Return the weight of this process's mean loss over its part of a global batch of ``size`` images.

        The mean over processes of the weighted losses, and so of their gradients, is the mean over the global batch.
        """
        return len(self.find_part(size)) * self.world / size


SINGLE_SHARE = Share()
"""All images, for a training of one process."""
