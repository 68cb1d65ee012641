"""Callbacks of the caller that fail, and what else they do to a search."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.trials.values import Convolutions
from zcpt import ConfigError
from zcpt.errors import CallbackError
from zcpt.monitor import Progress

OPTIONS: dict[str, Any] = {
    "proxy": "hashed", "proposals": 2, "batch_size": 4, "validation_batches": 2, "validation_inits": 1,
    "validation_batch_size": 4, "channels": 2, "layers": 1, "num_classes": 10,
    "finalists": 2, "finalist_value": Convolutions(),
}  # fmt: skip
METHODS = [name for name in vars(zcpt.Callback) if name.startswith("on_")]
ERRORS = [RuntimeError("a\nb"), OSError(28, "No space left on device")]


def make_failing_callback(method: str, error: BaseException) -> zcpt.Callback:
    def fail(self: object, *args: object, **kwargs: object) -> None:
        raise error

    failing: type[zcpt.Callback] = type("Mine", (zcpt.Callback,), {method: fail})
    return failing()


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_that_raises_is_named_and_the_search_goes_on_from_there(
    method: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    whole = zcpt.search("nasbench201", pictures, **OPTIONS)
    for number, error in enumerate(ERRORS):
        run = tmp_path / str(number)
        callbacks = [make_failing_callback(method, error), Progress()]
        with pytest.raises(CallbackError, match=f"the callback Mine.{method} raised {type(error).__name__}") as caught:
            zcpt.search("nasbench201", pictures, callbacks=callbacks, run_dir=run, **OPTIONS)
        assert caught.value.__cause__ is error
        has_begun = method != "on_search_start"
        assert run.exists() == has_begun
        result = zcpt.search("nasbench201", pictures, run_dir=run, resume=has_begun, **OPTIONS)
        assert (result.architecture, result.candidates) == (whole.architecture, whole.candidates)


def test_the_first_error_is_reported_and_all_callbacks_are_closed(pictures: TensorDataset) -> None:
    class Closes(zcpt.Callback):
        closed: ClassVar[list[object]] = []

        def on_close(self) -> None:
            self.closed.append(self)
            raise ValueError("second")

    callbacks = [Closes(), make_failing_callback("on_decision", ValueError("first")), Closes()]
    with pytest.raises(CallbackError, match="first"):
        zcpt.search("nasbench201", pictures, callbacks=callbacks, **OPTIONS)
    assert Closes.closed == [callbacks[0], callbacks[2]]


@pytest.mark.parametrize(
    ("callbacks", "complaint"),
    [
        (Progress(), "must be a list of zcpt.Callback objects"),
        (5, "must be a list"),
        (None, "must be a list"),
        ([Progress], "is a class: call it"),
        ([print], "has no method on_"),
        ([None], "has no method on_"),
        (["progress"], "has no method on_"),
    ],
)
def test_what_is_no_callback_is_refused_and_nothing_is_written(
    callbacks: Any, complaint: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        zcpt.search("nasbench201", pictures, callbacks=callbacks, run_dir=tmp_path / "run", **OPTIONS)
    assert list(tmp_path.iterdir()) == []


class Meddles(zcpt.Callback):
    """Changes everything that a callback can reach."""

    def __init__(self, elsewhere: Path) -> None:
        self.elsewhere = elsewhere

    def on_decision(self, *args: Any, **kwargs: Any) -> None:
        os.chdir(self.elsewhere)
        torch.manual_seed(5)
        torch.rand(3)

    def on_validation_batch(self, batch: int, scores: Any, replayed: bool) -> None:
        if isinstance(scores, list):
            scores[:] = [0.0 for _ in scores]


def test_what_a_callback_does_changes_no_result(
    pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    whole = zcpt.search("nasbench201", pictures, **OPTIONS)
    result = zcpt.search("nasbench201", pictures, callbacks=[Meddles(elsewhere)], run_dir="run", **OPTIONS)
    assert (result.architecture, result.candidates) == (whole.architecture, whole.candidates)
    assert (tmp_path / "run" / "architecture.json").exists()
    assert list(elsewhere.iterdir()) == []
    assert len(list((tmp_path / "run" / "journal").iterdir())) == 4
