"""Parser of the command line: sub-commands, files of flags, and hints for what is unknown."""

from __future__ import annotations

import argparse
import importlib
import logging
import re
from collections.abc import Sequence
from copy import copy
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import zcpt
from zcpt.cli._flag_files import make_words, read_flag_file
from zcpt.cli._flag_names import COMMANDS as FOREIGN_COMMANDS
from zcpt.cli._flag_names import describe_unknown_flag
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import format_flag
from zcpt.search import RENAMED_SETTINGS

_COMMANDS = {
    "search": ("zcpt.cli.search", "find an architecture without training"),
    "trials": ("zcpt.cli.trials", "measure one architecture after another, guided by zero-cost proxies"),
    "train": ("zcpt.cli.train", "train the network of an architecture"),
    "train-supernet": ("zcpt.cli.train_supernet", "train a supernet, to compare scores of its operations with"),
    "evaluate": ("zcpt.cli.evaluate", "measure the test accuracy of a trained network"),
    "predict": ("zcpt.cli.predict", "name the most probable classes of pictures"),
    "export": ("zcpt.cli.export", "write a trained network for other programs: ONNX, torch.export, Python ..."),
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
    "benchmark trials": (
        "zcpt.cli.benchmark_trials",
        "run trials with many seeds, and draw the curves of the accuracies found",
    ),
    "benchmark report": ("zcpt.cli.benchmark:ReportCommand", "write results of 'zcpt benchmark' as one page"),
    "benchmark table": (
        "zcpt.cli.benchmark:TableCommand",
        "write one table of methods and data sets from several results",
    ),
    "reproduce": ("zcpt.cli.reproduce", "measure tables and figures of papers again, beside the published numbers"),
    "show": ("zcpt.cli.show", "show what a run folder holds, and how far the run has come"),
    "score": ("zcpt.cli.score", "score one network by zero-cost proxies"),
    "latency": ("zcpt.cli.latency", "measure the operations of a space on this machine, for --max-latency"),
    "list": ("zcpt.cli.list_names", "show spaces, proxies, orders, presets, recipes and data sets"),
    "completion": ("zcpt.cli.completion", "print the script by which bash, zsh or fish completes commands and flags"),
}


_log = logging.getLogger(__name__)

_EPILOG = """\
'zcpt COMMAND --help' shows the flags of a command. A first search, of ten seconds:
  zcpt search --space nasbench201 --dataset digits --channels 8 --layers 2 --proposals 3 --validation-batches 10
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        switch = re.fullmatch(r"argument (\S+): ignored explicit argument .*", message)
        if switch:
            message = f"{switch[1].replace('/', ' or ')} stands alone, without '=' and a value"
        raise ConfigError(f"{message.rstrip('.')} ('{self.prog} --help' shows all flags).")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Returns:
        The flags, with the function that executes the command as ``run``.

    Raises:
        ConfigError: A command, flag or value is unknown.
        SystemExit: Help or the version was printed.
    """
    words = _join_command([_normalise_flag(word) for word in arguments])
    name = words[0] if words and words[0] in _COMMANDS else ""
    parser, command = _build_parsers(name)
    if not words:
        parser.print_help()
        parser.exit()
    if not name and not words[0].startswith("-"):
        raise ConfigError(_describe_unknown_command(words[0]))
    _check_dashes(command, words)
    args, extra = parser.parse_known_args(_insert_file_flags(words, name, command))
    if extra:
        _refuse_word(command, name, extra[0])
    return args


def _build_parsers(name: str) -> tuple[_Parser, argparse.ArgumentParser]:
    """Build the parser of the program, and that of one command; without a command the program's own in its place."""
    parser = _Parser(
        "zcpt",
        description="Differentiable architecture search without training the supernet.",
        usage="zcpt COMMAND [FLAGS]",
        epilog=_EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"zcpt {zcpt.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands", prog="zcpt")
    chosen: argparse.ArgumentParser = parser
    for other, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(
            other, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if other == name:  # importing only this command keeps 'zcpt list' and '--help' fast
            _add_command_arguments(command, _load_command(module))
            chosen = command
    return parser, chosen


def build_command_parser(name: str) -> argparse.ArgumentParser:
    """Build the parser of one command."""
    return _build_parsers(name)[1]


def list_commands() -> dict[str, str]:
    """Return the commands, such as 'benchmark search', with a line on each."""
    return {name: summary for name, (_, summary) in _COMMANDS.items()}


def list_flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the flags of a parser, but for the request of help, with their actions."""
    actions = [action for action in parser._actions if action.dest != "help"]
    return {flag: action for action in actions for flag in action.option_strings}


class _Command(Protocol):
    """Module, or class in a module, that implements a command."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    @staticmethod
    def run(args: argparse.Namespace) -> int | None: ...


def _load_command(path: str) -> _Command:
    """Import a command, such as 'zcpt.cli.search' or 'zcpt.cli.benchmark:SearchCommand'."""
    name, _, attribute = path.partition(":")
    module: Any = importlib.import_module(name)  # pkgutil.resolve_name hides the error of an import that fails
    return cast(_Command, getattr(module, attribute) if attribute else module)


def _add_command_arguments(command: argparse.ArgumentParser, module: _Command) -> None:
    settings = {"zcpt search": ", or config.json of a run", "zcpt train": ", or args.yaml of a training"}
    help_files = f"YAML file of flags{settings.get(command.prog, '')}; the command line wins"
    command.add_argument("-c", action="append", metavar="FILE", help=help_files)
    module.add_arguments(command)
    operands = [str(action.metavar or action.dest) for action in command._actions if not action.option_strings]
    command.usage = " ".join([command.prog, "[FLAGS]", *operands])
    command.set_defaults(run=module.run)


def _join_command(words: list[str]) -> list[str]:
    """Join a command of two words: ["benchmark", "search", ...] becomes ["benchmark search", ...].

    'zcpt help search' becomes 'zcpt search --help', and 'zcpt version' 'zcpt --version', as in other programs.

    Raises:
        ConfigError: The second word is unknown.
        SystemExit: The help of a group of commands was printed.
    """
    if words[:1] == ["help"]:
        return _join_command([*words[1:], "--help"])
    if words == ["version"]:
        return ["--version"]
    groups = [(*name.split(), summary) for name, summary in list_commands().items() if " " in name]
    kinds = {kind: summary for group, kind, summary in groups if words[:1] == [group]}
    if not kinds:
        return words
    if words[1:] in ([], ["--help"], ["-h"], ["help"]):
        _print_group_help(words[0], kinds)
    kind = words[1]
    if kind not in kinds:
        described = describe_unknown_name(f"kind of {words[0]}", kind, kinds)
        raise ConfigError(f"{described} ('zcpt {words[0]} --help' lists all of them)")
    return [f"{words[0]} {kind}", *words[2:]]


def _print_group_help(group: str, kinds: dict[str, str]) -> NoReturn:
    parser = _Parser(f"zcpt {group}", usage=f"zcpt {group} KIND [FLAGS]", add_help=False)
    commands = parser.add_subparsers(metavar="KIND", title="kinds")
    for kind, summary in kinds.items():
        commands.add_parser(kind, help=summary)
    parser.epilog = f"'zcpt {group} KIND --help' shows the flags of one."
    parser.print_help()
    parser.exit()


def _describe_unknown_command(word: str) -> str:
    if word.lower() in FOREIGN_COMMANDS:
        return (
            f"unknown command '{word}': use 'zcpt {FOREIGN_COMMANDS[word.lower()]}'. ('zcpt --help' lists all of them)"
        )
    if word.startswith(_LONG_DASHES):
        return _describe_long_dash(word)
    return describe_unknown_name("command", word, {name.split()[0] for name in _COMMANDS}, "zcpt --help")


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


_LONG_DASHES = ("\u2013", "\u2014", "\u2212")
"""En dash, em dash and minus sign: text processors write them in place of '--'."""


def _check_dashes(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Raise ConfigError for a flag with one dash, which argparse would read as -c with a value: -channels, -cutout."""
    flags = list_flags(parser)
    for word in words:
        name = "-" + word.partition("=")[0].replace("_", "-")
        if re.match(r"-\w", word) and name in flags:
            parser.error(f"unknown flag '{word}': flags have two dashes, '{name}'")


def _describe_long_dash(word: str) -> str:
    return f"'{word}' begins with a long dash, as of a text processor: type '--{word.lstrip(''.join(_LONG_DASHES))}'"


_EXAMPLES = {"search": "--space NAME or --dataset NAME", "train": "--arch FILE", "latency": "--space NAME"}
"""Command -> a flag whose value is easily given without it."""


def _refuse_word(parser: argparse.ArgumentParser, command: str, word: str, source: str = "") -> NoReturn:
    """Raise ConfigError for a word that argparse did not consume, with what to type instead."""
    name = word.partition("=")[0]
    if name.startswith(_LONG_DASHES):
        parser.error(_describe_long_dash(name))
    if not name.startswith("-") or name == "--":
        example = f": every value follows its flag, such as {_EXAMPLES[command]}" if command in _EXAMPLES else ""
        parser.error(f"'{word}' is not expected here{example}")
    hint = describe_unknown_flag(name, command, _list_flags_of_commands())
    parser.error((source or f"unknown flag '{name}'") + (f": {hint}" if hint else ""))


@cache
def _list_flags_of_commands() -> dict[str, list[str]]:
    return {name: list(list_flags(build_command_parser(name))) for name in _COMMANDS}


def _insert_file_flags(words: list[str], name: str, command: argparse.ArgumentParser) -> list[str]:
    """Insert the flags of files before those of the command line: of a repeated flag argparse keeps the last."""
    finder = _Parser(command.prog, add_help=False, allow_abbrev=False)
    finder.add_argument("-c", action="append", default=[])
    files = [Path(file) for file in finder.parse_known_args(words)[0].c]
    inserted = [word for path in files for word in _read_file_words(path, name, command)]
    return words[:1] + inserted + words[1:]


def _read_file_words(path: Path, name: str, command: argparse.ArgumentParser) -> list[str]:
    """Return the words of the command line that a file of flags stands for; ConfigError names the file."""
    actions = {flag: action for flag, action in list_flags(command).items() if flag != "-c"}
    words: dict[str, list[str]] = {}
    for key, node in read_flag_file(path, name, actions):
        flag = _normalise_flag(format_flag(key))
        if flag not in actions:
            _refuse_word(command, name, flag, source=f"{path} has an unknown key '{key}'")
        if flag in words:
            raise ConfigError(f"{path} has '{key}' twice: leave one of the two lines out.")
        words[flag] = make_words(flag, node, actions[flag], f"'{key}' in {path}")
    found = [word for flag_words in words.values() for word in flag_words]
    probe = _Parser(command.prog, add_help=False, allow_abbrev=False)
    for action in dict.fromkeys(actions.values()):
        optional = copy(action)
        optional.required = False
        probe._add_action(optional)
    try:
        probe.parse_args(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return found
