"""Parser of the command line: sub-commands, YAML files of flags, nearest names in errors."""

from __future__ import annotations

import argparse
import difflib
import logging
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import yaml

import zcpt
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.files import describe_yaml_error, read_text
from zcpt.options import format_flag
from zcpt.search import RENAMED_SETTINGS

_COMMANDS = {
    "search": ("zcpt.cli.search", "find an architecture without training"),
    "train": ("zcpt.cli.train", "train the network of an architecture"),
    "evaluate": ("zcpt.cli.evaluate", "measure the test accuracy of a trained network"),
    "replay": ("zcpt.cli.replay", "repeat a finished search and compare all decisions"),
    "benchmark proxies": (
        "zcpt.cli.benchmark:ProxiesCommand",
        "measure how well proxies rank networks",
    ),
    "benchmark operations": (
        "zcpt.cli.benchmark:OperationsCommand",
        "measure how well scores rank operations",
    ),
    "benchmark search": ("zcpt.cli.benchmark:SearchCommand", "search once for each seed, and look up the accuracies"),
    "benchmark report": ("zcpt.cli.benchmark:ReportCommand", "write results of 'zcpt benchmark' as one page"),
    "latency": ("zcpt.cli.latency", "measure the operations of a space on this machine, for --max-latency"),
    "list": ("zcpt.cli.list_names", "show spaces, proxies, orders, presets, recipes and data sets"),
}


_log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.rstrip('.')} ('{self.prog} --help' shows all flags).")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Returns:
        The flags, with the function that executes the command as ``run``.

    Raises:
        ConfigError: A command, flag or value is unknown.
    """
    parser = _Parser("zcpt", description="Differentiable architecture search without training the supernet.")
    parser.add_argument("--version", action="version", version=f"zcpt {zcpt.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = _join_command([_normalise_flag(word) for word in arguments])
    if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
        raise ConfigError(describe_unknown_name("command", words[0], _COMMANDS, "zcpt --help"))
    chosen: argparse.ArgumentParser = parser
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in words[:1]:  # importing only this command keeps 'zcpt list' and '--help' fast
            _add_command_arguments(command, pkgutil.resolve_name(module))
            chosen = command
    args, extra = parser.parse_known_args(_insert_yaml_flags(words))
    if extra:
        _refuse_word(chosen, extra[0])
    return args


class _Command(Protocol):
    """Module, or class in a module, that implements a command."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    @staticmethod
    def run(args: argparse.Namespace) -> int | None: ...


def _add_command_arguments(command: argparse.ArgumentParser, module: _Command) -> None:
    command.add_argument("-c", action="append", metavar="FILE", help="YAML file of flags; the command line wins")
    module.add_arguments(command)
    command.set_defaults(run=module.run)


def _join_command(words: list[str]) -> list[str]:
    """Join a command of two words: ["benchmark", "search", ...] becomes ["benchmark search", ...].

    Raises:
        ConfigError: The second word is missing or unknown.
    """
    kinds = [name.split()[1] for name in _COMMANDS if words and name.startswith(f"{words[0]} ")]
    if not kinds:
        return words
    if words[1:] == ["--help"]:
        return words[1:]
    kind = words[1] if words[1:] and not words[1].startswith("-") else ""
    if kind not in kinds:
        raise ConfigError(describe_unknown_name(f"kind of {words[0]}", kind, kinds, "zcpt --help"))
    return [f"{words[0]} {kind}", *words[2:]]


_RENAMED_FLAGS = {format_flag(old): format_flag(new) for old, new in RENAMED_SETTINGS.items()}
"""Old name of a flag -> its name now."""


def _normalise_flag(word: str) -> str:
    """Replace underscores in the name of a flag, not in its value: --batch_size=a_b becomes --batch-size=a_b."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    name = name.replace("_", "-")
    if name in _RENAMED_FLAGS:
        _log.warning(f"{name} is now {_RENAMED_FLAGS[name]}; the old name will be removed")
        name = _RENAMED_FLAGS[name]
    return name + equals + value


def _refuse_word(parser: argparse.ArgumentParser, word: str) -> NoReturn:
    """Raise ConfigError for a word that argparse did not consume, with the nearest flag."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
        parser.error(f"'{word}' is not expected here")
    flags = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.5)
    parser.error(f"unknown flag '{name}'" + (f": did you mean '{near[0]}'?" if near else ""))


def _insert_yaml_flags(words: list[str]) -> list[str]:
    """Insert the flags of YAML files before those of the command line: of a repeated flag argparse keeps the last."""
    command = [word for word in words[:1] if word in _COMMANDS]
    finder = _Parser(" ".join(["zcpt", *command]), add_help=False, allow_abbrev=False)
    finder.add_argument("-c", action="append", default=[])
    files, _ = finder.parse_known_args(words)
    return words[:1] + [word for path in files.c for word in _read_yaml_flags(Path(path))] + words[1:]


def _read_yaml_flags(path: Path) -> list[str]:
    """Read a YAML file of flags: {proposals: 3, flip: false} becomes ["--proposals", "3", "--no-flip"]."""
    try:
        values = yaml.safe_load(read_text(path, "give -c a YAML file of flags")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {describe_yaml_error(error)}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a mapping of flags to values, such as 'proposals: 10'.")
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            flags.append(format_flag(str(name)) if value else format_flag(f"no_{name}"))
        elif value is not None:  # null means the default, as if the line were missing
            flags += [
                _normalise_flag(format_flag(str(name))),
                ",".join(map(str, value)) if isinstance(value, list) else str(value),
            ]
    return flags
