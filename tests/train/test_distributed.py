from __future__ import annotations

import pytest

from train.distributed import Share


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 6, 7, 96])
def test_parts_are_consecutive_and_cover_the_batch(world: int, size: int) -> None:
    shares = [Share(rank, world) for rank in range(world)]
    parts = [share.find_part(size) for share in shares]
    assert [position for part in parts for position in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sum(share.compute_weight(len(share.find_part(size)), size) for share in shares) / world == pytest.approx(1)


def test_a_last_batch_without_two_images_for_each_process_is_left_out() -> None:
    assert Share(0, 1).count_batches(97, 96) == 1
    assert Share(0, 1).count_batches(98, 96) == 2
    assert Share(0, 2).count_batches(99, 96) == 1
    assert Share(0, 2).count_batches(100, 96) == 2
