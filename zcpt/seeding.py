"""Random numbers that depend on their purpose only, not on what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: int | str) -> int:
    """Return the 63-bit seed of one purpose of a run, such as ``derive_seed(0, "order", 3)``.

    The seed is a hash and there is no generator state, so any process may take any proposal or batch, in any order, and
    draws the same numbers.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def use_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block, and restore its state afterwards.

    Only the CPU generator: networks are built and images augmented on the CPU, so that every device gets the same
    numbers.
    """
    # fork_rng without devices would save the state of every GPU, and initialise them all.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
