"""Random numbers that depend on what they are for and on nothing that was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: int | str) -> int:
    """Return the 63-bit seed that belongs to one purpose of a run, such as ``derive_seed(0, "order", 3)``.

    It is a hash and no state advances, so any process may take any proposal or batch, in any order,
    and draws the same numbers.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def use_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block and put its state back afterwards.

    Only the CPU's: networks are built and images augmented there, so that every device gets the same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
