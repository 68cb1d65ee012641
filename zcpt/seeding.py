"""Random numbers that depend on their purpose only, not on what was drawn before."""

from __future__ import annotations

import hashlib
import os
import threading
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


_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # A child process has one thread, and nobody in it would release the lock that another thread of its parent held.
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def exclude_threads() -> Iterator[None]:
    """Let one thread at a time run the block; a thread may enter it again.

    torch's generators belong to all threads, and so does a network, whose tensors are replaced while it is scored.
    Without this, two searches in two threads would draw each other's random numbers.
    """
    with _lock:
        yield


@contextmanager
def use_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block, and restore its state afterwards.

    Only the CPU generator: networks are built and images augmented on the CPU, so that every device gets the same
    numbers.
    """
    # fork_rng without devices would save the state of every GPU, and initialise them all.
    with exclude_threads(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
