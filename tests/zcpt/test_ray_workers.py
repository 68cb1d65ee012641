"""Ray: tasks on a local cluster of two nodes, with the results of a single process, also after a node is killed."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import random_architecture
from tests.zcpt.test_workers import kill_first, refuse_three, square
from tests.zcpt.trials.values import Convolutions, Staged
from zcpt import ray_workers
from zcpt.batches import DatasetBatches
from zcpt.cli import main
from zcpt.ray_workers import RayPool, open_pool
from zcpt.tabular import read_table
from zcpt.tabular.proxies import ProxyOptions, measure_proxies
from zcpt.tabular.report import write_report
from zcpt.trials import Measurement, TrialsResult, run_trials
from zcpt.workers import WorkerPool

try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    ray = None

needs_ray = pytest.mark.skipif(ray is None, reason="the package of zcpt[ray] is not installed")
SMALL_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10


class TwoNodes:
    """A cluster on this machine, whose second node can be killed."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args=SMALL_NODE)
        self.add_node()

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return str(self.cluster.address)

    def add_node(self) -> None:
        """Start the second node. It claims to have a GPU."""
        self.node = self.cluster.add_node(**SMALL_NODE, num_gpus=1)

    def kill_node(self, marker: Path) -> None:
        """Kill the second node as soon as a file exists."""
        while not marker.exists():
            time.sleep(0.02)
        self.cluster.remove_node(self.node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_workers._keep_signal_handlers():
            try:
                nodes = TwoNodes()
            except Exception:  # a busy machine does not start a node within the half minute that Ray allows
                nodes = TwoNodes()
            # The pools of all tests share this connection, and so their processes: each imports torch once.
            with RayPool(nodes.address, None, "waits"):
                yield nodes
            assert not ray.is_initialized()
            nodes.cluster.shutdown()


def describe_task(_: int) -> tuple[str, int, str]:
    time.sleep(0.02)
    context = ray.get_runtime_context()
    return context.get_node_id(), torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES", "")


def kill_always(number: int) -> int:
    if number == 2:
        os._exit(9)
    return number


@needs_ray
def test_the_pool_returns_what_one_process_does(nodes: TwoNodes, tmp_path: Path, caplog: Any, monkeypatch: Any) -> None:
    caplog.set_level(logging.INFO)
    sizes: list[int] = []
    submit = RayPool._submit

    def record_size(self: RayPool, known: Any, part: Any, items: Any) -> None:
        sizes.append(len(part.indices))
        submit(self, known, part, items)

    monkeypatch.setattr(RayPool, "_submit", record_size)
    with open_pool(None, "counts", ray=nodes.address) as pool:
        assert (pool.size, pool.machines, pool.has_same_files) == (2, 2, False)
        assert "2 tasks at a time on the Ray cluster" in caplog.text
        assert pool.map(square, []) == []
        assert pool.map(square, range(300)) == [number * number for number in range(300)]
        # The first tasks find out how long an item takes; the last ones leave something for the others.
        assert sizes[0] == sizes[1] == 1
        assert max(sizes) == 50
        assert sizes[-1] == 1
        described = pool.map(describe_task, range(12))
        assert len({node for node, _, _ in described}) == 2
        assert {threads for _, threads, _ in described} == {1}
        with pytest.raises(zcpt.SpaceError, match=r"^three is refused\.$"):
            pool.map(refuse_three, range(9))
        with pytest.raises(zcpt.ConfigError, match="code that counts cannot be sent"):
            pool.map(partial(square, threading.Lock()), [1, 2])  # type: ignore[arg-type]
        assert pool.map(lambda number: number + 1, [1, 2]) == [2, 3]
        assert pool.map(partial(kill_first, tmp_path), range(4)) == [0, 1, 2, 3]
        assert "a Ray task that counts was killed (WorkerCrashedError): its work is repeated" in caplog.text
        monkeypatch.setattr(ray_workers, "get_versions", lambda: {"zcpt": "0.0", "torch": torch.__version__})
        with pytest.raises(zcpt.ConfigError, match=r"has zcpt .*, and this one 0\.0: install the same"):
            pool.map(square, [1])


@needs_ray
@pytest.mark.slow
def test_a_task_that_is_always_killed_ends_the_run(nodes: TwoNodes) -> None:
    with open_pool(None, "counts", ray=nodes.address) as pool, pytest.raises(zcpt.LostError, match="in 3 attempts"):
        pool.map(kill_always, range(4))


@needs_ray
@pytest.mark.slow
def test_a_task_for_a_gpu_takes_one(nodes: TwoNodes) -> None:
    with open_pool(None, "counts", ray=nodes.address, devices=["cpu", "cuda"]) as pool:
        assert pool.size == 1
        assert {gpu for _, _, gpu in pool.map(describe_task, range(3))} == {"0"}


@needs_ray
def test_proxies_are_measured_as_by_one_process(nodes: TwoNodes, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    texts = dict.fromkeys(space.format(random_architecture(space, seed)) for seed in range(12))
    table = tmp_path / "table.csv"
    table.write_text(
        "\n".join(["arch_str,c10_test_acc_200ep_pct", *(f"{text},{len(text) + i % 7}" for i, text in enumerate(texts))])
    )
    source = DatasetBatches(TensorDataset(*IMAGES), num_classes=10)
    options = ProxyOptions(samples=0, batch_size=8, channels=2, layers=1, resamples=20)
    pools: dict[str, Any] = {"here": {"workers": 1}, "there": {"ray": nodes.address}}
    for name, pool in pools.items():
        measure_proxies(read_table(table, space), source, ["synflow", "naswot"], tmp_path / name, options, **pool)
    here, there = [(tmp_path / name / "scores.csv").read_text() for name in ("here", "there")]
    assert here == there
    assert "2 processes on 2 machines" in write_report(tmp_path / "there").read_text()


def list_trials(result: TrialsResult) -> list[Any]:
    return [(t.number, t.architecture, t.reason, t.value, dict(t.report), dict(t.scores)) for t in result.trials]


class Slow(Convolutions):
    """Waits at the first call on the second node, for that to be killed."""

    def __init__(self, marker: Path, head: str) -> None:
        self.marker = marker
        self.head = head

    def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
        """Say that the node is at work, and wait."""
        if ray.is_initialized() and ray.get_runtime_context().get_node_id() != self.head and not self.marker.exists():
            self.marker.touch()
            time.sleep(60)
        return super().measure(architecture, seed)


SEARCH: dict[str, Any] = {"batches": IMAGES, "proxy": "synflow", "batch_size": 8, "channels": 2, "layers": 1}
SEARCH |= {"algorithm": "evolution", "pool": 4, "warmup": 6, "trials": 12, "trial_batch": 4}


@needs_ray
def test_checkpoints_travel_between_machines(nodes: TwoNodes, tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": "hierarchy", "initial": 4, "promote": "2,1", "parents": "2,1,1"}
    options |= {"trials": 16, "trial_batch": 3}
    whole = run_trials("nasbench201", Staged(), run_dir=tmp_path / "here", **options)
    result = run_trials("nasbench201", Staged(), run_dir=tmp_path / "there", ray=nodes.address, **options)
    assert list_trials(result) == list_trials(whole)
    folders = [tmp_path / name / "checkpoints" for name in ("here", "there")]
    kept = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert kept[0] == kept[1]


@needs_ray
def test_trials_are_the_same_on_a_cluster_whose_node_is_killed(nodes: TwoNodes, tmp_path: Path, caplog: Any) -> None:
    expected = list_trials(run_trials("nasbench201", Convolutions(), **SEARCH))
    marker = tmp_path / "at work"
    value = Slow(marker, nodes.cluster.head_node.node_id)
    killer = threading.Thread(target=nodes.kill_node, args=(marker,), daemon=True)
    killer.start()
    try:
        result = run_trials("nasbench201", value, ray=nodes.address, run_dir=tmp_path / "run", **SEARCH)
    finally:
        killer.join(20)
        nodes.add_node()
    assert list_trials(result) == expected
    assert "a Ray task that measures architectures was lost with its machine: its work is repeated" in caplog.text


@needs_ray
@pytest.mark.slow
def test_any_number_and_kind_of_workers_gives_the_same_trials(nodes: TwoNodes) -> None:
    pools: list[dict[str, Any]] = [{"workers": 1}, {"workers": 2}, {"workers": 3}, {"ray": nodes.address}]
    pools += [{"ray": nodes.address, "workers": 1}]
    first, *others = [list_trials(run_trials("nasbench201", Convolutions(), **SEARCH, **pool)) for pool in pools]
    assert all(other == first for other in others)


def test_without_ray_or_a_cluster_one_sentence_says_so(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    words = ["trials", "--space", "nasbench201", "--dataset", "digits", "--value", "proxy", "--proxy", "synflow"]
    words += ["--channels", "2", "--layers", "1", "--trials", "2", "--out", str(tmp_path / "run"), "--ray"]
    if ray is not None:
        if ray.is_initialized():
            with (
                pytest.raises(zcpt.ConfigError, match="connected to the cluster at "),
                open_pool(1, "", ray="127.0.0.1:1"),
            ):
                pass
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        assert main([*words, "127.0.0.1:1"]) == 2
        assert "cannot connect to a Ray cluster (Connection refused): start one" in capsys.readouterr().err
        assert main([*words, "nonsense"]) == 2
        assert "--ray nonsense: cannot connect to a Ray cluster (Invalid address" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*words, "auto"]) == 2
    assert "install it by \"pip install 'zcpt[ray]'\"" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_devices_of_tasks_have_no_number() -> None:
    ray_workers.check_devices(["cpu", "cuda"])
    with pytest.raises(zcpt.ConfigError, match="--device cuda:1 cannot be used with --ray"):
        ray_workers.check_devices(["cpu", "cuda:1"])


def test_without_an_address_processes_of_this_machine_work() -> None:
    with open_pool(None, "counts") as pool:
        assert isinstance(pool, WorkerPool)
        assert (pool.size, pool.machines) == (1, 1)
