"""Rebuild a search network of another code base as a ``Supernet``, which the fast engine can score.

torch.fx traces the network down to its mixed operations, cells of NAS-Bench-201 and modules without them. What is found
is taken for a usual supernet: mixed operations are weighted sums, nodes are sums, cells are concatenations. Whether
that is so is checked by numbers: under several mixtures, the rebuilt supernet must count the same units and have the
logits of the network. Where it does not (PC-DARTS' partial channels, noise), or where tracing fails, the plain engine
scores the network.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from zcpt.architecture import Choice
from zcpt.compat.adapter import SearchNetworkAdapter
from zcpt.compat.inspection import MixedEdge, Mixer, SearchNetworkStructure
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot
from zcpt.supernet import Supernet

_ADDITIONS = (operator.add, operator.iadd, torch.add)


class _NotRebuiltError(Exception):
    """The network does what a program of steps does not have."""


@torch.no_grad()
def rebuild_supernet(
    structure: SearchNetworkStructure, net: SearchNetworkAdapter, proxy: Naswot, images: Tensor
) -> Supernet | str:
    """Rebuild a search network as a supernet with the same modules, or return the reason why that is not possible.

    Args:
        structure: The network, in evaluation mode. Tracing leaves attributes behind: call this inside ``preserve``.
        net: Its adapter, which defines what is right.
        proxy: Proxy whose kernels are compared.
        images: Images [B, C, H, W] from ``net.place``.
    """
    try:
        supernet = _Builder(structure, net.choices, net.logits_path).build()
        return supernet if _is_same(supernet, net, proxy, images[:4]) else "it computes more than weighted sums"
    except Exception as error:  # the network is the user's code: tracing it may raise anything
        return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")


def _is_same(supernet: Supernet, net: SearchNetworkAdapter, proxy: Naswot, images: Tensor) -> bool:
    for mixture in map(proxy.adapt_mixture, _make_test_mixtures(tuple(net.choices.values()))):
        kernels = [proxy.compute_kernel(each, images, mixture) for each in (supernet, net)]
        rebuilt, expected = (each(images, mixture) for each in (supernet, net))
        if not torch.allclose(rebuilt, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            return False
        # The kernel's diagonal is the number of units, which no rounding changes.
        if not torch.equal(kernels[0].diagonal(), kernels[1].diagonal()):
            return False
    return True


def _make_test_mixtures(choices: Sequence[Choice]) -> list[Mixture]:
    """Return the initial mixture, and two in which every choice has lost a candidate, and a third is decided."""
    mixtures = [Mixture.initial(choices)]
    for shift in range(2):
        mixture = mixtures[0]
        for index, choice in enumerate(choices):
            names = choice.selectable
            if len(names) <= choice.keep:
                continue
            if (index + shift) % 3 == 0:
                mixture = mixture.select(choice.name, names[shift : shift + choice.keep])
            else:
                mixture = mixture.without(choice.name, names[(index + shift) % len(names)])
        mixtures.append(mixture)
    return mixtures


class _Tracer(fx.Tracer):
    """Traces modules that contain mixers; all others are leaves. Parameters stay tensors: alpha is needed no more."""

    def __init__(self, mixers: Sequence[Mixer]) -> None:
        super().__init__()
        self._mixers = {mixer.module for mixer in mixers}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._mixers or not any(module in self._mixers for module in m.modules())

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val


class _Builder:
    """Builds the program of a supernet from the graph of a traced network."""

    def __init__(self, structure: SearchNetworkStructure, choices: Mapping[str, Choice], logits: Sequence[Any]) -> None:
        self._structure = structure
        self._choices = choices
        self._mixers = {mixer.module: mixer for mixer in structure.mixers}
        # Only the images are traced: further parameters, such as DARTS-PT's weights, have their defaults.
        parameters = list(inspect.signature(structure.network.forward).parameters.values())[1:]
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        self._graph = _Tracer(structure.mixers).trace(structure.network, concrete_args=defaults)
        (returned,) = next(node for node in self._graph.nodes if node.op == "output").args
        for key in logits:
            returned = returned[key]
        if not isinstance(returned, fx.Node):
            raise _NotRebuiltError("its output is no value of the graph")
        self._output = returned
        self._supernet = Supernet(tuple(choices.values()))
        self._values: dict[fx.Node, str] = {}
        """Name of the value of each node that has been built."""
        self._edges: dict[fx.Node, MixedEdge] = {}
        """Edge of each node that is a mixed operation."""

    def build(self) -> Supernet:
        """Return the supernet."""
        images = next(node for node in self._graph.nodes if node.op == "placeholder")
        self._values[images] = Supernet.IMAGES
        needed = self._list_needed()
        last = self._find_last(needed)
        for node in needed:
            if node not in self._values:
                self._add_node(node)
            if node is last:
                break
        self._add_tail(last)
        return self._supernet

    def _get_module(self, node: fx.Node) -> nn.Module:
        return self._structure.network.get_submodule(str(node.target))

    def _is_mixer(self, node: fx.Node) -> bool:
        return node.op == "call_module" and self._get_module(node) in self._mixers

    def _list_inputs(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that a node is computed from, without the weights of mixers."""
        if self._is_mixer(node):
            source = node.args[0] if node.args else next(iter(node.kwargs.values()))
            return [source] if isinstance(source, fx.Node) else []
        return list(node.all_input_nodes)

    def _list_needed(self) -> list[fx.Node]:
        """Return the nodes that the logits are computed from, in order."""
        needed = {self._output}
        for node in reversed(self._graph.nodes):
            if node in needed:
                needed.update(self._list_inputs(node))
        return [node for node in self._graph.nodes if node in needed]

    def _find_last(self, needed: Sequence[fx.Node]) -> fx.Node:
        """Return the node behind which nothing is mixed and nothing else is read: the output of the last cell."""
        mixed = [index for index, node in enumerate(needed) if self._is_mixer(node)]
        if not mixed:
            raise _NotRebuiltError("its mixed operations are not called as modules")
        for index in range(mixed[-1], len(needed)):
            read = {source for node in needed[index + 1 :] for source in self._list_inputs(node)}
            if not read & set(needed[:index]):
                return needed[index]
        raise _NotRebuiltError("its last cell is not found")

    def _add_node(self, node: fx.Node) -> None:
        inputs = self._list_inputs(node)
        if node.op == "call_module" and len(inputs) == 1:
            module = self._get_module(node)
            if module in self._mixers:
                self._add_mixer(node, self._mixers[module], self._values[inputs[0]])
            else:
                self._values[node] = self._supernet.fixed(f"parts.{node.name}", module, self._values[inputs[0]])
        elif node.op == "call_function" and node.target in _ADDITIONS:
            self._add_sum(node)
        elif node.op == "call_function" and node.target in (torch.cat, torch.concat):
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim != 1 or not all(source in self._values for source in inputs):
                raise _NotRebuiltError("it concatenates along another dimension than the channels")
            self._values[node] = self._supernet.concat(f"parts.{node.name}", [self._values[each] for each in inputs])
        else:
            raise _NotRebuiltError(f"it calls {getattr(node.target, '__name__', node.target)} between its cells")

    def _add_mixer(self, node: fx.Node, mixer: Mixer, source: str) -> None:
        if mixer.rows is None:
            (self._edges[node],) = mixer.edges
            if mixer.edges[0].operation in self._choices:  # else the network itself has struck the edge
                self._values[node] = self._add_mixed(f"parts.{node.name}", mixer.edges[0], source)
            return
        states = [source]
        for target in self._structure.nodes:
            edges = [each for each in mixer.edges if each.operation.startswith(f"node{target}/")]
            terms = [self._add_mixed(f"parts.{node.name}.{e.operation}", e, states[e.source]) for e in edges]
            states.append(self._supernet.sum(f"parts.{node.name}.node{target}", terms))
        self._values[node] = states[-1]

    def _add_mixed(self, name: str, edge: MixedEdge, source: str) -> str:
        operations = dict(zip(edge.names, edge.operations, strict=True))
        candidates = {key: operations[key] for key in self._choices[edge.operation].candidates}
        return self._supernet.mixed(name.replace("/", "_"), edge.operation, candidates, source)

    def _add_sum(self, node: fx.Node) -> None:
        if all(user.op == "call_function" and user.target in _ADDITIONS for user in node.users):
            return  # an intermediate result of a longer sum
        terms = self._list_terms(node)
        edges = [self._edges.get(term) for term in terms]
        present = [term for term in terms if term in self._values]
        choice = next((edge.inputs for edge in edges if edge and edge.inputs in self._choices), None)
        if choice is not None:
            sources = {str(edge.source): term for term, edge in zip(terms, edges, strict=True) if edge}
            present = [sources[source] for source in self._choices[choice].candidates]
        name = f"parts.{node.name}"
        self._values[node] = self._supernet.sum(name, [self._values[term] for term in present], choice)

    def _list_terms(self, node: fx.Node) -> list[fx.Node]:
        """Return the terms of a sum that is written as additions of two, of which the first may add 0."""
        terms: list[fx.Node] = []
        for argument in node.args:
            if isinstance(argument, fx.Node):
                is_sum = argument.op == "call_function" and argument.target in _ADDITIONS
                terms += self._list_terms(argument) if is_sum and argument not in self._values else [argument]
            elif argument != 0:
                raise _NotRebuiltError("it adds a number")
        return terms

    def _add_tail(self, last: fx.Node) -> None:
        """Add what comes behind the last cell as one module."""
        graph = fx.Graph()
        copies = {last: graph.placeholder("x")}
        for node in self._list_needed():
            if node not in self._values and node not in copies and _follows(node, copies):
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(copies[self._output])
        tail = fx.GraphModule(self._structure.network, graph)
        tail.eval()
        self._supernet.fixed("tail", tail, self._values[last])


def _follows(node: fx.Node, copies: Mapping[fx.Node, fx.Node]) -> bool:
    return bool(node.all_input_nodes) and all(source in copies for source in node.all_input_nodes)
