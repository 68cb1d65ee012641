"""``zcpt benchmark``: each kind, its page, and mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.zcpt.cli.conftest import content, run
from tests.zcpt.tabular.conftest import cells, macro, nb201  # noqa: F401  # fixtures
from train.supernet import SupernetTuning

Words = list[Any]
SMALL = ["--channels", "2", "--layers", "1", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture
def table(nb201: Path) -> Words:  # noqa: F811
    return ["--space", "nasbench201", "--table", nb201]


def proxies(capsys: pytest.CaptureFixture[str], table: Words, *words: object) -> tuple[int, str, str]:
    names = ["--proxies", "naswot-batch,hashed", "--samples", "20", "--workers", "1", "--resamples", "9"]
    return run(capsys, "benchmark", "proxies", *table, *names, *SMALL, "--out", "p", *words)


def test_proxies_operations_and_searches_end_in_one_page(
    cwd: Path, capsys: pytest.CaptureFixture[str], table: Words
) -> None:
    code, out, err = proxies(capsys, table)
    assert code == 0, err
    assert out.startswith("naswot-batch  Spearman ")
    assert "hashed        Spearman " in out
    assert out.endswith("report        p/report.md\n")
    before = (cwd / "p" / "result.json").read_bytes()
    assert proxies(capsys, table)[:2] == (0, out)
    assert (cwd / "p" / "result.json").read_bytes() == before
    page = (cwd / "p" / "report.md").read_text()
    networks = "Proxies on NAS-Bench-201, cifar10: 20 networks of C=2, 1 cell in each of the three stages"
    assert page.startswith(f"# {networks}\n\n20 of 30 architectures; best of them ")
    assert "0.77 / 0.58 (ZiCo)" in page
    assert "\n![scatter](scatter.png)\n" in page
    for name in ("scatter", "correlations"):
        assert (cwd / "p" / f"{name}.png").stat().st_size > 5000
    scores = {"theirs": {edge: [1, 2, 3, 4, 5] for edge in json.loads(before) and _list_edges()}}
    (cwd / "scores.json").write_text(json.dumps(scores))
    words = ["--methods", "zc_pt,disc_zc,random", "--seeds", "0,1", "--scores", "scores.json", "--out", "o"]
    code, out, err = run(capsys, "benchmark", "operations", *table, *SMALL, *words)
    assert code == 0, err
    assert [line.split(" Spearman")[0].strip() for line in out.splitlines()[:-1]] == [
        "zc-pt naswot", "disc-zc naswot", "random", "theirs", "best-acc", "avg-acc",
    ]  # fmt: skip
    assert "| zc-pt naswot |" in (cwd / "o" / "report.md").read_text()
    assert (cwd / "o" / "operations.png").stat().st_size > 5000
    words = ["--proxy", "hashed", "--proposals", "1", "--seeds", "0,1", "--out", "s"]
    code, out, err = run(capsys, "benchmark", "search", *table, *SMALL, *words)
    assert code == 0, err
    assert out.startswith("seed 0        ")
    code, out, err = run(capsys, "benchmark", "report", "p", "o", "s", "--out", "page.md")
    assert (code, out) == (0, "page          page.md\n"), err
    page = (cwd / "page.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Results",
        f"## {networks}",
        "## Scores of operations on NAS-Bench-201, cifar10, accuracy 'test'",
        "## Searches on NAS-Bench-201, cifar10",
    ]
    assert "- [Searches on NAS-Bench-201, cifar10](#searches-on-nas-bench-201-cifar10)\n" in page
    assert "![operations](o/operations.png)" in page
    assert "94.15 ± .22" in page  # published
    picture = (cwd / "p" / "scatter.png").read_bytes()
    (cwd / "p" / "scores.csv").unlink()  # what may not be passed on
    assert run(capsys, "benchmark", "report", "p", "o", "s", "--out", "page.md")[0] == 0
    assert (cwd / "page.md").read_text() == page
    assert (cwd / "p" / "scatter.png").read_bytes() == picture


def _list_edges() -> list[str]:
    return [choice.name for choice in zcpt.get_space("nasbench201").choices]


def test_flags_from_yaml(cwd: Path, capsys: pytest.CaptureFixture[str], table: Words) -> None:
    (cwd / "a.yaml").write_text("samples: 5\nproxies: hashed\nworkers: 1\nout: y\nresamples: 3\n")
    code, out, err = run(capsys, "benchmark", "proxies", "-c", "a.yaml", *table, *SMALL)
    assert code == 0, err
    assert "over 5 networks" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["benchmark", "proxys"], "unknown kind of benchmark 'proxys': did you mean 'proxies'?"),
        (["benchmark", "proxies"], "the following arguments are required: --table, --space, --out"),
        (["benchmark", "proxies", "--tabel", "x"], "required: --table"),
        (["benchmark", "proxies", "TABLE", "--out", "p", "--sample", "3"], "unknown flag '--sample': did you mean"),
        (["benchmark", "proxies", "TABLE", "--out", "p", "--samples", "99"], "--samples 99 is more than the 30"),
        (["benchmark", "proxies", "TABLE", "--out", "p", "--samples", "0", "--proxies", "nazwot"], "unknown proxy"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--seeds", "0,x"], "'0,x' are no seeds"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--seed", "0"], "unknown flag '--seed'"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--proposals", "3"], "unknown flag '--proposals'"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--scores", "no.json"], "no.json is missing"),
        (["benchmark", "search", "TABLE", "--out", "s", "--order", "fixd"], "did you mean 'fixed'"),
        (["benchmark", "search", "TABLE", "--out", "s", "--metric", "tset"], "did you mean 'test'"),
        (
            ["benchmark", "search", "--space", "darts", "--table", "none.csv", "--out", "s"],
            "there is no table none.csv",
        ),
        (
            ["benchmark", "search", "--space", "proxyless", "--table", "t", "--out", "s"],
            "unknown space with a benchmark",
        ),
        (["benchmark", "report", "nowhere", "--out", "page.md"], "result.json is missing"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--methods", ""], "--methods must name different methods"),
        (["benchmark", "operations", "TABLE", "--out", "o", "--proxies", "snip,snip"], "must name different proxies"),
        (
            ["benchmark", "operations", "TABLE", "--out", "o", "--methods", "random", "--proxies", "snip"],
            "--proxies has no effect on random: leave it out",
        ),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    words: Words, message: str, cwd: Path, capsys: pytest.CaptureFixture[str], table: Words
) -> None:
    before = content(cwd)
    words = [part for word in words for part in (table if word == "TABLE" else [word])]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert content(cwd) == before


@pytest.mark.parametrize("flags", [[], ["--help"]])
def test_help_of_the_kinds(flags: Words, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(capsys, "benchmark", *flags)
    assert ended.value.code == 0
    assert "proxies   measure how well proxies rank networks" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(capsys, "benchmark", "search", "--help")
    shown = capsys.readouterr().out
    assert "--validation-batches" in shown
    assert "--seeds INT,..." in shown


def test_a_folder_of_other_scores_or_of_another_kind_is_refused(
    cwd: Path, capsys: pytest.CaptureFixture[str], table: Words
) -> None:
    words = ["benchmark", "operations", *table, *SMALL, "--methods", "random", "--seeds", "0", "--scores", "s.json"]
    for numbers in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]):
        (cwd / "s.json").write_text(json.dumps({"theirs": dict.fromkeys(_list_edges(), numbers)}))
        code, _, err = run(capsys, *words, "--out", "o")
    assert code == 2
    assert "o belongs to another measurement" in err
    (cwd / "s.json").write_text(json.dumps({"random": dict.fromkeys(_list_edges(), numbers)}))
    code, _, err = run(capsys, *words, "--out", "p")
    assert code == 2
    assert "s.json uses names of built-in scores, random: rename them" in err
    code, _, err = proxies(capsys, table, "--out", "o")
    assert code == 2
    assert "o belongs to 'zcpt benchmark operations'. Give another --out." in err


def test_lists_in_yaml_are_lists_of_flags(cwd: Path, capsys: pytest.CaptureFixture[str], table: Words) -> None:
    (cwd / "a.yaml").write_text("seeds: [0, 1]\nmethods: [random]\n")
    code, _, err = run(capsys, "benchmark", "operations", "-c", "a.yaml", *table, *SMALL, "--out", "o")
    assert code == 0, err
    assert json.loads((cwd / "o" / "result.json").read_text())["protocol"]["seeds"] == [0, 1]


def test_variants_and_random_search(cwd: Path, capsys: pytest.CaptureFixture[str], table: Words) -> None:
    (cwd / "variants.yaml").write_text("fixed: {order: fixed}\nrandom:\n")
    words = ["--proxy", "naswot", "--proposals", "1", "--validation-batches", "1", "--validation-batch-size", "8"]
    words += ["--seeds", "0,1", "--variants", "variants.yaml", "--random-search", "--out", "v"]
    code, out, err = run(capsys, "benchmark", "search", *table, *SMALL, *words)
    assert code == 0, err
    names = [line.split()[0] for line in out.splitlines()]
    lines = ["seed", "seed", "random", "random"]
    assert names == ["fixed", *lines, "random", *lines, "report"]
    assert ": 30 networks\n" in out
    page = (cwd / "v" / "report.md").read_text()
    assert "| fixed | naswot | fixed | 1 | - | " in page
    assert "| random | 2 | 30 | " in page
    assert (cwd / "v" / "fixed" / "seed_1" / "architecture.json").exists()
    code, out, err = run(capsys, "benchmark", "search", *table, *SMALL, *words[:-1], "w", "--variants", "none.yaml")
    assert (code, out) == (2, "")
    assert "none.yaml is missing: give --variants a YAML file" in err


def test_a_short_training_ranks_beside_proxies(cwd: Path, capsys: pytest.CaptureFixture[str], table: Words) -> None:
    values = "{epochs: 1, batch_size: 300, holdout: 0.2, samples: 0.3, auxiliary_weight: 0, drop_path: 0}"
    (cwd / "quick.yaml").write_text(f"size: usual\nwidth: 0.25\nvalues: {values}\n")
    few = ["--samples", "4"]
    code, out, err = proxies(capsys, table, *few, "--proxies", "train:quick.yaml,hashed")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["train:quick.yaml", "hashed", "report"]
    # The folder goes on with its training.
    assert proxies(capsys, table, *few, "--proxies", "hashed")[1] == out
    result = json.loads((cwd / "p" / "result.json").read_text())
    assert result["results"]["train:quick.yaml"]["networks"] == 4
    about = result["protocol"]["trainings"]["train:quick.yaml"]
    assert (about["channels"], about["epochs"], about["held_back_images"]) == (4, 1, 287)
    assert "train:quick.yaml" in (cwd / "p" / "report.md").read_text()
    (cwd / "quick.yaml").write_text(f"size: usual\nwidth: 0.5\nvalues: {values}\n")
    code, _, err = proxies(capsys, table, *few)
    assert code == 2
    assert "belongs to another measurement: its train:quick.yaml is" in err
    code, _, err = proxies(capsys, table, "--proxies", "train:digits", "--out", "q")
    assert (code, err.count("keeps no training images back")) == (2, 1)


def test_scores_of_trained_supernets(
    cwd: Path, capsys: pytest.CaptureFixture[str], table: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["train-supernet", "--space", "nasbench201", *SMALL, "--samples", "0.05", "--epochs", "1"]
    for seed in (0, 1):
        assert run(capsys, *train, "--seed", str(seed), "--out", f"s{seed}")[0] == 0
    tuned: list[int] = []

    def tune(self: SupernetTuning, mixture: zcpt.Mixture) -> tuple[zcpt.Supernet, zcpt.Mixture]:
        tuned.append(self.epochs)
        return self.trained.net, mixture

    def measure(net: zcpt.Supernet, mixtures: list[zcpt.Mixture], batches: list[zcpt.Batch]) -> list[float]:
        assert sum(len(batch.labels) for batch in batches) == 8
        return [sum(map(max, mixture.weights.values())) for mixture in mixtures]

    # Accuracies and further training take long, and are tested elsewhere.
    monkeypatch.setattr(SupernetTuning, "__call__", tune)
    monkeypatch.setattr("zcpt.baselines.trained.measure_accuracies", measure)
    methods = ["random", "zc_pt_post", "darts", "darts_pt", "disc_acc"]
    words = ["benchmark", "operations", *table, "--batch-size", "8", "--device", "cpu"]
    scored = [*words, "--methods", ",".join(methods), "--supernet", "s0,s1", "--seeds", "0,1", "--out", "o"]
    code, out, err = run(capsys, *scored, "--validation-images", "8", "--tuning-epochs", "5")
    assert code == 0, err
    assert [line.split(" Spearman")[0].strip() for line in out.splitlines()[:5]] == [
        "random", "zc-pt-post naswot", "darts", "darts-pt", "disc-acc",
    ]  # fmt: skip
    assert tuned == [5] * 60
    about = json.loads((cwd / "o" / "result.json").read_text())["protocol"]["about"]
    assert about["dataset"] == "digits"
    assert len(set(about["supernets"].values())) == 2
    assert about["scores"]["zc-pt-post naswot"]["channels"] == 2
    assert "| darts-pt |" in (cwd / "o" / "report.md").read_text()
    for flags, message in (
        (["--methods", "darts"], "darts need a trained supernet: train one by 'zcpt train-supernet'"),
        (["--methods", "random", "--supernet", "s0"], "--supernet has no effect on random"),
        (["--tuning-epochs", "1"], "--tuning-epochs is for trained supernets: add --supernet RUN"),
        (["--methods", "darts", "--supernet", "s0,s1", "--seeds", "0,1,2"], "names 2 supernets for 3 seeds"),
        (["--methods", "darts", "--supernet", "none"], "none is missing"),
        (["--methods", "darts_pt", "--supernet", "s0", "--seeds", "0", "--validation-images", "99"], "must be from 2"),
        (["--methods", "darts", "--supernet", "s0", "--tuning-epochs", "-1"], "--tuning-epochs -1 must not"),
    ):
        code, _, err = run(capsys, *words, *flags, "--out", "p")
        assert code == 2
        assert message in err
