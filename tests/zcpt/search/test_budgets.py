"""Budgets: what is proposed is always inside."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from darts_space.nasbench201 import NasBench201
from tests.conftest import FEW, LAYERS, MORE, ONE_SHOT, random_architecture
from tests.zcpt.search.conftest import run_small_search
from zcpt import ConfigError, InfeasibleError
from zcpt.latency import LatencyTable
from zcpt.search import ORDERS, configure
from zcpt.search.budgets import Budget, BudgetChecker, FeasibleSet
from zcpt.space import NetworkConfig, SearchSpace

PRICES = {
    "max_params": lambda block: block.cost.params,
    "max_macs": lambda block: block.cost.macs,
    "max_latency": lambda block: 1000 * (zlib.crc32(block.key.encode()) % 1000),  # nanoseconds
}


def small(space: SearchSpace) -> Any:
    """Return the network to be trained in these tests."""
    return NetworkConfig(4, LAYERS[space.name], image_size=(8, 8))


def limited(space: SearchSpace, pictures: TensorDataset, **options: Any) -> Any:
    size = {"supernet_weights": "run", "train_channels": 4, "train_layers": LAYERS[space.name], "channels": 4}
    return run_small_search(space, pictures, **{"proxy": "hashed", **size, **options})


def extreme(space: SearchSpace, price: Any, sign: int = 1) -> Any:
    """Return the least total price of a network, or with sign -1 the largest."""
    everything = {choice.name: choice.selectable for choice in space.choices}
    found = space.build_cheapest_finder(small(space), lambda block: sign * price(block))(everything)
    assert found is not None
    return sum(map(price, space.blocks(found, small(space))))


@pytest.fixture
def table(space: SearchSpace, tmp_path: Path) -> Any:
    """Return a made-up latency table of the space."""
    times = {block.key: PRICES["max_latency"](block) / 1e6 for block in space.all_blocks(small(space))}
    LatencyTable({"name": "nothing"}, times).write(tmp_path / "device.json")
    return str(tmp_path / "device.json")


@pytest.mark.few_spaces
def test_every_proposal_meets_twenty_random_budgets(space: SearchSpace, pictures: TensorDataset, table: Any) -> None:
    shape, generator = small(space), torch.Generator().manual_seed(0)
    bounds = {name: (extreme(space, price), extreme(space, price, -1)) for name, price in PRICES.items()}
    scale = {"max_params": 1, "max_macs": 1, "max_latency": 1e6}
    excluded = 0
    for index, share in enumerate([0.0, 0.0, 0.0, *torch.rand(17, generator=generator).tolist()]):
        name = list(PRICES)[index % 3]
        least, most = bounds[name]
        limit = (least + share * (most - least)) / scale[name]
        options = {name: limit, "seed": index, "order": ("random", "fixed", "reverse")[index // 3 % 3]}
        options |= {"latency_table": table} if name == "max_latency" else {}
        _, recorder = limited(space, pictures, **options)
        for architecture in recorder.architectures:
            has = sum(map(PRICES[name], space.blocks(architecture, shape))) / scale[name]
            assert least / scale[name] <= has <= limit
        excluded += sum(len(decision.excluded) for _, decision in recorder.all)
    assert excluded > 20


@pytest.mark.few_spaces
def test_all_budgets_are_met_at_once(space: SearchSpace, pictures: TensorDataset, table: Any) -> None:
    shape = small(space)
    for seed in range(3):
        model = random_architecture(space, seed)  # proves that the budgets can be met together
        limits = {}
        for name, price in PRICES.items():
            room = extreme(space, price, -1) - extreme(space, price)
            limits[name] = sum(map(price, space.blocks(model, shape))) + 0.1 * room
        given = {**limits, "max_latency": limits["max_latency"] / 1e6, "latency_table": table}
        _, recorder = limited(space, pictures, seed=seed, **given)
        for architecture in recorder.architectures:
            for name, price in PRICES.items():
                assert sum(map(price, space.blocks(architecture, shape))) <= limits[name]


@pytest.mark.parametrize("order", list(ORDERS))
def test_the_most_important_candidate_that_is_not_excluded_is_kept(order: Any, pictures: TensorDataset) -> None:
    space = zcpt.get_space("nasbench201")
    least, most = (extreme(space, PRICES["max_macs"], sign) for sign in (1, -1))
    _, recorder = limited(space, pictures, order=order, max_macs=(9 * least + most) / 10, proposals=3)
    made = [decision for _, decision in recorder.all if decision.purpose != "survey"]
    assert len(made) == 18
    assert any(decision.excluded for decision in made)
    for decision in made:
        worth = dict(zip(decision.candidates, decision.importance, strict=True))
        left = [candidate for candidate in decision.candidates if candidate not in decision.excluded]
        assert decision.kept == (max(left, key=worth.__getitem__),)


def test_an_input_whose_removal_leaves_nothing_feasible_stays(pictures: TensorDataset) -> None:
    space = zcpt.get_space("darts-s3")
    least = extreme(space, PRICES["max_macs"])
    found = []
    for seed in range(6):
        _, recorder = limited(space, pictures, max_macs=1.3 * least, seed=seed)
        for _, decision in recorder.all:
            if decision.choice.endswith("/inputs"):
                assert set(decision.excluded) <= set(decision.kept)
                found += decision.excluded
    assert found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("max_params", marks=pytest.mark.few_spaces),
        pytest.param("max_macs", marks=pytest.mark.few_spaces(*MORE)),
    ],
)
def test_an_impossible_budget_is_refused_before_anything_is_scored_or_written(
    space: SearchSpace, name: str, pictures: TensorDataset, diary: Any, tmp_path: Path
) -> None:
    least = extreme(space, PRICES[name])
    with pytest.raises(InfeasibleError) as caught:
        limited(space, pictures, proxy="diary", run_dir=tmp_path / "run", **{name: least - 1})
    sentence = str(caught.value)
    assert f"have at least {least:,} " in sentence
    assert f"--{name.replace('_', '-')} " in sentence
    assert not diary.shown
    assert not list(tmp_path.iterdir())
    assert zcpt.options.parse_number(find_group(r"^--\S+ (\S+) cannot be met", sentence)) == least - 1
    advice = find_group(r"Give --max-\w+ (\S+) or more", sentence)
    limited(space, pictures, **{name: zcpt.options.parse_number(advice)})


def test_budgets_that_cannot_be_met_together_are_refused() -> None:
    space = zcpt.get_space("nasbench201")
    prices = [PRICES["max_macs"], lambda block: 0 if block.cost.macs else 10**6]
    least = [extreme(space, price) for price in prices]
    budgets = [Budget("max_macs", "MACs", least[0], prices[0]), Budget("max_latency", "ms", least[1], prices[1])]
    for budget in budgets:
        BudgetChecker(space, small(space), [budget])
    with pytest.raises(InfeasibleError) as caught:
        BudgetChecker(space, small(space), budgets)
    sentence = str(caught.value)
    assert f"none was found that meets --max-macs {least[0]} with --max-latency 1 ms"[:-3] in sentence
    assert f"though each budget can be met alone (they have at least {least[0]:,} MACs, at least " in sentence


def find_group(pattern: str, text: str) -> str:
    """Return the first group of a match."""
    match = re.search(pattern, text)
    assert match, text
    return str(match[1])


def exact(space: SearchSpace, architecture: Any, names: Any = tuple(PRICES)) -> Any:
    """Return budgets that an architecture meets exactly."""
    blocks = list(space.blocks(architecture, small(space)))
    return [Budget(name, "units", sum(map(PRICES[name], blocks)), PRICES[name]) for name in names]


def test_budgets_that_one_architecture_meets_exactly_can_be_met_together(space: SearchSpace) -> None:
    for seed in range(5):
        bounds = BudgetChecker(space, small(space), exact(space, random_architecture(space, seed)))
        assert bounds.example is not None
        assert bounds.is_feasible(bounds.example)


@pytest.mark.parametrize("names", [("max_macs", "max_latency"), tuple(PRICES)])
def test_several_budgets_find_a_feasible_architecture_in_any_allowed_subset(names: Any) -> None:
    space, generator = zcpt.get_space("nasbench201"), torch.Generator().manual_seed(0)
    cells = [random_architecture(space, seed) for seed in range(400)]
    costs = {cell: tuple(budget.limit for budget in exact(space, cell, names)) for cell in cells}
    dominated = {a for a in cells for b in cells if costs[a] != costs[b] and all(map(int.__ge__, costs[a], costs[b]))}
    answers = set()
    for model in [cell for cell in cells if cell not in dominated][:5]:
        bounds = BudgetChecker(space, small(space), exact(space, model, names))
        assert bounds.example is not None
        assert bounds.is_feasible(bounds.example)
        inside = [cell for cell in cells if bounds.is_feasible(cell)]
        for _ in range(40):
            allowed = {
                c.name: tuple(r for r in c.selectable if torch.rand(1, generator=generator) < 0.8)
                for c in space.choices
            }
            if all(allowed.values()):
                found = bounds.find_feasible(allowed)
                answers.add(found is None)
                if found is None:
                    assert not any(all(cell[name] in allowed[name] for name in allowed) for cell in inside)
                else:
                    assert bounds.is_feasible(found)
                    assert all(found[name] in allowed[name] for name in allowed)
    assert answers == {True, False}


def preferring(space: SearchSpace, wanted: Any) -> Any:
    """Return a proxy value that is lower for every wanted candidate that is missing."""

    def value(mixture: Any) -> Any:
        if mixture is None:  # a discrete network: any proposal will do
            return 0.0
        rows = ((name, mixture.choices[name].position(candidate)) for name in wanted for candidate in wanted[name])
        return -sum(mixture.weights[name][position] == 0 for name, position in rows)

    return staticmethod(value)


def test_the_mobile_setting_keeps_600_million_macs(
    pictures: TensorDataset, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, mobile = zcpt.get_space("darts"), NetworkConfig(48, 14, 1000, 3, (224, 224))
    costly = {choice.name: ("sep_conv_5x5",) for choice in space.choices if choice.keep == 1}
    monkeypatch.setattr(diary, "value", preferring(space, costly))
    options: dict[str, Any] = {
        "proxy": "diary",
        "proposals": 1,
        "channels": 4,
        "layers": 3,
        "num_classes": 10,
        "batch_size": 4,
    }
    options |= {"validation_batches": 1, "validation_batch_size": 4, "supernet_weights": "run"}
    result = zcpt.search(
        space,
        pictures,
        max_macs=600e6,
        train_channels=48,
        train_layers=14,
        train_image_size=224,
        train_classes=1000,
        **options,
    )
    macs = [space.cost(candidate.architecture, mobile).macs for candidate in result.candidates]
    assert max(macs) <= 600e6
    assert min(macs) > 550e6  # the preferred, costly candidates fill the budget
    free = zcpt.search(space, pictures, **options)
    assert all(space.cost(candidate.architecture, mobile).macs > 600e6 for candidate in free.candidates)


def test_classes_of_the_network_to_be_trained_count(pictures: TensorDataset) -> None:
    """The budget is feasible with a classifier for 10 classes and infeasible with one for 1000."""
    space = zcpt.get_space("darts")
    light = random_architecture(space, 0, "conv")
    least = space.cost(light, NetworkConfig(48, 14, 10)).params
    limits = {"max_params": least, "train_channels": 48, "train_layers": 14}
    limited(space, pictures, **limits)
    with pytest.raises(InfeasibleError, match="--max-params .* and 1000 classes have at least 2,413,240 parameters"):
        limited(space, pictures, train_classes=1000, **limits)


@pytest.mark.parametrize(
    "name", ["nasbench1shot1-2", *(pytest.param(n, marks=pytest.mark.slow) for n in ONE_SHOT if n not in FEW)]
)
def test_valid_only_proposes_only_from_the_published_list(
    name: Any, pictures: TensorDataset, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space(name)
    drawn = (random_architecture(space, seed) for seed in range(300))
    unlisted = next(architecture for architecture in drawn if not space.is_valid(architecture))
    monkeypatch.setattr(diary, "value", preferring(space, unlisted.kept))
    assert limited(space, pictures, proxy="diary")[0].architecture == unlisted
    _, listed = limited(space, pictures, proxy="diary", proposals=8, valid_only=True)
    assert all(map(space.is_valid, listed.architectures))
    _, listed = limited(space, pictures, proposals=8, valid_only=True)
    assert all(map(space.is_valid, listed.architectures))
    least = extreme(space, PRICES["max_macs"])
    _, both = limited(space, pictures, proposals=4, valid_only=True, max_macs=3 * least)
    for architecture in both.architectures:
        assert space.is_valid(architecture)
        assert space.cost(architecture, small(space)).macs <= 3 * least


@pytest.mark.parametrize(
    ("name", "share"),
    [("darts-s3", 0.4), *(("nasbench1shot1-2", share) for share in (0.0, 0.4, 0.9))],
)
def test_a_search_with_budgets_that_was_stopped_ends_the_same(
    name: str, share: float, pictures: TensorDataset, tmp_path: Path
) -> None:
    space = zcpt.get_space(name)
    limits = {key: 1.5 * extreme(space, PRICES[key]) for key in ("max_params", "max_macs")}
    run = partial(limited, space, pictures, proposals=2, run_dir=tmp_path / "run", **limits)
    whole, _ = run()
    journal = tmp_path / "run" / "journal" / "proposal_001.jsonl"
    strip = [{**json.loads(line), "seconds": 0} for line in journal.read_text().splitlines()]
    assert any(line["excluded"] for line in strip)
    shutil.rmtree(tmp_path / "run" / "journal" / "validation.jsonl", ignore_errors=True)
    content = journal.read_bytes()
    journal.write_bytes(content[: int(share * len(content))])
    (tmp_path / "run" / "journal" / "validation.jsonl").unlink(missing_ok=True)
    assert run(resume=True)[0] == whole
    assert [{**json.loads(line), "seconds": 0} for line in journal.read_text().splitlines()] == strip


@pytest.fixture
def latency_run(pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a search with a latency table whose path is relative, and what makes another table in its place."""
    space, path = zcpt.get_space("nasbench201"), tmp_path / "device.json"
    keys = sorted({block.key for block in space.all_blocks(small(space))})

    def write(factor: Any) -> None:
        LatencyTable({}, {key: factor * (1 + index % 7) for index, key in enumerate(keys)}).write(path)

    write(1.0)
    monkeypatch.chdir(tmp_path)
    options = {"max_latency": 100, "latency_table": "device.json", "run_dir": tmp_path / "run", "proposals": 2}
    return partial(limited, space, pictures, **options), write


def test_a_run_folder_has_its_latency_table_and_needs_no_other(
    latency_run: Any, pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = latency_run
    whole, recorder = run()
    assert any(decision.excluded for _, decision in recorder.all)
    assert (tmp_path / "run" / "latency.json").read_text() == (tmp_path / "device.json").read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = zcpt.replay(tmp_path / "run", pictures)
    assert (again.difference, again.decisions) == ("", 12)
    for table in (tmp_path / "device.json", "device.json"):  # there, under another name, and nowhere
        assert run(resume=True, latency_table=table)[0].architecture == whole.architecture


@pytest.mark.parametrize("factor", [1.01, 50.0])
def test_a_changed_latency_table_is_named(
    factor: float, latency_run: Any, pictures: TensorDataset, tmp_path: Path
) -> None:
    """With 50 times the latencies the budget is infeasible, but the error names the table that has changed."""
    run, write = latency_run
    run()
    write(factor)
    assert zcpt.replay(tmp_path / "run", pictures).difference == ""
    with pytest.raises(ConfigError, match=r"run cannot be resumed: the latency table has other numbers than"):
        run(resume=True)
    shutil.copy(tmp_path / "device.json", tmp_path / "run" / "latency.json")
    assert zcpt.replay(tmp_path / "run", pictures).difference.startswith("the latency table has other numbers than")


def test_a_latency_table_may_be_a_path(latency_run: Any, tmp_path: Path) -> None:
    run, _ = latency_run
    assert run(latency_table=tmp_path / "device.json")[0].config.latency_table == str(tmp_path / "device.json")


@pytest.mark.parametrize("name", ["nasbench-macro", "darts"])
def test_a_forced_candidate_is_kept_whatever_its_score(
    name: str, pictures: TensorDataset, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest feasible budget leaves no free choice on the chain, and none at DARTS' inputs with two free ones."""
    space = zcpt.get_space(name)
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: 0.0))
    most_light = {"max_macs": extreme(space, PRICES["max_macs"]), "proxy": "diary", "order": "fixed"}
    _, calm = limited(space, pictures, **most_light)
    forced = {d.choice for _, d in calm.all if len(d.candidates) - len(d.excluded) == 1}
    free = {choice.name for choice in space.choices} - forced

    def value(mixture: Any) -> Any:
        undecided = mixture and {n for n, row in mixture.weights.items() if sum(w > 0 for w in row) > 1}
        return 0.0 if mixture is None or undecided & free else float("nan")

    monkeypatch.setattr(diary, "value", staticmethod(value))
    _, recorder = limited(space, pictures, **most_light)
    assert recorder.architectures == calm.architectures


def test_a_block_that_the_table_lacks_is_named(pictures: TensorDataset, tmp_path: Path) -> None:
    space, path = zcpt.get_space("nasbench201"), tmp_path / "device.json"
    times = {block.key: 1.0 for block in space.all_blocks(small(space))}
    LatencyTable({}, times).write(path)
    with pytest.raises(
        ConfigError, match=r"lacks 'stem 3->5 .* at 8x8'.*zcpt latency --space nasbench201 --channels 5"
    ):
        limited(space, pictures, max_latency=1.0, latency_table=str(path), train_channels=5)


def test_a_feasible_architecture_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several budgets the search may give up where a feasible architecture was found before."""
    space = zcpt.get_space("nasbench201")
    bounds = BudgetChecker(space, small(space), [Budget("max_macs", "MACs", 1e9, PRICES["max_macs"])])
    monkeypatch.setattr(bounds, "find_feasible", lambda allowed: None)
    feasible = FeasibleSet(bounds, space.choices)
    for choice in space.choices:
        excluded = feasible.find_excluded(choice, choice.selectable)
        assert len(excluded) == 4
        (left,) = set(choice.selectable) - set(excluded)
        feasible.restrict(choice, (left,))


def test_a_space_whose_cheapest_architecture_may_be_invalid_is_searched_correctly(
    pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(NasBench201):
        """Space whose cheapest cell is invalid and whose ``build_cheapest_finder`` ignores validity."""

        def is_valid(self, architecture: Any) -> Any:
            return architecture["node1/edge0"] != "none"

    _, recorder = limited(Picky(), pictures, proposals=4, valid_only=True)
    assert all(map(Picky().is_valid, recorder.architectures))
    monkeypatch.setattr(Picky, "is_valid", lambda self, architecture: False)
    with pytest.raises(InfeasibleError, match=r"--valid-only cannot be met: no valid networks of space .* were found"):
        limited(Picky(), pictures, valid_only=True)
    with pytest.raises(InfeasibleError, match=r"none was found that meets --max-macs 1G \(they have at least \d"):
        limited(Picky(), pictures, valid_only=True, max_macs=1e9)


def test_without_budgets_nothing_is_excluded() -> None:
    space = zcpt.get_space("darts")
    feasible = FeasibleSet(BudgetChecker(space, small(space)), space.choices)
    assert all(feasible.find_excluded(choice, choice.selectable) == () for choice in space.choices)


def test_valid_only_is_refused_where_the_published_list_has_everything() -> None:
    assert {name for name in zcpt.list_spaces() if zcpt.get_space(name).has_invalid_architectures} == {*ONE_SHOT}
    with pytest.raises(ConfigError, match="'darts' has no published list that leaves architectures out: leave out"):
        configure(zcpt.get_space("darts"), valid_only=True)
