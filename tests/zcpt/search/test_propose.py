"""Stage 1, observed through a proxy that records every score."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.search.conftest import run_small_search
from zcpt import Choice, ConfigError, ProxyError
from zcpt.search import ORDERS
from zcpt.search.orders import count_evaluations
from zcpt.search.propose import find_kept
from zcpt.space import SearchSpace


@pytest.mark.parametrize(
    ("name", "evaluations", "removed"),
    [
        ("darts", 240, "absent"),
        pytest.param("darts", 240, "present", marks=pytest.mark.slow),
        ("nasbench201", 30, "absent"),
        ("nasbench201", 30, "present"),
    ],
)
def test_published_number_of_evaluations_a_proposal(
    name: str, evaluations: int, removed: str, diary: Any, pictures: TensorDataset
) -> None:
    space = zcpt.get_space(name)
    run_small_search(space, pictures, proxy="diary", removed_inputs=removed)
    assert len(diary.shown) == evaluations == sum(sum(choice.round_sizes) for choice in space.choices)


@pytest.mark.few_spaces
@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("joint", [False, True])
def test_a_proposal_takes_the_computed_number_of_evaluations(
    space: SearchSpace, order: Any, joint: bool, diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: hash(repr(mixture.weights)) % 1000))
    run_small_search(space, pictures, proxy="diary", order=order, joint=joint)
    least, most = count_evaluations(space.choices, order, joint)
    assert least <= len(diary.shown) <= most


def test_the_most_important_operation_of_all_is_decided_first_and_by_the_survey(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("nasbench201")
    worth = {choice.name: 10.0 * (index % 4) + index + 1 for index, choice in enumerate(space.choices)}

    def value(mixture: Any) -> Any:  # removing the second candidate of an edge costs the edge's worth
        return -sum(w for name, w in worth.items() if mixture.weights[name][1] == 0)

    monkeypatch.setattr(diary, "value", staticmethod(value))
    result, recorder = run_small_search(space, pictures, proxy="diary", order="global-op-iter")
    settled = [d.choice for _, d in recorder.all if d.purpose == "settle"]
    assert settled == sorted(worth, key=worth.__getitem__, reverse=True)
    assert all(result.architecture[choice.name] == choice.candidates[1] for choice in space.choices)
    assert len(diary.shown) == 105


@pytest.mark.parametrize(("what", "batches"), [("step", 12), ("proposal", 2)])
def test_surveys_use_other_images_than_decisions(what: str, batches: int, diary: Any, pictures: TensorDataset) -> None:
    run_small_search(
        zcpt.get_space("nasbench201"), pictures, proxy="diary", order="global-edge-iter", scoring_batch=what
    )
    assert len({tuple(images) for _, images, _ in diary.shown}) == batches


def test_each_evaluation_removes_one_more_candidate_and_renormalises_nothing(
    diary: Any, pictures: TensorDataset
) -> None:
    space = zcpt.get_space("nasbench201")
    run_small_search(space, pictures, proxy="diary", order="fixed")
    for index, (_, _, mixture) in enumerate(diary.shown):
        step, candidate = divmod(index, 5)
        for position, choice in enumerate(space.choices):
            row = mixture.weights[choice.name]
            if position < step:
                assert sorted(row) == [0, 0, 0, 0, 1]
            elif position == step:
                assert row == tuple(0.0 if i == candidate else 0.2 for i in range(5))
            else:
                assert row == (0.2,) * 5


def test_the_candidate_whose_removal_costs_most_is_kept(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("nasbench201")
    wanted = {choice.name: (i * 2) % 5 for i, choice in enumerate(space.choices)}

    def value(mixture: Any) -> Any:  # low, that is bad, wherever a wanted candidate is missing
        return -sum(mixture.weights[name][index] == 0 for name, index in wanted.items())

    monkeypatch.setattr(diary, "value", staticmethod(value))
    result, _ = run_small_search(space, pictures, proxy="diary")
    assert {name: space.choices[0].candidates.index(result.architecture[name]) for name in wanted} == wanted
    monkeypatch.setattr(diary, "higher_is_better", False)
    result, _ = run_small_search(space, pictures, proxy="diary")
    assert all(space.choices[0].candidates.index(result.architecture[name]) != wanted[name] for name in wanted)


def test_decisions_in_any_order_belong_to_their_own_node(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("nasbench1shot1-3")
    wanted = {}
    for index, choice in enumerate(space.choices):
        names = choice.candidates
        wanted[choice.name] = tuple(names[(index + k) % len(names)] for k in range(choice.keep))

    def value(mixture: Any) -> Any:  # low, that is bad, wherever a wanted candidate is missing
        missing = 0
        for choice in space.choices:
            row = dict(zip(choice.candidates, mixture.weights[choice.name], strict=True))
            missing += sum(row[name] == 0 for name in wanted[choice.name])
        return -missing

    monkeypatch.setattr(diary, "value", staticmethod(value))
    _, recorder = run_small_search(space, pictures, proxy="diary", proposals=4)
    assert recorder.architectures == [space.architecture(wanted)] * 4
    last = {decision.choice: decision.kept for _, decision in recorder.all}
    assert {name: set(kept) for name, kept in last.items()} == {name: set(kept) for name, kept in wanted.items()}


@pytest.mark.parametrize("removed", ["absent", "present"])
def test_inputs_are_dropped_one_by_one_until_two_are_left(
    removed: str, diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = zcpt.get_space("darts-s3")
    worth = [5.0, 1.0, 4.0, 2.0, 3.0]

    def value(mixture: Any) -> Any:
        rows = [mixture.weights[choice.name] for choice in space.choices if choice.phase == 1]
        return sum(sum(w * x for w, x in zip(row, worth, strict=False)) for row in rows)

    monkeypatch.setattr(diary, "value", staticmethod(value))
    result, recorder = run_small_search(space, pictures, proxy="diary", removed_inputs=removed, order="fixed")
    assert result.architecture.kept["normal/node5/inputs"] == ("0", "2")
    assert result.architecture.kept["reduce/node3/inputs"] == ("0", "2")
    rounds = [d for _, d in recorder.all if d.choice == "normal/node5/inputs"]
    assert [d.candidates for d in rounds] == [("0", "1", "2", "3", "4"), ("0", "2", "3", "4"), ("0", "2", "4")]
    # Are the inputs removed before still in the mixture while the others are compared?
    second = [
        m.weights["normal/node5/inputs"] for _, _, m in diary.shown if m.weights["normal/node5/inputs"].count(0) >= 1
    ]
    assert any(row == (0, 0, 1, 1, 1) for row in second) == (removed == "absent")


def test_one_step_decides_both_cells_on_one_batch_one_after_the_other(diary: Any, pictures: TensorDataset) -> None:
    run_small_search(zcpt.get_space("darts"), pictures, proxy="diary", scoring_batch="step")
    batches = [images for _, images, _ in diary.shown]
    assert all(images == batches[0] for images in batches[:14])
    assert batches[14] != batches[0]
    decided = [sum(row.count(1.0) == 1 for row in m.weights.values()) for _, _, m in diary.shown[:15]]
    assert decided == [0] * 7 + [1] * 7 + [2]


@pytest.mark.parametrize(("what", "batches"), [("step", 6), ("proposal", 1)])
def test_scoring_batch_sets_the_number_of_batches(what: str, batches: int, diary: Any, pictures: TensorDataset) -> None:
    run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="diary", scoring_batch=what)
    assert len({tuple(images) for _, images, _ in diary.shown}) == batches


@pytest.mark.parametrize(("what", "draws"), [("proposal", 3), ("run", 1)])
def test_supernet_weights_sets_the_number_of_draws(what: str, draws: int, diary: Any, pictures: TensorDataset) -> None:
    run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="diary", supernet_weights=what, proposals=3)
    supernets = {tuple(weights) for weights, _, mixture in diary.shown if mixture is not None}
    assert len(supernets) == draws


def test_every_proposal_has_its_own_order_and_batch(diary: Any, pictures: TensorDataset) -> None:
    space = zcpt.get_space("nasbench201")
    _, recorder = run_small_search(space, pictures, proxy="diary", proposals=4)
    orders = [tuple(d.choice for p, d in recorder.all if p == proposal) for proposal in range(4)]
    assert len(set(orders)) == 4
    batches = [{tuple(images) for _, images, _ in diary.shown[30 * p : 30 * (p + 1)]} for p in range(4)]
    assert [len(seen) for seen in batches] == [1] * 4
    assert len(set.union(*batches)) == 4


@pytest.mark.parametrize(("draw", "starts"), [("proposal", 3), ("run", 1)])
def test_noise_of_the_architecture_parameters(draw: str, starts: int, diary: Any, pictures: TensorDataset) -> None:
    space = zcpt.get_space("nasbench201")
    run_small_search(space, pictures, proxy="diary", alpha_noise=1e-3, alpha_draw=draw, proposals=3, order="fixed")
    rows = {m.weights["node3/edge2"] for _, _, m in diary.shown[::30]}
    assert len(rows) == starts
    assert all(0.19 < weight < 0.21 for row in rows for weight in row)
    assert all(len(set(row)) == 5 for row in rows)


def test_a_step_without_any_finite_score_names_edge_proxy_and_remedy(
    diary: Any, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: -math.inf))
    space = zcpt.get_space("nasbench201")
    for _ in range(2):  # a resumed run fails in the same way
        with pytest.raises(ProxyError, match=r"no candidate of node1/edge0 .* proxy 'diary'.*--batch-size"):
            run_small_search(
                space, pictures, proxy="diary", order="fixed", run_dir=tmp_path / "r", resume=(tmp_path / "r").exists()
            )
    assert "-inf" in (tmp_path / "r" / "journal" / "proposal_000.jsonl").read_text()


def test_infinite_importances_decide_when_they_are_compared() -> None:
    choice = Choice("edge", ("a", "b", "c"))
    assert find_kept(choice, choice.candidates, [-1.0, math.inf, -2.0]) == ("b",)
    assert find_kept(choice, choice.candidates, [-math.inf] * 3) == ()


def test_ties_keep_the_first_operation_and_drop_the_last_input() -> None:
    edge, inputs = Choice("edge", ("a", "b")), Choice("inputs", ("0", "1", "2"), keep=2, start="one")
    assert find_kept(edge, edge.candidates, [1.0, 1.0]) == ("a",)
    assert find_kept(inputs, inputs.candidates, [1.0, 1.0, 1.0]) == ("0", "1")


def test_a_journal_of_another_search_is_refused(pictures: TensorDataset, tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    run_small_search(space, pictures, run_dir=tmp_path / "r", order="fixed")
    journal = tmp_path / "r" / "journal" / "proposal_000.jsonl"
    journal.write_text(journal.read_text().replace("node2/edge0", "node3/edge0"))
    with pytest.raises(ConfigError, match="it has choice 'node3/edge0' where this search has 'node2/edge0'"):
        run_small_search(space, pictures, run_dir=tmp_path / "r", order="fixed", resume=True)
