"""Help: of the program, of a group of commands, and of each command."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest

import zcpt
from train.recipe import TrainConfig
from train.supernet import SupernetConfig
from zcpt.cli import main
from zcpt.cli._parser import build_command_parser, list_commands
from zcpt.cli.latency import DEFAULTS
from zcpt.cli.trials import AlgorithmSettings
from zcpt.search import SearchConfig
from zcpt.tabular.proxies import ProxyOptions
from zcpt.trials import TrialsConfig


def show(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("words", ["", "--help", "-h", "help"])
def test_the_program_alone_shows_its_commands(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = show(capsys, *words.split())
    flat = " ".join(text.split())
    for command, summary in list_commands().items():
        assert f" {command} {summary} " in flat
    assert "zcpt search --space nasbench201 --dataset digits" in text


@pytest.mark.parametrize("words", ["benchmark", "benchmark --help", "benchmark -h", "benchmark help", "help benchmark"])
def test_a_group_of_commands_shows_its_kinds(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = show(capsys, *words.split())
    assert text.startswith("usage: zcpt benchmark KIND [FLAGS]\n")
    assert re.findall(r"^    (\w+)(?:  |$)", text, re.M) == [
        name.split()[1] for name in list_commands() if name.startswith("benchmark ")
    ]


@pytest.mark.parametrize("words", ["version", "--version"])
def test_the_version(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(capsys, *words.split()) == f"zcpt {zcpt.__version__}\n"


def test_help_may_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(capsys, "help", "benchmark", "search") == show(capsys, "benchmark", "search", "--help")


@pytest.mark.parametrize("command", list(list_commands()))
def test_the_help_of_a_command_is_short_above_and_grouped_below(command: str) -> None:
    parser = build_command_parser(command)
    text = parser.format_help()
    assert text.startswith(f"usage: zcpt {command} [FLAGS]")
    groups = re.split(r"\n(?=\S.*:\n)", text)
    assert all(len(re.findall(r"^  -", group, re.M)) <= 13 for group in groups), "a group longer than a screen"
    assert "further settings" not in text, "a setting is in no group"


@pytest.mark.parametrize("command", list(list_commands()))
def test_the_help_shows_no_default_but_the_one_that_is_taken(command: str) -> None:
    """A number or a word in '(default: X)' is the default of the parser or of the settings."""
    settings: dict[str, type[Any]] = {
        "train": TrainConfig,
        "train-supernet": SupernetConfig,
        "benchmark proxies": ProxyOptions,
    }
    fields = settings.get(command, SearchConfig).__dataclass_fields__
    if "trials" in command:
        fields = {**AlgorithmSettings.__dataclass_fields__, **TrialsConfig.__dataclass_fields__}
    for action in build_command_parser(command)._actions:
        shown = re.search(r"\(default: ([\w.-]+)\)$", action.help or "")
        if not shown:
            continue
        default = action.default
        if default is argparse.SUPPRESS:
            default = fields[action.dest].default
        if default is None:
            # As train/layout.py splits a folder, and as 'zcpt latency' measures.
            split: dict[str, Any] = {"validation_split": 0.2, "split_seed": 0}
            default = (DEFAULTS if command == "latency" else split).get(action.dest)
        if default is None:  # the command chooses it, such as 'darts'
            assert not re.fullmatch(r"[\d.]+", shown[1]), action.dest
        elif isinstance(default, bool):
            assert shown[1] == f"--{'' if default else 'no-'}{action.dest.replace('_', '-')}"
        elif isinstance(default, tuple):
            assert shown[1] == str(default[0])
        elif isinstance(default, list):
            assert shown[1] == ",".join(map(str, default))
        else:
            assert shown[1] == str(default), action.dest
    assert "0.0, no limit" not in build_command_parser(command).format_help()
