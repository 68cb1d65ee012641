"""Files of flags for ``-c``: YAML of a user's own, and the settings that a run wrote into its folder."""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import yaml

from zcpt.errors import ConfigError
from zcpt.files import describe_yaml_error, read_text
from zcpt.options import format_flag

_LIMIT = 2**20
"""Bytes of the longest file of flags; YAML takes seconds for each MiB."""
_TAG = "tag:yaml.org,2002:"
_SETTINGS_OF_RUN = {"config.json": ("space", "search", "data"), "args.yaml": ("recipe", "data")}
"""Settings file in a run folder -> keys by which it is recognised."""
_FLAGS_OF_DATA = {"dataset": "dataset", "name": "dataset", "directory": "data_dir"}
"""Description of the images in a run folder -> the flag that gives them."""


def read_flag_file(path: Path, command: str, flags: Container[str]) -> list[tuple[str, yaml.Node]]:
    """Read a file of flags.

    Args:
        path: The file, also config.json or args.yaml of a run folder.
        command: The command that takes the flags.
        flags: All flags of the command.

    Returns:
        The names of flags, without dashes, and their values as nodes of YAML, which keep the text that was written.

    Raises:
        ConfigError: The file is missing or damaged, or has the settings of another command.
    """
    root = _compose(path)
    if root is None or root.tag == f"{_TAG}null":
        return []
    entries = _list_entries(root, path)
    for file, keys in _SETTINGS_OF_RUN.items():
        if _is_settings_file(entries, keys):
            return list(_convert_settings(entries, file, path, command, flags))
    return entries


def _compose(path: Path) -> yaml.Node | None:
    """Read the nodes of a YAML file; None if it is empty.

    Values are not converted, because YAML reads 1:30 as 90, 010 as 8 and 2024-13-45 as an error. Flags take the text.
    """
    try:
        return yaml.compose(read_text(path, "give -c a YAML file of flags", _LIMIT), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {describe_yaml_error(error)}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is no file of flags: it is nested too deeply.") from None


def _list_entries(node: yaml.Node, path: Path) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path} must contain a mapping of flags to values, such as 'proposals: 10'.")
    entries: list[tuple[str, yaml.Node]] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(
                f"{path} has a key that is no name, in line {key.start_mark.line + 1}: write 'flag: value'."
            )
        entries.append((key.value, value))
    return entries


def _is_settings_file(entries: Iterable[tuple[str, yaml.Node]], keys: Iterable[str]) -> bool:
    """Return whether a file has these keys, and a mapping under 'data' as no flag has one."""
    nodes = dict(entries)
    return all(key in nodes for key in keys) and isinstance(nodes["data"], yaml.MappingNode)


def _convert_settings(
    entries: Iterable[tuple[str, yaml.Node]],
    file: str,
    path: Path,
    command: str,
    flags: Container[str],
) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the flags that give the settings in a run folder's config.json or args.yaml."""
    owner = "search" if file == "config.json" else "train"
    if command != owner:
        raise ConfigError(
            f"{path} has the settings of 'zcpt {owner}', and 'zcpt {command}' takes others: leave it out."
        )
    for name, node in entries:
        if name == "data":
            if not {"dataset", "name"} & dict(_list_entries(node, path)).keys():
                raise ConfigError(
                    f"{path} names no data set, as it is of a search in Python: write its settings as flags."
                )
            for key, value in _list_entries(node, path):
                flag = _FLAGS_OF_DATA.get(key, key)
                if format_flag(flag) in flags:  # others describe the images, such as their number
                    yield flag, value
        elif name == "search":
            for key, value in _list_entries(node, path):
                yield key, _use_own_latency_table(key, value, path.parent)
        elif owner == "train" or name in ("space", "device"):  # others are computed, such as seeds and versions
            yield name, node


def _use_own_latency_table(name: str, node: yaml.Node, folder: Path) -> yaml.Node:
    """Return the run folder's copy of a latency table in place of the path that was given to the search."""
    own = folder / "latency.json"
    if name != "latency_table" or not own.exists():
        return node
    return yaml.ScalarNode(f"{_TAG}str", str(own), style='"')


def make_words(flag: str, node: yaml.Node, action: argparse.Action, source: str) -> list[str]:
    """Return the words of the command line for one key."""
    if node.tag == f"{_TAG}null":  # the default, as if the line were missing
        return []
    is_switch = action.nargs == 0
    is_bool = node.tag == f"{_TAG}bool"
    if is_switch != is_bool:
        allowed = "true or false" if is_switch else "a value"
        raise ConfigError(f"{source} takes {allowed}, not {_describe(node)}.")
    if is_bool:
        if yaml.SafeLoader.bool_values[node.value.lower()]:
            return [flag]
        opposites = [other for other in action.option_strings if other != flag]
        return [opposites[0]] if isinstance(action, argparse.BooleanOptionalAction) else []
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [f"{flag}={','.join(item.value for item in node.value)}"]
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith(_TAG):
        raise ConfigError(f"{source} takes a value, not {_describe(node)}.")
    return [f"{flag}={node.value}"]


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"'{node.value}'"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
