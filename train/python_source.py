"""Networks as Python source that needs only torch: every layer spelt out, under the names that its weights have.

The source is derived from the modules. A layer of torch is written as the call that builds it. Any other module
becomes a class, whose ``forward`` is what torch.fx traces in evaluation mode. Modules that differ only in numbers share
a class, with these numbers as arguments.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node, Tracer

from zcpt.errors import ConfigError
from zcpt.layers import DropPath

_LINE = 110
"""Longest line of the source, where it can be broken."""
_NUMBER = re.compile("\0(\\w+)\1(-?\\d+)\2")
"""An integer in a template, as ``_mark`` writes it: what it is, and its value."""
_CHANNELS = {"in_channels", "out_channels", "num_features", "groups", "channels", "in_features", "out_features"}


def write_source(network: nn.Module) -> tuple[str, str]:
    """Write the classes of a network as Python source.

    Args:
        network: The network, whose ``forward`` takes one batch of images.

    Returns:
        The source, without imports (it uses ``torch``, ``Tensor``, ``nn`` and ``F``), and the name of the class of the
        network, which is built without arguments.

    Raises:
        ConfigError: A part of the network cannot be written.
    """
    writer = _Writer(network)
    return "\n\n\n".join(writer.functions | writer.classes), writer.expressions[network].removesuffix("()")


class _Writer:
    """Writes the classes of all modules of a network, those of inner modules first.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.functions: dict[str, None] = {}
        self.classes: dict[str, None] = {}
        self.expressions: dict[nn.Module, str] = {}
        """The call that builds a module, with its integers marked."""
        self._names: set[str] = set()
        by_height: dict[int, dict[nn.Module, str]] = defaultdict(dict)
        for path, module in network.named_modules():
            if not _is_of_torch(module):
                by_height[_compute_height(module)][module] = path
        for _, modules in sorted(by_height.items()):
            self._write_classes(modules)

    def _write_classes(self, modules: dict[nn.Module, str]) -> None:
        """Write one class for each group of modules that differ only in numbers."""
        groups: dict[tuple[str, str], list[tuple[nn.Module, str]]] = defaultdict(list)
        for module, path in modules.items():
            if not isinstance(module, DropPath):
                text = self._write_template(module)
                groups[_name_class(module, path), _NUMBER.sub("#", text)].append((module, text))
        for (base, _), members in groups.items():
            name = next(name for name in _number_names(base) if name not in self._names)
            self._names.add(name)
            template = _merge_templates([text for _, text in members])
            self.classes[f"class {name}{_format_class(template)}"] = None
            for index, (module, _) in enumerate(members):
                arguments = (_mark(parameter, values[index]) for parameter, values in template.parameters.items())
                self.expressions[module] = f"{name}({', '.join(arguments)})"

    def _write_template(self, module: nn.Module) -> str:
        """Write the body of a module's class, after its name."""
        children = {name: child for name, child in module.named_children() if child is not None}
        document = f'"""{_get_summary(module)}"""' if _get_summary(module) else ""
        if isinstance(module, nn.Sequential):
            return f"(nn.Sequential):{document}\nsuper().__init__({self._list_layers(children)})"
        lines = [f"self.{name} = {self._write_call(child)}" for name, child in children.items()]
        for name, parameter in module.named_parameters(recurse=False):
            lines.append(f"self.{name} = nn.Parameter({_write_empty(parameter)})")
        for name, buffer in module.named_buffers(recurse=False):
            lines.append(f'self.register_buffer("{name}", {_write_empty(buffer)})')
        return "\n".join([f"(nn.Module):{document}", "super().__init__()", *lines, "", self._write_forward(module)])

    def _write_call(self, module: nn.Module) -> str:
        """Write the call that builds a module."""
        if isinstance(module, DropPath):
            return "nn.Identity()"
        if module in self.expressions:
            return self.expressions[module]
        children = dict(module.named_children())
        if isinstance(module, nn.Sequential):
            return f"nn.Sequential({self._list_layers(children)})"
        if isinstance(module, nn.ModuleList):
            return f"nn.ModuleList([{', '.join(map(self._write_call, children.values()))}])"
        if isinstance(module, nn.ModuleDict):
            items = (f'"{name}": {self._write_call(child)}' for name, child in children.items())
            return f"nn.ModuleDict({{{', '.join(items)}}})"
        return _write_layer(module)

    def _list_layers(self, children: dict[str, nn.Module]) -> str:
        layers = list(children.values())
        if list(children) != [str(index) for index in range(len(layers))]:
            items = (f'("{name}", {self._write_call(layer)})' for name, layer in children.items())
            return f"OrderedDict([{', '.join(items)}])"
        # Drop path does nothing outside training. Where it is last, leaving it out changes no name.
        while len(layers) > 1 and isinstance(layers[-1], DropPath):
            layers.pop()
        return ", ".join(map(self._write_call, layers))

    def _write_forward(self, module: nn.Module) -> str:
        """Write the method ``forward`` of a module, with its integers marked; an empty string if it has none."""
        if type(module) is nn.Module:
            return ""
        graph = _trace(module)
        paths = {}
        for index, node in enumerate(graph.nodes):
            node.type = None  # annotations that are text would be quoted as names
            if node.op == "call_module":
                paths[f"self.child_{index}"] = "self" + "".join(_list_steps(module, str(node.target)))
                node.target = f"child_{index}"
        code = graph.python_code("self")
        source = code.src[code.src.index("def forward") :].strip()
        source = re.sub(r";  .*", "", source)  # variables that are set free
        source = re.sub(r"\b(\w+) = (.*)\n( *)return \1$", r"return \2", source)
        source = re.sub(r"self\.child_\d+\b", lambda found: paths[found[0]], source)
        source = re.sub(r"\b(\w+) = (?=[^\n]*\))", _close_keyword, source)
        for name, value in code.globals.items():
            if inspect.isfunction(value) and not value.__module__.startswith("torch."):
                source = re.sub(rf"\b{name}\b", self._write_function(value), source)
        arguments, body = re.match(r"def forward\(self, ?(.*?)\):\n(.*)", source, re.DOTALL).groups()  # type: ignore[union-attr]
        typed = ", ".join(f"{name}: Tensor" for name in arguments.split(", "))
        numbered = re.sub(r"(?<![\w.\"\[])\d+(?![\w.\"\]])", lambda found: _mark("width", int(found[0])), body)
        result = "tuple[Tensor, ...]" if body.endswith(",)") else "Tensor"
        return f"def forward(self, {typed}) -> {result}:\n{numbered}"

    def _write_function(self, function: Callable[..., Any]) -> str:
        """Write a function that a ``forward`` calls, and return its name."""
        name = function.__name__.lstrip("_")
        # torch.fx names the result as the function.
        name = f"{name}_of" if name == function.__name__ else name
        source = textwrap.dedent(inspect.getsource(function))
        source = source[source.index("def ") :].strip()
        self.functions[source.replace(f"def {function.__name__}(", f"def {name}(", 1)] = None
        return name


def _close_keyword(found: re.Match[str]) -> str:
    """Write a keyword argument as ``dim=1``, and leave an assignment at the start of a line as it is."""
    is_assignment = found.string[: found.start()].rpartition("\n")[2].strip() == ""
    return found[0] if is_assignment else f"{found[1]}="


class _ChildTracer(Tracer):
    """Tracer for which the children of a module are single steps."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, DropPath)


def _trace(module: nn.Module) -> Graph:
    """Trace one module in evaluation mode. Arguments that have a default keep it.

    Raises:
        ConfigError: The module does what torch.fx cannot trace.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    is_training = module.training
    try:
        graph = _ChildTracer().trace(module.eval(), concrete_args=defaults or None)
    except Exception as error:  # whatever the code of a third party raises when it is traced
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the network cannot be written as Python, because torch.fx cannot trace {type(module).__name__} "
            f"({type(error).__name__}: {reason}): choose another --format."
        ) from error
    finally:
        module.train(is_training)
    # torch.fx makes inputs of such arguments, and asserts that they have the values that they were traced with.
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    _erase_with_users(graph, inputs[len(parameters) - len(defaults) :])
    return graph


def _erase_with_users(graph: Graph, nodes: Iterable[Node]) -> None:
    for node in nodes:
        _erase_with_users(graph, list(node.users))
        graph.erase_node(node)


def _list_steps(module: nn.Module, path: str) -> Iterator[str]:
    """Yield how each part of a module's path is written, as ``.edges`` or ``[0]``."""
    for name in path.split("."):
        if isinstance(module, nn.ModuleList | nn.Sequential) and name.isdigit():
            yield f"[{name}]"
        else:
            yield f'["{name}"]' if isinstance(module, nn.ModuleDict) else f".{name}"
        module = module.get_submodule(name)


def _is_of_torch(module: nn.Module) -> bool:
    """Return whether a module is a layer or container of torch, which is written as the call that builds it."""
    return type(module).__module__.startswith("torch.nn") and type(module) is not nn.Module


def _compute_height(module: nn.Module) -> int:
    """Compute how many classes lie within a module's class."""
    heights = [_compute_height(child) for child in module.children()]
    return max(heights, default=0) + (not _is_of_torch(module))


def _name_class(module: nn.Module, path: str) -> str:
    name = type(module).__name__.lstrip("_")
    if isinstance(module, GraphModule) or name == "Module":
        name = "".join(part.title() for part in re.findall(r"[A-Za-z0-9]+", path.rpartition(".")[2])) or "Network"
    return name if name.isidentifier() else f"Module{name}"


def _get_summary(module: nn.Module) -> str:
    """Return the first line of the documentation of a module's class, for the class that is written."""
    summary = (type(module).__doc__ or "").strip().partition("\n")[0]
    is_plain = not isinstance(module, GraphModule) and type(module) is not nn.Module and not {*summary} & {*'"\\`:'}
    return summary if is_plain else ""


def _number_names(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}{number}"
        number += 1


def _mark(name: str, value: int) -> str:
    return f"\0{name}\1{value}\2"


def _write_empty(tensor: torch.Tensor) -> str:
    sizes = ", ".join(_mark("size", size) for size in tensor.shape)
    kind = "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
    return f"torch.empty({sizes or '()'}{kind})"


def _write_layer(module: nn.Module) -> str:
    """Write the call that builds a layer of torch; arguments that have their default are left out."""
    words = []
    for parameter in inspect.signature(type(module).__init__).parameters.values():
        name, is_required = parameter.name, parameter.default is parameter.empty
        if name in ("self", "device", "dtype") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = module.bias is not None if name == "bias" else getattr(module, name, parameter.default)
        if isinstance(value, tuple | list) and len({*value}) == 1:
            value = value[0]
        if is_required or value != parameter.default:
            word = _mark(name, value) if type(value) is int else repr(value)
            words.append(word if is_required else f"{name}={word}")
    return f"nn.{type(module).__name__}({', '.join(words)})"


@dataclass
class _Template:
    """Body of a class, and the values that each of its arguments has in the modules of the class."""

    text: str
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)


def _merge_templates(texts: Sequence[str]) -> _Template:
    """Merge texts that differ in their integers: those that are not the same in all become arguments."""
    found = [_NUMBER.findall(text) for text in texts]
    columns = [tuple(int(row[index][1]) for row in found) for index in range(len(found[0]))]
    kinds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for column, (kind, _) in zip(columns, found[0], strict=True):
        if len({*column}) > 1:
            kinds[column].append(kind)
    names: dict[tuple[int, ...], str] = {}
    for column, words in kinds.items():
        base = words[0] if len({*words}) == 1 or not {*words} & _CHANNELS else "channels"
        names[column] = next(name for name in _number_names(base) if name not in names.values())
    remaining = iter(columns)

    def write(number: re.Match[str]) -> str:
        column = next(remaining)
        return names.get(column, number[2])

    return _Template(_NUMBER.sub(write, texts[0]), {name: column for column, name in names.items()})


def _format_class(template: _Template) -> str:
    """Return the source of a class after its name."""
    header, _, rest = template.text.partition("\n")
    body, _, forward = rest.partition("\n\n")
    # What only ``forward`` reads is kept in the module.
    forward = re.sub(r"slice\((\w+), (\w+), (\w+)\)", _write_slice, forward)
    forward = re.sub(r"\[\(([\w:, ]+)\)\]", r"[\1]", forward)
    stored = [name for name in template.parameters if re.search(rf"\b{name}\b", forward)]
    for name in stored:
        forward = re.sub(rf"(?<![.\w]){name}\b(?!=)", f"self.{name}", forward)
    body += "".join(f"\nself.{name} = {name}" for name in stored)
    arguments = "".join(f", {name}: int" for name in template.parameters)
    header, _, document = header.partition(":")
    lines = [f"{header}:", *([f"    {document}", ""] if document else [])]
    lines += [f"    def __init__(self{arguments}) -> None:", *_indent(body.splitlines(), 8)]
    if forward:
        lines += ["", *_indent(forward.splitlines(), 4)]
    return "\n".join(lines)


def _write_slice(found: re.Match[str]) -> str:
    """Write ``slice(1, None, None)`` as ``1:``."""
    start, end, step = ("" if part == "None" else part for part in found.groups())
    return f"{start}:{end}" + (f":{step}" if step else "")


def _indent(lines: Iterable[str], indent: int) -> Iterator[str]:
    for line in lines:
        yield from _wrap(" " * indent + line)


def _wrap(line: str) -> list[str]:
    """Break a long line after the commas of its outermost call, one argument a line."""
    indent = line[: len(line) - len(line.lstrip())]
    opening = re.search(r"[(\[{]+(?![)\]}])", line)
    if len(line) <= _LINE or not opening:
        return [line]
    start, ending = opening.end(), {"(": ")", "[": "]", "{": "}"}
    closing = "".join(ending[bracket] for bracket in reversed(opening[0]))
    if not line.endswith(closing):
        return [line]
    parts, depth, last = [], 0, start
    for position in range(start, len(line) - len(closing)):
        depth += (line[position] in "([{") - (line[position] in ")]}")
        if line[position] == "," and depth == 0:
            parts.append(line[last:position].strip())
            last = position + 1
    parts.append(line[last : len(line) - len(closing)].strip())
    wrapped = [part for item in parts for part in _wrap(f"{indent}    {item},"[:-1])]
    return [line[:start], *_end_with_commas(wrapped, len(indent) + 4), f"{indent}{closing}"]


def _end_with_commas(lines: Sequence[str], indent: int) -> Iterator[str]:
    """Yield lines, with a comma after those that end an argument of that indentation."""
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else ""
        starts_next = len(following) - len(following.lstrip()) == indent and following.strip()[:1] not in ")]}"
        is_own = len(line) - len(line.lstrip()) == indent
        is_open = line.rstrip()[-1:] in "([{"
        yield f"{line}," if is_own and not is_open and (starts_next or not following) else line
