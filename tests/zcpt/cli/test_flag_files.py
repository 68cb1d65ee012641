"""Files of flags: ``-c FILE``, also with the settings that a run wrote into its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.zcpt.cli.conftest import run
from zcpt.cli._parser import parse
from zcpt.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ("proposals: 3", "proposals", 3),
        ("proposals: '3'", "proposals", 3),
        ("proposals: 3.0e0", "proposals", None),
        ("joint: true", "joint", True),
        ("joint: no", "joint", False),
        ("no_joint: true", "joint", False),
        ("no-joint: false", "joint", True),
        ("max_params: 3.3M", "max_params", 3.3e6),
        ("max-macs: 6e8", "max_macs", 6e8),
        ("alpha_noise: 1e-3", "alpha_noise", 1e-3),
        ("max_params: -1", "max_params", -1.0),
        ("out: 2024-13-45", "out", Path("2024-13-45")),
        ("out: 1:30", "out", Path("1:30")),
        ("out: 010", "out", Path("010")),
        ("out: 'no'", "out", Path("no")),
        ("out: -x", "out", Path("-x")),
        ("dataset: folder:pictures", "dataset", "folder:pictures"),
        ("\ufeffseed: 5", "seed", 5),
        ("seed: 5\r\n", "seed", 5),
        ('{"seed": 5}', "seed", 5),
        ("struck_inputs: present", "removed_inputs", "present"),
    ],
)
def test_a_value_is_the_text_that_would_be_typed(
    text: str, attribute: str, value: object, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cwd / "a.yaml").write_bytes(text.encode())
    if value is None:
        with pytest.raises(ConfigError, match=r"a\.yaml: argument --proposals: '3.0e0' is no whole number"):
            parse(["search", "-c", "a.yaml"])
    else:
        assert getattr(parse(["search", "-c", "a.yaml"]), attribute) == value


@pytest.mark.parametrize("text", ["", "# nothing", "---", "~", "seed:", "seed: null", "seed: ~"])
def test_an_empty_file_and_null_give_no_flag(text: str, cwd: Path) -> None:
    (cwd / "a.yaml").write_text(text)
    assert not hasattr(parse(["search", "-c", "a.yaml"]), "seed")


def test_a_list_becomes_one_value(cwd: Path) -> None:
    (cwd / "a.yaml").write_text("proxies: [snip, near]\ntable: t.csv\nspace: darts\nout: o\nworkers: 2\n")
    args = parse(["benchmark", "proxies", "-c", "a.yaml"])
    assert (args.proxies, args.out, args.workers) == (["snip", "near"], Path("o"), 2)


def test_a_switch_without_an_opposite_may_be_off(cwd: Path) -> None:
    (cwd / "a.yaml").write_text("then_train: false\n")
    assert parse(["search", "-c", "a.yaml"]).then_train is False


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("propsals: 3", "a.yaml has an unknown key 'propsals': did you mean '--proposals'?"),
        ("epochs: 3", "a.yaml has an unknown key 'epochs': it is a flag of 'zcpt train'"),
        ("learning_rate: 3", "a.yaml has an unknown key 'learning_rate': it is --lr of 'zcpt train'"),
        ("help: true", "a.yaml has an unknown key 'help'"),
        ("c: b.yaml", "a.yaml has an unknown key 'c'"),
        ("1: 2", "a.yaml has an unknown key '1'"),
        ("seed: many", "a.yaml: argument --seed: 'many' is no whole number"),
        ("seed: " + "9" * 5000, "a.yaml: argument --seed: '9999"),
        ("max_macs: 600m", "a.yaml: argument --max-macs: '600m' is not a number"),
        ("seed: {a: 1}", "'seed' in a.yaml takes a value, not a mapping"),
        ("seed: [[1]]", "'seed' in a.yaml takes a value, not a list"),
        ("seed: true", "'seed' in a.yaml takes a value, not 'true'"),
        ("joint: 1", "'joint' in a.yaml takes true or false, not '1'"),
        ("joint: 'false'", "'joint' in a.yaml takes true or false, not 'false'"),
        ("joint: [true]", "'joint' in a.yaml takes true or false, not a list"),
        ("seed: !!python/name:os.system x", "a.yaml"),
        ("seed: !own 3", "'seed' in a.yaml takes a value, not '3'"),
        ("[a, b]: 3", "a.yaml has a key that is no name, in line 1"),
        ("seed: 1\nseed: 2", "a.yaml has 'seed' twice"),
        ("batch_size: 1\nbatch-size: 2", "a.yaml has 'batch-size' twice"),
        ("- seed", "a.yaml must contain a mapping of flags to values"),
        ("seed 3", "a.yaml must contain a mapping of flags to values"),
        ("a: 1\n---\nb: 2", "a.yaml is not valid YAML"),
        ("seed: *none", "a.yaml is not valid YAML"),
        ("seed: \x01", "a.yaml is not valid YAML"),
        ("seed: @x", "a.yaml is not valid YAML"),
        ("[" * 3_000, "a.yaml is no file of flags: it is nested too deeply"),
    ],
)
def test_what_is_no_flag_is_refused_with_the_name_of_the_file(
    text: str, complaint: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cwd / "a.yaml").write_text(text)
    code, out, err = run(capsys, "search", "-c", "a.yaml", "--out", "run")
    assert (code, out) == (2, "")
    assert err.startswith("zcpt: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert len(err) < 300
    assert not (cwd / "run").exists()


def test_files_that_cannot_be_read(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (cwd / "folder").mkdir()
    for name in ("binary.yaml", "folder", "none.yaml"):
        code, _, err = run(capsys, "search", "-c", name)
        assert code == 2
        assert f"zcpt: {name} " in err


def test_a_search_is_repeated_with_the_settings_in_its_folder(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "search", "-c", run_folder / "config.json", "--out", "again")[0] == 0
    before, again = (json.loads((folder / "config.json").read_text()) for folder in (run_folder, cwd / "again"))
    assert again == before
    assert (cwd / "again" / "genotype.txt").read_text() == (run_folder / "genotype.txt").read_text()
    args = parse(["search", "-c", str(run_folder / "config.json"), "--order", "fixed", "--device", "meta"])
    assert (args.space, args.order, args.device) == ("nasbench201", "fixed", "meta")


def test_a_training_is_repeated_with_the_settings_in_its_folder(run_folder: Path) -> None:
    path = run_folder / "train" / "digits" / "args.yaml"
    args = parse(["train", "-c", str(path), "--arch", "a.json", "--epochs", "7"])
    settings = yaml.safe_load(path.read_text())
    for name in set(settings) - {"data", "epochs"}:
        assert getattr(args, name) == settings[name], name
    assert (args.dataset, args.epochs) == ("digits", 7)


def test_a_search_of_budgets_is_repeated_with_its_own_latency_table(run_folder: Path, cwd: Path) -> None:
    document = json.loads((run_folder / "config.json").read_text())
    document["search"] |= {"max_latency": 3.0, "latency_table": "gone.json"}
    document["data"]["directory"] = "images"
    (cwd / "config.json").write_text(json.dumps(document))
    (cwd / "latency.json").write_text("{}")
    args = parse(["search", "-c", "config.json"])
    assert (args.latency_table, args.max_latency, args.data_dir) == ("latency.json", 3.0, Path("images"))


@pytest.mark.parametrize("command", ["train", "benchmark search", "benchmark proxies", "evaluate", "replay", "list"])
def test_the_settings_of_another_command_are_refused(command: str, run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json has the settings of 'zcpt search', and 'zcpt "):
        parse([*command.split(), "-c", str(run_folder / "config.json")])
    with pytest.raises(ConfigError, match=r"args\.yaml has the settings of 'zcpt train', and 'zcpt search' takes"):
        parse(["search", "-c", str(run_folder / "train" / "digits" / "args.yaml")])


def test_settings_of_a_search_in_python_and_of_a_newer_version(run_folder: Path, cwd: Path) -> None:
    document = json.loads((run_folder / "config.json").read_text())
    (cwd / "config.json").write_text(json.dumps({**document, "data": {"images": 3}}))
    with pytest.raises(ConfigError, match=r"config\.json names no data set, as it is of a search in Python"):
        parse(["search", "-c", "config.json"])
    (cwd / "config.json").write_text(json.dumps({**document, "search": {**document["search"], "telepathy": 1}}))
    with pytest.raises(ConfigError, match=r"config\.json has an unknown key 'telepathy'"):
        parse(["search", "-c", "config.json"])
    for search in (3, "x", None, [1]):
        (cwd / "config.json").write_text(json.dumps({**document, "search": search}))
        with pytest.raises(ConfigError, match=r"config\.json must contain a mapping"):
            parse(["search", "-c", "config.json"])


def test_the_command_line_wins_over_files_and_later_files_over_earlier(cwd: Path) -> None:
    (cwd / "a.yaml").write_text("order: reverse\nseed: 1\nproposals: 3\njoint: true\n")
    (cwd / "b.yaml").write_text("order: fixed\nseed: 2\n")
    args = parse(["search", "--no-joint", "-ca.yaml", "--order", "random", "-c", "b.yaml"])
    assert (args.order, args.seed, args.proposals, args.joint) == ("random", 2, 3, False)
