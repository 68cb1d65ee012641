"""The public names of version 0.1 still work, with a warning that gives the new name."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pytest
from torch.utils.data import TensorDataset

import zcpt
from zcpt import space as space_module
from zcpt import supernet
from zcpt._deprecated import DEPRECATED, Listener
from zcpt.baselines import OperationScore
from zcpt.cli._parser import parse
from zcpt.errors import ZcptError
from zcpt.monitor import TensorBoard
from zcpt.proxies import LayerProxy, Naswot, _registry, aggregate, naswot
from zcpt.search import Decision, callbacks, configure
from zcpt.tabular.searches import measure_searches


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
    with pytest.warns(DeprecationWarning, match="'struck_inputs' is now 'removed_inputs'"):
        assert configure(space, struck_inputs="present") == configure(space, removed_inputs="present")
    with pytest.raises(zcpt.ConfigError, match="leave struck_inputs out"):
        configure(space, struck_inputs="present", removed_inputs="absent")
    with pytest.raises(zcpt.ConfigError, match=r"is now called SearchConfig\(removed_inputs=...\): rename it"):
        zcpt.SearchConfig(struck_inputs="present")  # type: ignore[call-arg]


OVERRIDES: list[tuple[type, Mapping[str, str]]] = [
    (zcpt.Callback, callbacks._RENAMED),
    (TensorBoard, callbacks._RENAMED),
    (zcpt.Proxy, _registry._RENAMED),
    (LayerProxy, {"per_layer": "score_layers"}),
    (Naswot, naswot._RENAMED),
    (zcpt.Aggregate, aggregate._RENAMED),
    (OperationScore, {"importances": "compute_importances"}),
    (zcpt.Supernet, supernet._RENAMED),
    (zcpt.SearchSpace, space_module._RENAMED_METHODS),
]
"""Classes that users derive from, with the attributes that have been renamed."""


@pytest.mark.parametrize(
    ("base", "old", "new"), [(base, old, new) for base, renamed in OVERRIDES for old, new in renamed.items()]
)
def test_a_subclass_that_overrides_an_old_name_is_refused(base: type, old: str, new: str) -> None:
    """Nothing would call the override: a proxy that reads no mixture would score operations all the same."""

    def override(self: object, *given: object) -> None: ...

    assert hasattr(base, new)
    assert not hasattr(base, old)
    with pytest.raises(ZcptError, match=f"^Own.{old} is now called {new}: rename it.$"):
        type("Own", (base,), {old: override})
    both = type("Own", (base,), {old: override, new: override})
    type("Derived", (both,), {})


def test_a_subclass_of_listener_keeps_the_old_methods() -> None:
    class First(Listener):
        def decided(self, proposal: int, decision: Decision, replayed: bool) -> None: ...

    class Second(First):
        def closed(self) -> None: ...

    assert isinstance(Second(), zcpt.Callback)


def test_a_callback_may_have_data_of_an_old_name() -> None:
    class Own(zcpt.Callback):
        finished = False

    assert not Own().finished


def test_old_attributes_of_a_choice_warn_and_an_old_argument_is_refused() -> None:
    choice = zcpt.Choice("edge", ("none", "skip", "conv"), not_selectable=("none",))
    for old, value in {"rivals": ("skip", "conv"), "looks": (2,), "never_kept": ("none",)}.items():
        with pytest.warns(DeprecationWarning, match=f"Choice.{old} is now called") as caught:
            assert getattr(choice, old) == value
        assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match="'Choice' object has no attribute 'rival'"):
        _ = choice.rival
    with pytest.raises(zcpt.SpaceError, match=r"is now called Choice\(not_selectable=...\): rename it"):
        zcpt.Choice("edge", ("none", "skip"), never_kept=("none",))  # type: ignore[call-arg]
    assert copy.deepcopy(choice) == pickle.loads(pickle.dumps(choice)) == choice


@pytest.mark.parametrize("function", [zcpt.search, zcpt.replay, zcpt.select, measure_searches])
def test_every_function_with_callbacks_takes_listeners(function: Callable[..., object]) -> None:
    names = list(inspect.signature(function).parameters)
    assert names[names.index("callbacks") + 1] == "listeners"
    required = [None for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind < 2]
    with pytest.warns(DeprecationWarning, match="'listeners' is now 'callbacks'") as caught, suppress(Exception):
        function(*required, listeners=[Listener()])
    assert caught[0].filename == __file__
