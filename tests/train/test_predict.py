"""Pictures are read ahead by threads, with the answers of reading them one by one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import zcpt
from tests.train.test_export import make_trained
from train.pictures import read_header
from train.predict import predict_pictures, read_ahead


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch, and so the reading of pictures, use two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_what_is_read_ahead_keeps_its_order() -> None:
    second_is_read = threading.Event()

    def read(name: str) -> str:
        if name == "0":
            assert second_is_read.wait(10), "one thread alone reads"
        if name == "1":
            second_is_read.set()
        return f"read {name}"

    assert list(read_ahead(read, map(str, range(9)), 3)) == [f"read {index}" for index in range(9)]


@pytest.mark.usefixtures("two_threads")
def test_only_so_many_are_read_ahead_as_wanted() -> None:
    asked: list[int] = []

    def list_names() -> Iterator[str]:
        for index in range(1000):
            asked.append(index)
            yield str(index)

    found = read_ahead(len, list_names(), 4)
    assert next(found) == 1
    found.close()
    assert len(asked) == 5


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_of_pictures_give_the_answers_of_single_ones(batch_size: int, tmp_path: Path) -> None:
    trained = make_trained(zcpt.get_space("nasbench201"))
    generator = torch.Generator().manual_seed(0)
    for index in range(9):
        values = torch.randint(256, (20 + index, 30, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(values.numpy()).save(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_bytes(b"damaged")
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    found = list(predict_pictures(trained, iter(names), batch_size=batch_size, top=3))
    assert [prediction.picture for prediction in found] == names
    assert "4.png cannot be read" in found[4].error
    for name, prediction in zip(names, found, strict=True):
        if not prediction.error:
            logits = trained.network(trained.transform(name)[None])
            assert isinstance(logits, torch.Tensor)
            values, classes = logits[0].softmax(0).topk(3)
            assert prediction.classes == tuple(trained.classes[index] for index in classes.tolist())
            assert prediction.probabilities == pytest.approx(values.tolist(), abs=1e-6)


def test_warnings_are_as_before_when_threads_have_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [read_header(str(tmp_path / "a.png")) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
