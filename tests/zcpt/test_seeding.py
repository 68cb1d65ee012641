"""Seeds that depend on their purpose alone."""

from __future__ import annotations

import torch

from zcpt.seeding import derive_seed, use_seed


def test_seeds_differ_by_seed_and_by_purpose_and_never_change() -> None:
    assert derive_seed(0, "weights", 3) == derive_seed(0, "weights", 3)
    assert derive_seed(0, "weights") == 7388263408636359099
    assert len({derive_seed(seed, name, i) for seed in range(5) for name in ("a", "b") for i in range(5)}) == 50


def test_a_seeded_block_draws_its_own_numbers_and_disturbs_nobody() -> None:
    torch.manual_seed(7)
    undisturbed = torch.rand(2)
    torch.manual_seed(7)
    first = torch.rand(1)
    with use_seed(3):
        inside = torch.rand(4)
    with use_seed(3):
        again = torch.rand(4)
    assert torch.equal(inside, again)
    assert torch.equal(torch.cat([first, torch.rand(1)]), undisturbed)
