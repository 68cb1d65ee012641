"""Proxies of users: whatever they return, raise or leave changed is one sentence, and nothing stays changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import tiny_network_config
from zcpt import Aggregate, Proxy, ProxyError
from zcpt.proxies import Naswot, clone_tensors, run_network
from zcpt.snapshot import StateCopy

Score = Callable[[Any, zcpt.Batch, Any], Any]
SPACE = zcpt.get_space("nasbench201")
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = zcpt.Batch(IMAGES, torch.arange(8) % 4, 5)


def build_proxy(function: Score, **attributes: Any) -> Proxy:
    """Return a proxy of a user's class whose score is a function of network, batch and mixture."""
    methods = {"score": lambda self, net, batch, mixture: function(net, batch, mixture)}
    return cast(Proxy, type("Own", (Proxy,), {"name": "own", "higher_is_better": True, **methods, **attributes})())


def build_supernet() -> zcpt.Supernet:
    torch.manual_seed(0)
    return SPACE.build_supernet(tiny_network_config(SPACE)).eval()


def score_by(function: Score, **attributes: Any) -> float:
    net = build_supernet()
    batch = zcpt.Batch(IMAGES.clone(), BATCH.labels.clone(), 5)
    proxy = build_proxy(function, **attributes)
    before = StateCopy(net, {"images": batch.images, "labels": batch.labels})
    try:
        value = zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch).item()
        assert zcpt.score(net, batch, proxy, net.initial_mixture()) == {"own": value}
    finally:
        if not attributes.get("leaves_hooks"):
            assert before.find_change() == ""
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(2, 2.0, Fraction(2), np.float32(2), np.int64(2), np.array([2.0])),
        *(torch.tensor(2), torch.ones(1, 1) * 2, torch.tensor(2.0, requires_grad=True), torch.ones(()).bfloat16() * 2),
    ],
    ids=repr,
)
def test_every_real_number_is_a_score(value: Any) -> None:
    assert score_by(lambda *arguments: value) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(-torch.inf)], ids=repr)
def test_scores_may_be_infinite_or_undefined(value: Any) -> None:
    assert str(zcpt.score(nn.Flatten(), BATCH, build_proxy(lambda *arguments: value))["own"]) == str(float(value))


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (None, "None"),
        (torch.ones(3), r"float32 tensor \[3\]"),
        (torch.ones(0), r"float32 tensor \[0\]"),
        (torch.ones((), device="meta"), r"float32 tensor \[\]"),
        (torch.tensor(1j), r"complex64 tensor 1j"),
        (np.ones((2, 2)), r"float64 array \[2, 2\]"),
        (np.array("a"), r"<U1 array \[\]"),
        (1j, "complex"),
        ("3.5", "'3.5'"),
        ("a\nb\x1b[31m" * 100, r"'a\\nb\\x1b"),
        (True, "True"),
        ([1.0], "list"),
        ({"score": 1}, "dict"),
        (object(), "object"),
        (10**400, "an integer beyond the largest float"),
        (-(10**5000), "an integer beyond the largest float"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_named(value: Any, described: str) -> None:
    with pytest.raises(ProxyError, match=f"^proxy 'own' returns {described}") as caught:
        score_by(lambda *arguments: value)
    assert "\n" not in str(caught.value)


def raise_error(error: BaseException) -> Score:
    def raise_it(*arguments: Any) -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError("fc"), "KeyError: 'fc'"),
        (ValueError(), "ValueError"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (RuntimeError("a\x1b[31mb" * 100), r"RuntimeError: a\\x1b\[31mb"),
        (StopIteration(), "StopIteration"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (NotImplementedError(), "NotImplementedError"),
        (AssertionError("no head"), "AssertionError: no head"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError: 'utf-8' codec"),
    ],
    ids=repr,
)
def test_an_error_is_named_as_the_proxys_own(error: Exception, described: str) -> None:
    with pytest.raises(ProxyError, match=rf"^proxy 'own' failed on Supernet: {described}") as caught:
        score_by(raise_error(error))
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [zcpt.DataError("none"), MemoryError(), KeyboardInterrupt(), torch.OutOfMemoryError("CUDA out of memory")],
    ids=repr,
)
def test_errors_that_are_not_the_proxys_pass(error: BaseException) -> None:
    with pytest.raises(type(error)):
        score_by(raise_error(error))


def test_the_line_of_the_error_is_given() -> None:
    class Failing(Proxy):
        name, higher_is_better = "failing", True

        def score(self, net: nn.Module, batch: zcpt.Batch, mixture: object) -> float:
            return float(torch.ones(2) @ torch.ones(3))

    line = Failing.score.__code__.co_firstlineno + 1
    with pytest.raises(ProxyError, match=rf"RuntimeError: .* \(line {line} of .*test_boundary.py\)"):
        zcpt.score(nn.Flatten(), BATCH, Failing())


def run(net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
    return net(batch.images) if mixture is None else net(batch.images, mixture)


def change_weights(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    next(net.parameters()).data.mul_(2)
    return 1.0


def replace_weights(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    net.classifier.weight = nn.Parameter(torch.zeros_like(net.classifier.weight))
    return 1.0


def use_training_mode(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    return float(run(net.train(), batch, mixture).sum())


def use_training_mode_and_return(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    score = use_training_mode(net, batch, mixture)
    net.eval()
    return score


def change_one_mode(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    net.classifier.train()
    return 1.0


def leave_gradients(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    with torch.enable_grad():
        run(net, batch, mixture).sum().backward()
    return 1.0


def leave_a_hook(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    net.stem.register_forward_hook(lambda *arguments: None)
    return 1.0


def freeze(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    net.requires_grad_(False)
    return 1.0


def replace_forward(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    net.stem.forward = lambda x: x
    return 1.0


def change_images(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    batch.images.mul_(2)
    return 1.0


def change_labels(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
    batch.labels.zero_()
    return 1.0


@pytest.mark.parametrize(
    ("function", "changed"),
    [
        (change_weights, "'stem.0.weight'"),
        (replace_weights, "'classifier.weight'"),
        (use_training_mode, "'stem.1.running_mean'"),
        (use_training_mode_and_return, "'stem.1.running_mean'"),
        (change_one_mode, "the training mode of 'classifier'"),
        (leave_gradients, "the gradient of 'stem.0.weight'"),
        (leave_a_hook, "the hooks of 'stem'"),
        (freeze, "requires_grad of 'stem.0.weight'"),
        (replace_forward, "the method forward of 'stem'"),
        (change_images, "the images of the batch"),
        (change_labels, "the labels of the batch"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_of_the_network_or_the_batch_is_noticed(function: Score, changed: str) -> None:
    net, batch, proxy = build_supernet(), zcpt.Batch(IMAGES.clone(), BATCH.labels.clone(), 5), build_proxy(function)
    # zcpt.score restores everything whatever the proxy does.
    assert "own" in zcpt.score(net, batch, proxy)
    before = [tensor.clone() for tensor in (*net.parameters(), *net.buffers())]
    with pytest.raises(ProxyError, match=f"^proxy 'own' changes {changed}, on which later scores depend"):
        zcpt.score_mixtures(net, proxy, [net.initial_mixture()] * 2, batch)
    assert torch.equal(batch.images, IMAGES)
    assert not any(module.training for module in net.modules())
    if function is not replace_weights:
        assert all(map(torch.equal, before, (*net.parameters(), *net.buffers())))


def test_a_change_is_restored_when_the_proxy_fails_too() -> None:
    def change_and_fail(net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        use_training_mode(net, batch, mixture)
        leave_gradients(net, batch, mixture)
        raise ValueError

    with pytest.raises(ProxyError, match="failed on Supernet: ValueError"):
        score_by(change_and_fail)


def test_a_network_with_nan_is_unchanged() -> None:
    net = nn.Linear(8, 4)
    net.bias.data.fill_(torch.nan)
    assert zcpt.score_mixtures(net, build_proxy(lambda *arguments: 1.0), [None], BATCH).item() == 1


@contextmanager
def keep_settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
        assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_device().type == "cpu"
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "default type changed from torch.float32 to torch.float64"),
        (lambda: torch.set_default_dtype(torch.float16), "default type changed from torch.float32 to torch.float16"),
        (lambda: torch.set_default_device("meta"), "default device changed from cpu to meta"),
        (lambda: torch.set_num_threads(3), "number of threads changed from 1 to 3"),
        (lambda: torch.set_grad_enabled(True), "gradient mode changed from False to True"),
        (lambda: torch.use_deterministic_algorithms(True), "deterministic mode changed from False to True"),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_changed_setting_of_torch_is_restored_and_named(change: Callable[[], Any], named: str, fails: bool) -> None:
    def function(*arguments: Any) -> float:
        change()
        return 1 / 0 if fails else 1.0

    message = "failed on Supernet: ZeroDivisionError" if fails else f"leaves torch's {named}"
    with keep_settings(), pytest.raises(ProxyError, match=message):
        score_by(function)


def test_random_numbers_of_a_proxy_depend_on_the_batch_alone_and_the_callers_are_kept() -> None:
    def draw(*arguments: Any) -> float:
        return float(torch.rand(())) + random.random() + float(np.random.rand())

    net, proxy = build_supernet(), build_proxy(draw)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    once = zcpt.score_mixtures(net, proxy, [net.initial_mixture()] * 3, BATCH)
    assert torch.equal(torch.rand(3), expected)
    assert once.tolist() == [once[0].item()] * 3
    assert zcpt.score(net, BATCH, proxy)["own"] == once[0].item()
    assert zcpt.score(net, BATCH._replace(seed=6), proxy)["own"] != once[0].item()


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"min_batch": None}, "min_batch of proxy class Own must be a whole number of at least 1, not None"),
        ({"min_batch": "two"}, "not 'two'"),
        ({"min_batch": 2.5}, "not 2.5"),
        ({"min_batch": 0}, "not 0"),
        ({"min_batch": -3}, "not -3"),
        ({"min_batch": True}, "not True"),
        ({"min_batch": [2]}, r"not \[2\]"),
        ({"higher_is_better": None}, "higher_is_better of proxy class Own must be True or False, not None"),
        ({"higher_is_better": "yes"}, "not 'yes'"),
        ({"higher_is_better": 1}, "not 1"),
        ({"name": None}, "name of proxy class Own must be a text, not None"),
        ({"name": ""}, "not ''"),
        ({"name": 3}, "not 3"),
        ({"name": "a\nb"}, r"not 'a\\nb'"),
    ],
)
def test_a_wrong_attribute_is_named(attributes: dict[str, Any], complaint: str) -> None:
    proxy = build_proxy(lambda *arguments: 1.0, **attributes)
    for call in (
        lambda: zcpt.score(nn.Flatten(), BATCH, proxy),
        lambda: zcpt.score_mixtures(nn.Flatten(), proxy, [None], BATCH),
    ):
        with pytest.raises(ProxyError, match=complaint):
            call()


def test_attributes_may_be_of_numpy_and_of_foreign_classes() -> None:
    proxy = build_proxy(lambda *arguments: 1.0, min_batch=np.int64(2), higher_is_better=np.bool_(True))
    assert zcpt.score(nn.Flatten(), BATCH, proxy) == {"own": 1.0}

    class Foreign:
        name, higher_is_better = "foreign", True

        def score(self, net: nn.Module, batch: zcpt.Batch, mixture: object) -> float:
            return 7.0

    with pytest.raises(ProxyError, match="min_batch of proxy class Foreign must be .* not None"):
        zcpt.score_mixtures(nn.Flatten(), cast(Any, Foreign()), [None], BATCH)


def forget(kind: str, name: str) -> None:
    registry = zcpt.proxies._registry._PROXIES if kind == "proxy" else zcpt.proxies.aggregate._AGGREGATES
    registry._parts.pop(name, None)
    registry._origins.pop(name, None)


@pytest.mark.parametrize(
    "what",
    [3, "naswot", nn.Flatten, lambda net: 1.0, Naswot()],
    # A repr with an address would differ between the processes of pytest-xdist.
    ids=["number", "name", "module", "function", "object"],
)
def test_only_classes_of_proxies_are_registered(what: Any) -> None:
    with pytest.raises(ProxyError, match=r"cannot be registered as a proxy: derive a class from zcpt.Proxy"):
        zcpt.register_proxy(what)


def test_a_class_without_the_method_is_refused_when_it_is_registered() -> None:
    class Empty(Proxy):
        name, higher_is_better = "empty", True

    with pytest.raises(ProxyError, match="class Empty has no method score, which a proxy needs"):
        zcpt.register_proxy(Empty)
    assert "empty" not in zcpt.list_proxies()


def test_a_constructor_that_fails_is_named() -> None:
    class Demanding(Naswot):
        name = "demanding"

        def __init__(self, samples: int) -> None:
            self.samples = samples

    zcpt.register_proxy(Demanding)
    try:
        with pytest.raises(ProxyError, match=r"proxy 'demanding' cannot be created: Demanding\(\) raises TypeError"):
            zcpt.score(nn.Flatten(), BATCH, "demanding")
        with pytest.raises(ProxyError, match="Give every argument of its constructor a default"):
            zcpt.search("nasbench201", (IMAGES, BATCH.labels), proxy="demanding")
    finally:
        forget("proxy", "demanding")


def test_a_search_names_the_proxy_and_can_be_resumed_when_it_is_mended(pictures: TensorDataset, tmp_path: Any) -> None:
    calls: list[int] = []

    class Late(Proxy):
        name, higher_is_better = "late", True

        def score(self, net: nn.Module, batch: zcpt.Batch, mixture: Any) -> Any:
            calls.append(1)
            logits: Tensor = run_network(net, batch.images, mixture, clone_tensors(net))
            return None if len(calls) == 8 else logits.square().sum()

    zcpt.register_proxy(Late)
    options: dict[str, Any] = {
        "proxy": "late", "proposals": 1, "batch_size": 4, "channels": 4, "layers": 1, "run_dir": tmp_path / "run",
    }  # fmt: skip
    try:
        with pytest.raises(ProxyError, match="proxy 'late' returns None"):
            zcpt.search("nasbench201", pictures, num_classes=10, **options)
        assert len((tmp_path / "run" / "journal" / "proposal_000.jsonl").read_text().splitlines()) == 1
        zcpt.search("nasbench201", pictures, num_classes=10, resume=True, **options)
        assert zcpt.replay(tmp_path / "run", pictures).difference == ""
    finally:
        forget("proxy", "late")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (lambda scores: None, "returns None"),
        (lambda scores: scores, r"returns float64 array \[2, 3\]"),
        (lambda scores: np.ones(2), r"returns float64 array \[2\]"),
        (lambda scores: "abc", "returns 'abc'"),
        (lambda scores: np.array(["a", "b", "c"]), r"returns <U1 array \[3\]"),
        (lambda scores: np.ones(3) * 1j, r"returns complex128 array \[3\]"),
        (lambda scores: 1 / 0, "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_an_aggregate_of_a_user_gives_one_number_for_each_candidate(values: Any, complaint: str) -> None:
    class Own(Aggregate):
        name, component_names = "own_aggregate", ("naswot", "snip")

        def combine(self, scores: Any) -> Any:
            return values(scores)

    aggregate = Own([zcpt.get_proxy("naswot"), zcpt.get_proxy("snip")])
    table = {"naswot": [1.0, 2.0, 3.0], "snip": [3.0, 1.0, 2.0]}
    for method in (aggregate.compute_values, aggregate.compute_importances):
        with pytest.raises(ProxyError, match=f"aggregate 'own_aggregate' {complaint}"):
            method(table)


def test_lists_of_numbers_are_values_of_an_aggregate() -> None:
    class Listed(Aggregate):
        name, component_names = "listed", ("naswot",)

        def combine(self, scores: Any) -> Any:
            return [int(value) for value in scores[0]]

    assert Listed([zcpt.get_proxy("naswot")]).compute_values({"naswot": [1.0, 2.0]}) == [1.0, 2.0]


def test_an_error_of_a_users_network_is_named_and_one_of_ours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            raise ZeroDivisionError("nothing to pool")

    with pytest.raises(ProxyError, match=r"^network Net failed while proxy 'meco' .*: nothing to pool \(line \d+ of"):
        zcpt.score_mixtures(Net(nn.Conv2d(3, 4, 3)), "meco", [None], BATCH)
    monkeypatch.setattr("torch.nn.Conv2d.forward", raise_error(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        zcpt.score_mixtures(build_supernet(), "meco", [None], BATCH)


class _TooWide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.classifier = nn.Conv2d(3, 4, 3), nn.Linear(5, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.convolution(images).relu().mean((2, 3)))
        return logits


@pytest.mark.parametrize("proxy", ["naswot", "synflow", "macs", "jacob_cov", "near", "zico"])
@pytest.mark.parametrize("net", [_TooWide(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(5, 10))])
def test_score_names_an_error_of_a_network_with_its_cause(net: nn.Module, proxy: str) -> None:
    named = f"^network {type(net).__name__} failed while proxy '{proxy}' scored it: RuntimeError: mat1 and mat2 .*"
    with pytest.raises(ProxyError, match=named) as caught:
        zcpt.score(net, BATCH, proxy)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert zcpt.score(net, BATCH, ["params", proxy], on_error="skip").keys() == {"params"}


def test_score_layers_names_an_error_of_a_network() -> None:
    with pytest.raises(ProxyError, match="^network _TooWide failed while proxy 'snip' scored it: RuntimeError: mat1"):
        zcpt.score_layers(_TooWide(), BATCH, "snip")


def test_score_passes_an_error_of_our_own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.Conv2d.forward", raise_error(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        zcpt.score(build_supernet(), BATCH, "naswot")
