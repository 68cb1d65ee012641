"""Runs of trials: the winner, kills and resume, processes, failures, budgets and replay."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import random_architecture
from tests.zcpt.trials.values import Convolutions, Failing, Interrupted, KillsOnce, Staged
from zcpt.proxies import get_aggregate
from zcpt.trials import (
    Measurement,
    NetworkScores,
    ScoreTable,
    TrialsCallback,
    TrialsResult,
    configure_trials,
    list_algorithms,
    plan_trials,
    read_trials_config,
    replay_trials,
    run_trials,
)

SPACE = zcpt.get_space("nasbench201")
IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10
SMALL: dict[str, Any] = {"batches": IMAGES, "proxy": "hashed", "batch_size": 8, "channels": 2, "layers": 1}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> ScoreTable:
    """Return scores of all cells by a proxy: a tenth of them has none."""
    rows = ["index,architecture,accuracy,hashed"]
    names = [choice.name for choice in SPACE.choices]
    generator = torch.Generator().manual_seed(0)
    for index, kept in enumerate(product(*(choice.selectable for choice in SPACE.choices))):
        cell = SPACE.architecture({name: (candidate,) for name, candidate in zip(names, kept, strict=True)})
        value = Convolutions().measure(cell, 0).value + float(torch.randn((), generator=generator))
        rows.append(f"{index},{SPACE.format(cell)},0,{value if index % 10 else 'nan'}")
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    path.write_text("\n".join(rows) + "\n")
    return ScoreTable(path, SPACE, zcpt.get_proxy("hashed"))


WHOLE = [name for name in list_algorithms() if name != "hierarchy"]
"""Algorithms whose trials are whole measurements."""


def list_trials(result: TrialsResult) -> list[Any]:
    return [(t.number, t.architecture, t.reason, t.value, dict(t.report), dict(t.scores)) for t in result.trials]


def test_the_best_value_wins_and_the_report_does_not_guide() -> None:
    result = run_trials("nasbench201", Convolutions(), algorithm="random", trials=30)
    assert [trial.number for trial in result.trials] == list(range(30))
    assert len({trial.architecture for trial in result.trials}) == 30
    best = max(result.trials, key=lambda trial: trial.value)
    assert result.architecture == best.architecture == result.best.architecture
    assert result.best.report["test"] == min(trial.report["test"] for trial in result.trials)
    assert f"in trial {best.number}" in repr(result)
    assert zcpt.run_trials is run_trials


def test_of_equal_values_the_earlier_wins() -> None:
    class Constant(Convolutions):
        def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
            return Measurement(1.0)

    assert run_trials(SPACE, Constant(), trials=5).best.number == 0


def test_each_trial_has_a_seed_of_its_own_that_depends_on_that_of_the_run() -> None:
    class Seeds(Convolutions):
        def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
            return Measurement(float(seed % 1000003))

    def list_seeds(seed: int) -> list[float]:
        return [trial.value for trial in run_trials(SPACE, Seeds(), algorithm="random", trials=4, seed=seed).trials]

    assert len(set(list_seeds(0))) == 4
    assert list_seeds(0) == list_seeds(0)
    assert not set(list_seeds(0)) & set(list_seeds(1))


@pytest.mark.parametrize("algorithm", WHOLE)
def test_a_stopped_run_is_resumed_with_the_same_trials(algorithm: str, scores: ScoreTable, tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": algorithm, "proxy": "hashed", "warmup": 12, "move": True, "trials": 14}
    options |= {"scores": scores, "trial_batch": 3, **({"pool": 5} if algorithm == "evolution" else {})}
    whole = run_trials(SPACE, Convolutions(), run_dir=tmp_path / "whole", **options)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_trials(SPACE, Interrupted(7), run_dir=run, **options)
    journal = run / "journal" / "trials.jsonl"
    assert len(journal.read_text().splitlines()) == 7
    journal.write_text(journal.read_text() + '{"trial": 7, "archi')  # a kill cuts a line short
    result = run_trials(SPACE, Convolutions(), run_dir=run, resume=True, **options)
    assert list_trials(result) == list_trials(whole)
    for name in ("architecture.json", "genotype.txt"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_stages_go_on_from_checkpoints_and_are_resumed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": "hierarchy", "initial": 4, "promote": "2,1", "parents": "2,1,1"}
    options |= {"trials": 16, "trial_batch": 3}
    whole = run_trials(SPACE, Staged(), **options)
    shares = [trial.share for trial in whole.trials]
    assert sorted(set(shares)) == [1 / 3, 2 / 3, 1.0]
    assert whole.best.share == 1.0
    assert whole.best.value == max(trial.value for trial in whole.trials if trial.share == 1.0)
    # The value counts the checkpoints that it went on from.
    assert [trial.report["stages"] for trial in whole.trials] == [pytest.approx(3 * share) for share in shares]
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_trials(SPACE, Staged(11), run_dir=run, **options)
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert kept
    assert list_trials(run_trials(SPACE, Staged(), run_dir=run, resume=True, **options)) == list_trials(whole)
    assert {path.name for path in (run / "checkpoints").iterdir()} != kept
    with pytest.raises(zcpt.ConfigError, match="'hierarchy' trains networks in stages: give --value train:RECIPE"):
        run_trials(SPACE, Convolutions(), **options)


@pytest.mark.parametrize("algorithm", ["evolution", "reinforce"])
def test_a_run_can_be_extended(algorithm: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": algorithm, "trial_batch": 4}
    whole = run_trials(SPACE, Convolutions(), trials=17, **options)
    run_trials(SPACE, Convolutions(), trials=6, run_dir=tmp_path / "a", **options)
    with pytest.raises(zcpt.ConfigError, match="has --trials 6 already: give 6 or more"):
        run_trials(SPACE, Convolutions(), trials=5, run_dir=tmp_path / "a", resume=True, **options)
    more = run_trials(SPACE, Convolutions(), trials=17, run_dir=tmp_path / "a", resume=True, **options)
    assert list_trials(more) == list_trials(whole)
    assert read_trials_config(tmp_path / "a")["trials"]["trials"] == 17


def test_networks_are_scored_once_and_their_scores_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {**SMALL, "warmup": 6, "move": True, "trials": 8, "run_dir": tmp_path / "a"}
    options |= {"algorithm": "random", "move_samples": 3}
    whole = run_trials(SPACE, "proxy", **options)
    lines = (tmp_path / "a" / "journal" / "scores.jsonl").read_text().splitlines()
    texts = [json.loads(line)["architecture"] for line in lines]
    assert len(texts) == len(set(texts)) > 8
    assert [trial.value for trial in whole.trials] == [trial.scores["hashed"] for trial in whole.trials]

    def refuse(self: NetworkScores, architecture: zcpt.Architecture) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(NetworkScores, "compute", refuse)
    assert list_trials(run_trials(SPACE, "proxy", resume=True, **options)) == list_trials(whole)


@pytest.mark.slow
def test_two_processes_give_the_trials_of_one_also_if_one_is_killed(tmp_path: Path) -> None:
    options: dict[str, Any] = {**SMALL, "trials": 6, "trial_batch": 3, "warmup": 4, "algorithm": "random"}
    value = KillsOnce(tmp_path / "killed")
    two = run_trials(SPACE, value, workers=2, **options)
    assert value.marker.exists()
    assert list_trials(two) == list_trials(run_trials(SPACE, Convolutions(), **options))


def test_failed_trials_are_recorded_and_never_win(tmp_path: Path) -> None:
    result = run_trials(SPACE, Failing(0.6), algorithm="random", trials=20, run_dir=tmp_path / "a")
    failures = {trial.failure for trial in result.trials}
    assert failures == {"", "it cannot be built.", "the value is nan", "the value is inf"}
    assert all((trial.value == -float("inf")) == bool(trial.failure) for trial in result.trials)
    assert not result.best.failure
    again = run_trials(SPACE, Failing(0.6), algorithm="random", trials=20, run_dir=tmp_path / "a", resume=True)
    assert list_trials(again) == list_trials(result)


def test_if_all_fail_the_error_names_value_and_proxy() -> None:
    with pytest.raises(zcpt.ConfigError, match="none of 3 trials got a finite value by convolutions: .*--value"):
        run_trials(SPACE, Failing(1.0), trials=3)
    with pytest.raises(zcpt.ProxyError, match="none of 3 trials got a finite value by proxy 'nothing': .*--proxy"):
        run_trials(SPACE, "proxy", trials=3, **{**SMALL, "proxy": "nothing"})
    with pytest.raises(zcpt.ProxyError, match="'nothing' gave none of 5 architectures of the warm-up a finite score"):
        run_trials(SPACE, Convolutions(), trials=3, warmup=5, **{**SMALL, "proxy": "nothing"})


@zcpt.register_proxy
class Nothing(zcpt.Proxy):
    """Has no score for any network."""

    name, summary, higher_is_better = "nothing", "", True

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        return float("nan")


def test_every_architecture_is_within_the_budgets(scores: ScoreTable) -> None:
    for algorithm in WHOLE:
        options: dict[str, Any] = {"algorithm": algorithm, "max_params": 400e3, "trials": 10, "trial_batch": 2}
        result = run_trials(SPACE, Convolutions(), scores=scores, proxy="hashed", warmup=8, move=True, **options)
        config = zcpt.NetworkConfig(16, 5)
        assert all(SPACE.cost(trial.architecture, config).params <= 400e3 for trial in result.trials)
    with pytest.raises(zcpt.InfeasibleError, match="--max-params 10 cannot be met"):
        run_trials(SPACE, Convolutions(), max_params=10)


def test_trials_take_only_the_architectures_that_are_given() -> None:
    pool = list(dict.fromkeys(random_architecture(SPACE, seed) for seed in range(8)))
    result = run_trials(SPACE, Convolutions(), architectures=pool, algorithm="random", trials=len(pool))
    assert {trial.architecture for trial in result.trials} == set(pool)


def test_an_aggregate_compares_all_trials_with_each_other() -> None:
    options: dict[str, Any] = {**SMALL, "proxy": "log_rank:params+macs", "trials": 9, "trial_batch": 2, "pool": 4}
    result = run_trials(SPACE, "proxy", algorithm="evolution", **options)
    columns = {name: [trial.scores[name] for trial in result.trials] for name in ("params", "macs")}
    assert [trial.value for trial in result.trials] == get_aggregate("log_rank:params+macs").compute_values(columns)
    assert result.best.value == max(trial.value for trial in result.trials)


def test_callbacks_are_called_in_order(tmp_path: Path) -> None:
    calls: list[Any] = []

    class Record(TrialsCallback):
        def on_trials_start(self, space: Any, config: Any) -> None:
            calls.append("start")

        def on_trial(self, trial: Any, best: Any, replayed: bool) -> None:
            calls.append((trial.number, best.number, replayed))

        def on_trials_end(self, result: Any) -> None:
            calls.append("end")

        def on_close(self) -> None:
            calls.append("close")

    result = run_trials(SPACE, Convolutions(), trials=2, run_dir=tmp_path / "a", callbacks=[Record()])
    first = [t.number for t in result.trials if t.value == max(t.value for t in result.trials[: t.number + 1])]
    assert calls == ["start", (0, 0, False), (1, first[-1], False), "end", "close"]
    calls.clear()
    run_trials(SPACE, Convolutions(), trials=3, run_dir=tmp_path / "a", resume=True, callbacks=[Record()])
    assert [call[2] for call in calls if isinstance(call, tuple)] == [True, True, False]

    class Broken(Record):
        def on_trial(self, trial: Any, best: Any, replayed: bool) -> None:
            raise KeyError("x")

    calls.clear()
    with pytest.raises(zcpt.CallbackError, match="Broken.on_trial raised KeyError"):
        run_trials(SPACE, Convolutions(), trials=2, callbacks=[Broken()])
    assert calls == ["start", "close"]


def test_replay_repeats_a_run_and_finds_the_first_difference(scores: ScoreTable, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 6, "proxy": "hashed", "move": True, "pool": 3}
    run_trials(SPACE, Convolutions(), run_dir=tmp_path / "a", scores=scores, **options)
    config, settings = configure_trials(SPACE, **options)
    plan = plan_trials(SPACE, Convolutions(), config, settings, scores=scores)
    for measure in (True, False):
        outcome = replay_trials(plan, tmp_path / "a", measure=measure)
        assert (outcome.difference, outcome.trials, outcome.largest_gap) == ("", 6, 0)
    journal = tmp_path / "a" / "journal" / "trials.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[4]["value"] += 0.25
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay_trials(plan, tmp_path / "a").largest_gap == pytest.approx(0.25)
    lines[2]["architecture"] = lines[1]["architecture"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "trial 2: the architecture is" in replay_trials(plan, tmp_path / "a").difference
    assert "trial 2 in the journal is" in replay_trials(plan, tmp_path / "a", measure=False).difference
    (tmp_path / "a" / "architecture.json").unlink()
    with pytest.raises(zcpt.ConfigError, match="is not finished: resume it"):
        replay_trials(plan, tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"algorithm": "evolve"}, "unknown algorithm 'evolve': did you mean 'evolution'"),
        ({"trials": 0}, "--trials 0 is too small"),
        ({"trial_batch": 0}, "--trial-batch 0 is too small"),
        ({"warmup": 5}, "--warmup scores architectures by a proxy, and none is given"),
        ({"move": True}, "--move compares architectures by a proxy, and none is given"),
        ({"proxy": "synflow"}, "scores networks on images, and there are none"),
        ({"proxy": "nasvot"}, "did you mean 'naswot'"),
        ({"tournamen": 3}, "did you mean 'tournament'"),
        ({"workers": 0}, "--workers 0 is too small"),
        ({"value": "accuracy"}, "the value is 'proxy' or an object"),
        ({"value": "proxy"}, "--value proxy needs the proxy"),
        ({"value": Convolutions}, "must have the methods of zcpt.trials.Value"),
        ({"callbacks": [print]}, "must be a zcpt.trials.TrialsCallback object"),
    ],
)
def test_mistakes_write_nothing(options: dict[str, Any], word: str, tmp_path: Path) -> None:
    value = options.get("value", Convolutions())
    given = {name: option for name, option in options.items() if name != "value"}
    with pytest.raises(zcpt.ZcptError, match=word):
        run_trials(SPACE, value, run_dir=tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


def test_a_folder_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    run_trials(SPACE, Convolutions(), trials=3, run_dir=tmp_path / "a")

    def resume(**options: Any) -> None:
        run_trials(SPACE, Convolutions(), trials=4, run_dir=tmp_path / "a", resume=True, **options)

    with pytest.raises(zcpt.ConfigError, match="belongs to another run: its seed is 0, not 1"):
        resume(seed=1)
    with pytest.raises(zcpt.ConfigError, match="belongs to another run: its pool is 64, not 3"):
        resume(pool=3)
    with pytest.raises(zcpt.ConfigError, match="exists already"):
        run_trials(SPACE, Convolutions(), trials=3, run_dir=tmp_path / "a")
    journal = tmp_path / "a" / "journal" / "trials.jsonl"
    before = journal.read_text()
    journal.write_text(before + '{"trial": 3}\n')
    with pytest.raises(zcpt.ConfigError, match=r"line 4 of .*trials.jsonl is damaged: it is no trial: delete"):
        resume()
    lines = before.splitlines(keepends=True)
    journal.write_text(lines[0] + lines[0].replace('"trial": 0', '"trial": 1'))
    with pytest.raises(zcpt.ConfigError, match="trial 1 in the journal is .*, and now it would be"):
        resume()
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(zcpt.ConfigError, match="is no run of 'zcpt trials'"):
        resume()
