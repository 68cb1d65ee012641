"""The public names of version 0.1 still work, with a warning that gives the new name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch.utils.data import TensorDataset

import zcpt
from zcpt._deprecated import DEPRECATED, Listener
from zcpt.cli._parser import parse
from zcpt.search import Decision, configure


@pytest.mark.parametrize("name", list(DEPRECATED))
def test_an_old_name_warns_and_is_what_the_new_one_is(name: str) -> None:
    value, new_name = DEPRECATED[name]
    with pytest.warns(DeprecationWarning, match=f"zcpt.{name} is now zcpt.{new_name}") as caught:
        assert getattr(zcpt, name) is value
    assert caught[0].filename == __file__
    assert name == "Listener" or value is getattr(zcpt, new_name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Shap'"):
        _ = zcpt.Shap  # type: ignore[attr-defined]


def test_a_listener_receives_all_events_by_its_old_methods(pictures: TensorDataset) -> None:
    events: list[str] = []

    class Recorder(Listener):
        def started(self, space: zcpt.SearchSpace, config: zcpt.SearchConfig) -> None:
            events.append("started")

        def decided(self, proposal: int, decision: Decision, replayed: bool) -> None:
            events.append("decided")

        def proposed(self, proposal: int, architecture: zcpt.Architecture) -> None:
            events.append("proposed")

        def validating(self, candidates: Sequence[zcpt.Architecture]) -> None:
            events.append("validating")

        def validated(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
            events.append("validated")

        def finished(self, result: zcpt.SearchResult) -> None:
            events.append("finished")

        def closed(self) -> None:
            events.append("closed")

    with pytest.warns(DeprecationWarning, match="callbacks"):
        zcpt.search(
            "nasbench201",
            pictures,
            num_classes=10,
            listeners=[Recorder()],
            proxy="hashed",
            proposals=3,
            batch_size=4,
            validation_batch_size=4,
            validation_batches=2,
            channels=2,
            layers=1,
        )
    assert list(dict.fromkeys(events)) == [
        "started", "decided", "proposed", "validating", "validated", "finished", "closed",
    ]  # fmt: skip


def test_an_old_flag_and_an_old_setting_still_work(caplog: pytest.LogCaptureFixture) -> None:
    space = zcpt.get_space("nasbench201")
    with caplog.at_level("WARNING"):
        assert parse(["search", "--struck_inputs", "present"]).removed_inputs == "present"
    assert "--struck-inputs is now --removed-inputs" in caplog.text
    assert configure(space, struck_inputs="present") == configure(space, removed_inputs="present")
