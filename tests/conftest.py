"""Shared fixtures: small data, small networks, and the folder of real tables and images."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import zcpt
from zcpt import Proxy
from zcpt.architecture import Architecture
from zcpt.scoring.boundary import check_unchanged
from zcpt.space import NetworkConfig, SearchSpace

torch.set_num_threads(1)  # the same sums in the same order on every machine


def restore_signals() -> None:
    """Handle signals as on a terminal: nohup and a shell's ``&`` start programs, and theirs, with some ignored."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, handler)


restore_signals()

ONE_SHOT = ("nasbench1shot1-1", "nasbench1shot1-2", "nasbench1shot1-3")
CHAINS = ("nasbench-macro", "proxyless")
ROBUST = ("darts-s1", "darts-s2", "darts-s3", "darts-s4")
LAYERS = {
    "darts": 3,
    **dict.fromkeys(ROBUST, 3),
    "nasbench201": 1,
    **dict.fromkeys(ONE_SHOT, 3),
    "nasbench-macro": 8,
    "proxyless": 21,
    "toy": 2,
}
SPACES = [*zcpt.list_spaces(), "toy"]
MORE = ("darts-s2", "proxyless")
"""With FEW one of each class of spaces: the other spaces differ from these only in their lists of candidates."""
FEW = ("nasbench201", "nasbench1shot1-2", "nasbench-macro", "toy")
"""A cell space, a cell space whose inputs are choices, a chain space, and a user's own space."""
PROXIES = zcpt.list_proxies()
"""The proxies of zcpt, without those that tests register."""
THREE_BY_THREE = re.compile("conv_?3x3|mb_k3|^conv$")
"""Matches the candidates with a 3x3 convolution of any space."""


def documented_blocks() -> list[str]:
    """Return the Python blocks of docs/extending.md."""
    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def documented_file() -> str:
    """Return the file that the blocks of docs/extending.md make together."""
    return "\n\n".join(documented_blocks())


def tiny_network_config(space: SearchSpace, **changes: Any) -> NetworkConfig:
    """Return the config of a space's smallest sensible network, for 8x8 RGB images of 10 classes."""
    values: dict[str, Any] = {"channels": 4, "layers": LAYERS[space.name], "image_size": (8, 8), **changes}
    return NetworkConfig(**values)


def random_architecture(space: SearchSpace, seed: int, without: str = "^$") -> Architecture:
    """Draw an architecture uniformly, choice by choice, from the candidates that do not match ``without``."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for choice in space.choices:
        candidates = [candidate for candidate in choice.selectable if not re.search(without, candidate)]
        picked = torch.randperm(len(candidates), generator=generator)[: choice.keep].sort().values
        kept[choice.name] = tuple(candidates[i] for i in picked)
    return space.architecture(kept)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects slow tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with the marker ``few_spaces`` as slow on all spaces but those in FEW and those that it names."""
    for item in items:
        marker = item.get_closest_marker("few_spaces")
        if marker and item.callspec.params["space"] not in (*FEW, *marker.args):  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave the modules and tests that are loaded now out of garbage collections, which else look at them each time."""
    gc.freeze()


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return zcpt.get_space(request.param)


@pytest.fixture(scope="session", autouse=True)
def documented_parts() -> ModuleType:
    """Import the file of docs/extending.md: its space 'toy' must fulfil the contract too."""
    module = ModuleType("own_parts")
    exec(documented_file(), module.__dict__)
    return module


@pytest.fixture(scope="session")
def pictures() -> TensorDataset:
    """Return forty random 8x8 RGB images of 10 classes."""
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(40, 3, 8, 8, generator=generator), torch.arange(40) % 10)


@pytest.fixture
def batch() -> zcpt.Batch:
    generator = torch.Generator().manual_seed(1)
    return zcpt.Batch(torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with real tables and images; tests that use it have the marker ``data``."""
    folder = os.environ.get("ZCPT_DATA")
    if not folder:
        pytest.skip("ZCPT_DATA is not set: it has to name the folder with the real tables and images")
    return Path(folder)


@zcpt.register_proxy
class Hashed(Proxy):
    """Cheap number that depends on weights, batch and mixture, as the score of a real proxy does."""

    name = "hashed"
    summary = ""
    higher_is_better = True
    min_batch = 1

    def score(self, net: nn.Module, batch: zcpt.Batch, mixture: zcpt.Mixture | None) -> float:
        seen = [p.detach().flatten()[:2].tolist() for p in islice(net.parameters(), 4)]
        text = repr((seen, batch.images.sum().item(), mixture and sorted(mixture.weights.items())))
        return zlib.crc32(text.encode()) / 2**32


TRUSTED: set[type[Proxy]] = {Hashed}
"""Proxies of tests that change nothing."""


@pytest.fixture(scope="session", autouse=True)
def trusted_proxies() -> Iterator[None]:
    """Skip the check that a user's proxy changes nothing for the proxies of searches: it takes up to half their time.

    tests/zcpt/scoring/test_boundary.py tests the check.
    """

    def check(proxy: Proxy, *parts: Any) -> AbstractContextManager[None]:
        return nullcontext() if type(proxy) in TRUSTED else check_unchanged(proxy, *parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zcpt.scoring.evaluator.check_unchanged", check)
        yield


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures for event files: they take half of the time of a small run, and other tests look at them."""
    monkeypatch.setattr("zcpt.event_files.encode_png", lambda figure: b"\x89PNG")


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Skip fsync, which protects against power cuts only: what a killed process has written is there without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield
