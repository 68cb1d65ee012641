"""Searches by whatever proxy: one that needs labels and gradients, several together, another one in stage 2."""

from __future__ import annotations

import json
import math
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import rankdata
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import MORE, tiny_network_config
from tests.zcpt.search.conftest import run_small_search
from tests.zcpt.search.test_run import content
from zcpt import ConfigError, Proxy, ProxyError
from zcpt.proxies import AUTO, clone_tensors, run_network
from zcpt.proxies._registry import _PROXIES
from zcpt.scoring import convert_to_importances
from zcpt.search import ORDERS, SearchConfig
from zcpt.search.validate import find_best
from zcpt.space import SearchSpace

TOGETHER = "log_rank:hashed+salted+slope"


@pytest.fixture(scope="module", autouse=True)
def proxies() -> Any:
    class Salted(Proxy):
        """Like 'hashed', with another number, and lower is better."""

        name, higher_is_better = "salted", False

        def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
            return zlib.crc32(f"salt{_PROXIES['hashed']().score(net, batch, mixture)}".encode()) / 2**32

    class Slope(Proxy):
        """Norm of the gradient of the loss by the first weights."""

        name, higher_is_better, min_batch = "slope", False, 3
        needs = frozenset({"images", "labels", "gradients"})

        def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
            tensors = clone_tensors(net)
            with torch.enable_grad():
                loss = F.cross_entropy(run_network(net, batch.images, mixture, tensors), batch.labels)
                first = next(iter(tensors.values()))
                (slope,) = torch.autograd.grad(loss, first, allow_unused=True)
            return 0.0 if slope is None else slope.norm().item()

    class Weight(Proxy):
        """Number of parameters, which no mixture changes."""

        name, higher_is_better, depends_on_mixture = "weight", True, False
        independence_reason = "removing a candidate changes no weight"

        def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> Any:
            return float(sum(p.numel() for p in net.parameters()))

    before = dict(_PROXIES._parts)
    for proxy in (Salted, Slope, Weight):
        zcpt.register_proxy(proxy)
    yield
    _PROXIES._parts.clear()
    _PROXIES._parts.update(before)


@pytest.mark.few_spaces(*MORE)
def test_a_proxy_of_labels_and_gradients_scores_operations_on_every_space(
    space: SearchSpace, batch: zcpt.Batch
) -> None:
    net, slope = space.build_supernet(tiny_network_config(space)), zcpt.get_proxy("slope")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    choice = next(choice for choice in reversed(space.choices) if choice.phase == 0)
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.selectable[:2]]
    scores = zcpt.score_mixtures(net, slope, removed, batch).tolist()
    assert all(map(math.isfinite, scores))
    assert len(set(scores)) == 2, "it sees the mixture"
    other = zcpt.Batch(batch.images, batch.labels.flip(0), batch.seed)
    assert zcpt.score_mixtures(net, slope, removed[:1], other).tolist() != scores[:1], "it sees the labels"
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_a_gradient_proxy_decides_by_the_largest_change(pictures: TensorDataset) -> None:
    _, recorder = run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="slope")
    for _, decision in recorder.all:
        assert decision.importance == decision.scores  # low is good, so what it rises without is needed
        assert decision.kept == (decision.candidates[decision.scores.index(max(decision.scores))],)
        assert decision.parts == {}


@pytest.fixture(scope="module")
def aggregate_run(tmp_path_factory: pytest.TempPathFactory, pictures: TensorDataset) -> Any:
    """Return a finished search by an aggregate of three proxies."""
    run = tmp_path_factory.mktemp("together") / "run"
    _, recorder = run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, **SEVERAL)
    return run, recorder


SEVERAL = {"proxy": TOGETHER, "proposals": 2, "validation_batches": 3, "validation_inits": 2}


def test_every_decision_follows_from_the_ranks_of_the_parts(aggregate_run: Any) -> None:
    directions = {"hashed": True, "salted": False, "slope": False}
    for _, decision in aggregate_run[1].all:
        assert list(decision.parts) == list(directions)
        expected = [0.0] * len(decision.candidates)
        for name, higher in directions.items():
            needed = convert_to_importances(decision.parts[name], higher)
            for index, rank in enumerate(rankdata(needed)):
                expected[index] += math.log(rank / len(needed))
        assert decision.importance == pytest.approx(expected)
        assert decision.scores == tuple(-value for value in decision.importance)
        assert decision.kept == (decision.candidates[expected.index(max(expected))],)


def test_the_journal_has_the_scores_of_the_parts_and_validation_ranks_the_candidates(aggregate_run: Any) -> None:
    run, recorder = aggregate_run
    lines = [json.loads(line) for line in (run / "journal" / "proposal_000.jsonl").read_text().splitlines()]
    first = next(decision for _, decision in recorder.all)
    assert lines[0]["parts"] == {name: list(scores) for name, scores in first.parts.items()}
    validation = [json.loads(line) for line in (run / "journal" / "validation.jsonl").read_text().splitlines()]
    aggregate = zcpt.get_aggregate(TOGETHER)
    for line in validation:
        assert line["scores"] == aggregate.compute_values(line["parts"])
    means = [sum(column) for column in zip(*(line["scores"] for line in validation), strict=True)]
    proposals = json.loads((run / "proposals.json").read_text())
    assert [proposal["chosen"] for proposal in proposals] == [mean == max(means) for mean in means]


@pytest.mark.parametrize("share", [0.4, 0.97])
def test_an_aggregate_search_resumes_from_any_point(
    share: float, aggregate_run: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    whole, run = aggregate_run[0], tmp_path / "run"
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("*.json", "genotype.txt", "journal"))
    shutil.copy(whole / "config.json", run)
    (run / "journal").mkdir()
    journal = sorted((whole / "journal").iterdir())
    left = int(share * sum(path.stat().st_size for path in journal))
    for path in journal:
        if left > 0:
            (run / "journal" / path.name).write_bytes(path.read_bytes()[:left])
        left -= path.stat().st_size
    run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, resume=True, **SEVERAL)
    assert content(run) == content(whole)


def test_replay_compares_the_scores_of_the_parts(aggregate_run: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    run = shutil.copytree(aggregate_run[0], tmp_path / "run")
    path = run / "journal" / "proposal_001.jsonl"
    first, *rest = path.read_text().splitlines()
    record = json.loads(first)
    record["parts"]["slope"][2] += 0.25  # which changes no rank that is written down
    path.write_text("\n".join([json.dumps(record), *rest]) + "\n")
    outcome = zcpt.replay(run, pictures)
    assert outcome.difference == ""
    assert outcome.largest_gap == pytest.approx(0.25), "all others are the same"


def test_a_part_without_finite_scores_is_an_error_with_all_scores(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: math.nan))
    with pytest.raises(ProxyError, match=r"finite score from proxy 'rank_sum:hashed\+diary'.*'diary': \[nan"):
        run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="rank_sum:hashed+diary")


def test_stage_2_may_have_a_proxy_of_its_own(diary: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    settings = {**SEVERAL, "proxy": "hashed"}
    run_small_search(space, pictures, run_dir=tmp_path / "one", **settings)
    result, _ = run_small_search(
        space, pictures, run_dir=tmp_path / "two", **settings, validation_proxy="rank_sum:weight+diary"
    )
    assert all(mixture is None for _, _, mixture in diary.shown)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one["proposal_000.jsonl"] == two["proposal_000.jsonl"]
    assert all(set(line["parts"]) == {"weight", "diary"} for line in two["validation.jsonl"])
    sizes = [space.network(c.architecture, channels=4, layers=1, num_classes=10) for c in result.candidates]
    counts = [sum(p.numel() for p in net.parameters()) for net in sizes]
    assert counts[[c.architecture for c in result.candidates].index(result.architecture)] == max(counts)


def test_the_direction_in_validation_is_that_of_its_own_proxy() -> None:
    scores = [[1.0], [2.0]]
    assert find_best(scores, SearchConfig(proxy="hashed", validation_proxy="salted")) == 0
    assert find_best(scores, SearchConfig(proxy="salted", validation_proxy="hashed")) == 1
    assert find_best(scores, SearchConfig(proxy="salted", validation_proxy="log_rank:salted+slope")) == 1


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"proxy": "weight"}, ProxyError, "'weight' cannot score operations: removing a candidate changes no weight"),
        ({"proxy": "log_rank:hashed+weight"}, ProxyError, "'weight' cannot score operations: .*--validation-proxy"),
        ({"proxy": "slope", "batch_size": 2}, ConfigError, "--batch-size 2 is too small: proxy 'slope' .* at least 3"),
        ({"proxy": TOGETHER, "batch_size": 2}, ConfigError, "--batch-size 2 is too small: .* at least 3"),
        (
            {"proxy": "hashed", "validation_proxy": "slope", "validation_batch_size": 2},
            ConfigError,
            "--validation-batch-size 2 is too small: proxy 'slope'",
        ),
        ({"proxy": "log_rank:hashed+slpe"}, ProxyError, "unknown proxy 'slpe': did you mean 'slope'"),
        ({"validation_proxy": "naswat"}, ProxyError, "unknown proxy 'naswat': did you mean 'naswot'"),
        ({"proxy": TOGETHER, "engine": "fast"}, ConfigError, "--engine fast cannot be used: .* not proxy 'hashed'"),
        ({"validation_proxy": "hashed", "max_memory": 1e9}, ConfigError, "only the fast engine supports --max-memory"),
    ],
)
def test_invalid_proxies_are_refused_before_anything_is_written(
    options: Any, error: Any, complaint: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    with pytest.raises(error, match=complaint):
        run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("order", [name for name, order in ORDERS.items() if order.rank is not None])
def test_ranks_within_an_edge_do_not_compare_edges(order: Any) -> None:
    with pytest.raises(ConfigError, match=f"--order {order} compares operations of different edges"):
        SearchConfig(proxy=TOGETHER, order=order)


def test_auto_is_recorded_as_the_proxy_that_it_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AUTO, "operations", "hashed")
    monkeypatch.setitem(AUTO, "validation", "weight")
    config = SearchConfig(proxy="auto")
    assert (config.proxy, config.validation_proxy) == ("hashed", "weight")
    assert SearchConfig(proxy="auto", validation_proxy="slope").validation_proxy == "slope"
    assert SearchConfig(validation_proxy="auto").validation_proxy == "weight"
    plain = SearchConfig()
    assert (plain.proxy, plain.validation_proxy) == ("naswot", "")
    assert plain.criterion("validation").name == "naswot"


def test_a_folder_without_a_validation_proxy_can_be_resumed(pictures: TensorDataset, tmp_path: Path) -> None:
    space, run = zcpt.get_space("nasbench201"), tmp_path / "run"
    run_small_search(space, pictures, run_dir=run, proxy="hashed")
    before, document = content(run), json.loads((run / "config.json").read_text())
    del document["search"]["validation_proxy"]
    (run / "config.json").write_text(json.dumps(document))
    run_small_search(space, pictures, run_dir=run, proxy="hashed", resume=True)
    assert {**content(run), "config.json": ""} == {**before, "config.json": ""}


def test_both_engines_are_named_where_both_score(pictures: TensorDataset, tmp_path: Path) -> None:
    run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=tmp_path / "run", proxy="log_rank:naswot+hashed")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["engine"] == "fast and plain"
