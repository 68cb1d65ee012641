"""The parser: sub-commands, YAML below the command line, nearest names in errors."""

from __future__ import annotations

import argparse
import difflib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import yaml

import zcpt
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.files import describe_yaml_error, read_text
from zcpt.options import format_flag

_COMMANDS = {
    "search": ("zcpt.cli.search", "find an architecture without training anything"),
    "train": ("zcpt.cli.train", "train the network of an architecture"),
    "evaluate": ("zcpt.cli.evaluate", "measure a trained network on the test images"),
    "replay": ("zcpt.cli.replay", "derive a finished search again, and say whether it is the same"),
    "benchmark proxies": ("zcpt.cli.benchmark:Proxies", "measure how well proxies rank the networks of a benchmark"),
    "benchmark operations": ("zcpt.cli.benchmark:Operations", "measure how well proxies rank operations, edge by edge"),
    "benchmark search": ("zcpt.cli.benchmark:Search", "search once for each seed, and look up what was found"),
    "benchmark report": ("zcpt.cli.benchmark:Report", "write results of 'zcpt benchmark' as one page"),
    "latency": ("zcpt.cli.latency", "measure the operations of a space on this machine, for --max-latency"),
    "list": ("zcpt.cli.list_names", "show spaces, proxies, orders, presets, recipes and data sets"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.rstrip('.')} ('{self.prog} --help' shows all flags).")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command; ``run`` of the result is the function that does it.

    Raises:
        ConfigError: A flag or a value is unknown.
    """
    parser = _Parser("zcpt", description="Differentiable architecture search without training the supernet.")
    parser.add_argument("--version", action="version", version=f"zcpt {zcpt.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = _joined([_dashed(word) for word in arguments])
    if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
        raise ConfigError(describe_unknown_name("command", words[0], _COMMANDS, "zcpt --help"))
    refuse: argparse.ArgumentParser = parser
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in words[:1]:  # the others need not be imported
            _fill(command, pkgutil.resolve_name(module))
            refuse = command
    args, extra = parser.parse_known_args(_with_yaml(words))
    if extra:
        _refuse(refuse, extra[0])
    return args


class _Command(Protocol):
    """A module, or a class of one, that adds the flags of a command and carries it out."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    @staticmethod
    def run(args: argparse.Namespace) -> int | None: ...


def _fill(command: argparse.ArgumentParser, module: _Command) -> None:
    command.add_argument("-c", action="append", metavar="FILE", help="YAML file of flags; the command line wins")
    module.add_arguments(command)
    command.set_defaults(run=module.run)


def _joined(words: list[str]) -> list[str]:
    """Of a command that is two words make one; ConfigError where the second one is missing or unknown."""
    kinds = [name.split()[1] for name in _COMMANDS if words and name.startswith(f"{words[0]} ")]
    if not kinds:
        return words
    if words[1:] == ["--help"]:
        return words[1:]
    given = words[1] if words[1:] and not words[1].startswith("-") else ""
    if given not in kinds:
        raise ConfigError(describe_unknown_name(f"kind of {words[0]}", given, kinds, "zcpt --help"))
    return [f"{words[0]} {given}", *words[2:]]


def _dashed(word: str) -> str:
    """Flags may be spelled with underscores."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _refuse(parser: argparse.ArgumentParser, word: str) -> NoReturn:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        parser.error(f"'{word}' is not expected here")
    known = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    parser.error(f"unknown flag '{name}'" + (f": did you mean '{near[0]}'?" if near else ""))


def _with_yaml(words: list[str]) -> list[str]:
    """Put the flags of YAML files before those of the command line, which therefore win."""
    command = [word for word in words[:1] if word in _COMMANDS]
    finder = _Parser(" ".join(["zcpt", *command]), add_help=False, allow_abbrev=False)
    finder.add_argument("-c", action="append", default=[])
    files, _ = finder.parse_known_args(words)
    return words[:1] + [word for path in files.c for word in _flags(Path(path))] + words[1:]


def _flags(path: Path) -> list[str]:
    try:
        values = yaml.safe_load(read_text(path, "give -c a YAML file of flags")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {describe_yaml_error(error)}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of flags to values, such as 'proposals: 10'.")
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            flags.append(format_flag(str(name)) if value else format_flag(f"no_{name}"))
        elif value is not None:  # as if the line were not there
            flags += [format_flag(str(name)), ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return flags
