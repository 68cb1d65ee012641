"""``zcpt completion``."""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from train.data import DATASETS
from train.recipe import TrainConfig, list_recipes
from zcpt.cli._parser import build_command_parser, list_commands, list_flags
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import read_type_hints
from zcpt.proxies import list_aggregates, list_proxies
from zcpt.search import ORDERS, PRESETS, SearchConfig
from zcpt.space_registry import list_spaces

_HOW = {
    "bash": 'eval "$(zcpt completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(zcpt completion zsh)"  # in ~/.zshrc, after compinit',
    "fish": "zcpt completion fish > ~/.config/fish/completions/zcpt.fish",
}
"""Shell -> how its script is used, in one line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.epilog = "; ".join(_HOW.values())


def run(args: argparse.Namespace) -> None:
    """Print the script by which a shell completes commands, flags and names."""
    if args.shell not in _HOW:
        raise ConfigError(describe_unknown_name("shell", args.shell, _HOW))
    make_script = _make_fish_script if args.shell == "fish" else _make_bash_script
    script = f"# {_HOW[args.shell]}\n{make_script()}"
    if args.shell == "zsh":
        script = script.replace("\n", "\nautoload -Uz bashcompinit && bashcompinit\n", 1)
    sys.stdout.write(script)


def _list_values() -> dict[str, list[str]]:
    """Return the names that can follow a flag, by flag, and those that follow a command of names, by command."""
    proxies = [*list_proxies(), *list_aggregates()]
    values = {
        "--space": list_spaces(),
        "--dataset": [name for name in DATASETS if ":" not in name],  # a shell takes a colon for the end of a word
        "--proxy": proxies,
        "--proxies": proxies,
        "--validation-proxy": proxies,
        "--order": list(ORDERS),
        "--preset": list(PRESETS),
        "--recipe": list_recipes(),
        "--device": ["cpu", "cuda"],
    }
    for settings in (SearchConfig, TrainConfig):
        for name, hint in read_type_hints(settings).items():
            if get_args(hint):
                values[f"--{name.replace('_', '-')}"] = list(get_args(hint))
    return values


_OPERANDS = {
    "list": ["spaces", "proxies", "aggregates", "orders", "presets", "recipes", "datasets"],
    "completion": list(_HOW),
}
"""Command -> words that can follow it."""


def _list_words() -> dict[str, list[str]]:
    """Return all flags of each command, and the words that can follow it."""
    return {
        name: [*_OPERANDS.get(name, ()), *list_flags(build_command_parser(name)), "--help"] for name in list_commands()
    }


def _make_bash_script() -> str:
    """Return a bash function, which zsh can use too."""
    words = _list_words()
    first = sorted({name.split()[0] for name in words})
    second = {name: [other.split()[1] for other in words if other.startswith(f"{name} ")] for name in first}
    commands = {
        "": [*first, "--help", "--version"],
        **{name: kinds for name, kinds in second.items() if kinds},
        **words,
    }
    flag_cases = "".join(f'        "{name}") choices="{" ".join(found)}" ;;\n' for name, found in commands.items())
    value_cases = "".join(f'        {flag}) choices="{" ".join(found)}" ;;\n' for flag, found in _list_values().items())
    groups = "|".join(name for name, kinds in second.items() if kinds)
    return f"""\
_zcpt() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" name="" choices=""
    if [ "$COMP_CWORD" -gt 1 ]; then name="${{COMP_WORDS[1]}}"; fi
    case "$name" in
        {groups}) if [ "$COMP_CWORD" -gt 2 ]; then name="$name ${{COMP_WORDS[2]}}"; fi ;;
    esac
    case "$name" in
{flag_cases}    esac
    case "$before" in
{value_cases}    esac
    COMPREPLY=($(compgen -W "$choices" -- "$current"))
}}
complete -o default -F _zcpt zcpt
"""


def _make_fish_script() -> str:
    """Return a script of fish: a line for each command and flag, with its help."""
    lines = ["complete -c zcpt -f -n __fish_use_subcommand -l version"]
    values, groups = _list_values(), set()
    kinds = {name.split()[1]: name.split()[0] for name in list_commands() if " " in name}
    for name, summary in list_commands().items():
        group, _, kind = name.partition(" ")
        is_chosen = f"__fish_seen_subcommand_from {group}"
        if group in kinds:  # 'search' is a command, and a kind of 'benchmark'
            is_chosen += f"; and not __fish_seen_subcommand_from {kinds[group]}"
        if kind:
            lines.append(f"complete -c zcpt -f -n '{is_chosen}' -a {kind} -d {_quote(summary)}")
            is_chosen += f"; and __fish_seen_subcommand_from {kind}"
        if group not in groups:
            shown = f"{group} ..." if kind else summary
            lines.append(f"complete -c zcpt -f -n __fish_use_subcommand -a {group} -d {_quote(shown)}")
        groups.add(group)
        if name in _OPERANDS:
            lines.append(f"complete -c zcpt -f -n '{is_chosen}' -a '{' '.join(_OPERANDS[name])}'")
        for flag, action in list_flags(build_command_parser(name)).items():
            option = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            takes = "" if action.nargs == 0 else f" -x -a '{' '.join(values[flag])}'" if flag in values else " -r"
            described = _quote(action.help or "")
            lines.append(f"complete -c zcpt -n '{is_chosen}' {option}{takes} -d {described}")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return "'" + text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'") + "'"
