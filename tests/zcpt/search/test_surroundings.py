"""Settings of torch that the caller has made, and other threads, change no search and no score."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import tiny_network_config
from zcpt import ConfigError
from zcpt.search import Decision

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4
PROXIES = ("naswot", "snip")


@contextmanager
def use_default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "default type float64": lambda: use_default_type(torch.float64),
    "default type bfloat16": lambda: use_default_type(torch.bfloat16),
    "default device meta": lambda: torch.device("meta"),
}


class Scores(zcpt.Callback):
    """Records the scores of all decisions."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self.rows.append(decision.scores)


def search(proxy: str, images: torch.Tensor = IMAGES, **options: Any) -> list[tuple[float, ...]]:
    """Search with one small proposal, and return the scores of all decisions."""
    scores = Scores()
    settings: dict[str, Any] = {"proposals": 1, "channels": 4, "layers": 1, "batch_size": 4, **options}
    zcpt.search("nasbench201", (images, LABELS), proxy=proxy, callbacks=[scores], **settings)
    return scores.rows


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Any]]:
    return {proxy: search(proxy) for proxy in PROXIES}


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_settings_of_the_caller_change_no_search(name: str, proxy: str, expected: dict[str, list[Any]]) -> None:
    with SURROUNDINGS[name]():
        assert search(proxy) == expected[proxy]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("proxy", PROXIES)
def test_images_of_any_floating_point_type_can_be_searched_on(proxy: str, dtype: torch.dtype) -> None:
    images = IMAGES.to(dtype)
    assert search(proxy, images) == search(proxy, images.float())


def test_a_run_is_replayed_under_other_settings(tmp_path: Any) -> None:
    search("naswot", run_dir=tmp_path / "run")
    for name in ("autocast", "default type float64", "default device meta"):
        with SURROUNDINGS[name]():
            assert zcpt.replay(tmp_path / "run", (IMAGES, LABELS)).difference == ""


@pytest.mark.parametrize("proxy", ["naswot", "snip", "naswot-batch"])
@pytest.mark.parametrize("name", ["autocast", "inference mode", "gradients"])
def test_settings_of_the_caller_change_no_score(name: str, proxy: str) -> None:
    space = zcpt.get_space("nasbench201")
    torch.manual_seed(0)
    net = space.build_supernet(tiny_network_config(space))
    plain = zcpt.score_mixtures(net, proxy, [net.initial_mixture()], (IMAGES, LABELS))
    scores = zcpt.score(net, (IMAGES, LABELS), proxy)
    with SURROUNDINGS[name]():
        # Copies, so that they are tensors of the inference mode.
        batch = IMAGES.clone(), LABELS.clone()
        assert torch.equal(zcpt.score_mixtures(net, proxy, [net.initial_mixture()], batch), plain)
        assert zcpt.score(net, batch, proxy) == scores
        with pytest.raises(ConfigError, match="convert both to one type"):
            zcpt.score(net, (IMAGES.bfloat16(), LABELS), proxy)


def run_in_threads(jobs: Mapping[int, Callable[[], Any]]) -> dict[Any, Any]:
    results: dict[Any, Any] = {}

    def run(name: Any, job: Callable[[], Any]) -> None:
        results[name] = job()

    threads = [threading.Thread(target=run, args=item) for item in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_searches_in_threads_equal_those_one_after_the_other() -> None:
    expected = {seed: search("naswot", seed=seed) for seed in (0, 1, 2)}
    jobs = {seed: partial(search, "naswot", seed=seed) for seed in expected}
    assert run_in_threads(jobs) == expected


def test_threads_may_score_the_same_network() -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    names = ["naswot", "snip", "synflow", "tcet_snip", "near"]
    expected = zcpt.score(net, (IMAGES, LABELS), names)
    found = run_in_threads({number: lambda: zcpt.score(net, (IMAGES, LABELS), names) for number in range(4)})
    assert found == dict.fromkeys(range(4), expected)
