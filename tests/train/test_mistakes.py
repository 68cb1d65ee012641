"""Predictions of a trained network, and the pictures of its mistakes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from train.evaluation import Predictions
from train.images import InMemoryImages
from train.mistakes import describe_confusions, draw_confusion, draw_mistakes, shorten_name
from zcpt.figures import encode_png


def predictions(labels: list[int], predicted: list[int], losses: list[float]) -> Predictions:
    return Predictions(
        torch.tensor(labels),
        torch.tensor(predicted),
        torch.full((len(labels),), 0.5),
        torch.tensor(losses),
        torch.ones(len(labels), dtype=torch.bool),
    )


def test_confusions_are_counted_by_true_and_predicted_class() -> None:
    found = predictions([0, 0, 1, 2, 2], [0, 1, 1, 1, 2], [0.1, 1, 0.1, 2, 0.1])
    counts = found.count_confusions(4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert describe_confusions(counts, ["a", "b|x", "c", "d"]).splitlines()[2:] == [
        "| a | b\\|x | 1 | 2 |",
        "| c | b\\|x | 1 | 2 |",
    ]


def test_the_worst_mistakes_are_wrong_and_have_the_highest_loss() -> None:
    found = predictions([0, 0, 1, 1, 0], [1, 0, 0, 0, 1], [1.0, 9.0, 3.0, math.nan, 2.0])
    assert found.find_worst(3) == [3, 2, 4]
    assert found.find_worst(100) == [3, 2, 4, 0]
    assert predictions([0], [0], [1.0]).find_worst(4) == []


@pytest.mark.parametrize("classes", [1, 2, 20, 21, 61, 300])
def test_a_confusion_is_drawn_for_any_number_of_classes(classes: int) -> None:
    counts = np.eye(classes, dtype=np.int64) * 3
    counts[0] = 0
    (axis, _) = draw_confusion(counts, [f"class {index}" for index in range(classes)]).axes
    assert len(axis.texts) == (classes - 1 if classes <= 20 else 0)
    assert any(label.get_text() == "class 0" for label in axis.get_yticklabels()) == (classes <= 60)


@pytest.mark.parametrize("name", ["$", "a$b$", "$\\frac{", "名前", "a\nb", "\x1b[31m", "", "x" * 500, "\udcff"])
def test_any_name_of_a_class_can_be_drawn(name: str) -> None:
    images = InMemoryImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    found = predictions([0, 1], [1, 1], [1.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_png(draw_mistakes(found, images, [name, name]))
        encode_png(draw_confusion(found.count_confusions(2), [name, name]))
    assert shorten_name(name).isprintable()
    assert len(shorten_name(name)) <= 18


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float16])
def test_images_of_any_channels_and_kind_of_values_are_shown(channels: int, dtype: torch.dtype) -> None:
    values = torch.arange(channels * 16).reshape(1, channels, 4, 4).to(dtype)
    picture = draw_mistakes(predictions([0], [1], [1.0]), InMemoryImages(values, torch.tensor([0])), ["a", "b"])
    shown = np.asarray(picture.axes[0].images[0].get_array())
    assert shown.shape == ((4, 4) if channels < 3 else (4, 4, 3))
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_a_network_without_mistakes_is_said_to_have_none() -> None:
    images = InMemoryImages(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.tensor([0]))
    picture = draw_mistakes(predictions([0], [0], [0.0]), images, ["a"], title="mistakes")
    assert picture.get_suptitle() == "mistakes: none"
