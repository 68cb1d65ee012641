"""Which GPU is whose."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zcpt import ConfigError
from zcpt.cli._options import pick_device
from zcpt.devices import resolve_device, select_local_gpu


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Simulate a machine with two GPUs; return the numbers of those that are selected."""
    numbers: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", numbers.append)
    return numbers


@pytest.mark.parametrize(("local", "number"), [(None, 0), ("0", 0), ("1", 1)])
def test_each_process_takes_the_gpu_of_its_number(
    local: str | None, number: int, taken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_RANK", local)
    select_local_gpu()
    assert taken == [number]


def test_more_processes_than_gpus_are_refused(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"process 2 of this machine has no GPU .* --nproc-per-node 2, or .* cuda:0"):
        select_local_gpu()
    assert taken == []


@pytest.mark.parametrize(("name", "own"), [(None, 1), ("cuda", 1), ("cuda:0", 0), ("cpu", 0)])
def test_a_device_that_was_named_is_that_of_all(
    name: str | None, own: int, taken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("zcpt.cli._options.resolve_device", torch.device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(pick_device(name)) == (name or "cuda")
    assert len(taken) == own


NO_DEVICES = "hpu privateuseone ipu mkldnn opengl opencl ideep hip ve fpga maia xla lazy vulkan meta gpu GPU tpu npu"


@pytest.mark.parametrize("name", [*NO_DEVICES.split(), "cuda:-1", "cuda:", ":0", "0", "cuda:9" + "9" * 20, "", " cpu"])
def test_a_device_that_cannot_be_used_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used .*: try --device cpu"):
        resolve_device(name)


def test_the_number_of_a_cpu_has_no_meaning() -> None:
    assert [str(resolve_device(name)) for name in ("cpu", "cpu:0", "cpu:3", "cpu:1000")] == ["cpu"] * 4
