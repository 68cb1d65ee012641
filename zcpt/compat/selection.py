"""``zcpt.select``: the selection step of Zero-Cost-PT for search networks of other DARTS code bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from darts_space.darts import Darts, darts_choices, edge_name, list_edges
from darts_space.darts_network import NODES
from darts_space.operations import OPERATIONS
from zcpt.architecture import Architecture
from zcpt.batches import ANY_CLASSES, Batch, Batches, as_batches
from zcpt.compat.adapter import SearchNetworkAdapter
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import Primitives, SearchNetworkStructure, inspect_network, read_alphas
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.search import (
    BudgetChecker,
    Callback,
    CallbackList,
    SearchConfig,
    SearchContext,
    add_listeners,
    check_image_count,
    configure,
    draw_mixture,
    execute_search,
)
from zcpt.snapshot import preserve
from zcpt.space import NetworkConfig

Shares = Literal["equal", "alpha"]


def select(
    model: object,
    batches: object,
    *,
    preset: str | None = None,
    shares: Shares = "equal",
    primitives: Primitives | None = None,
    callbacks: Sequence[Callback] = (),
    listeners: Sequence[Callback] | None = None,
    **options: Any,
) -> Genotype:
    """Select a genotype from a DARTS-style search network by Zero-Cost-PT instead of the arg max of alpha.

    The network is scored on its own device, with its own weights, trained or not. Network and random generators are
    restored bit for bit afterwards, also when the call fails.

    Args:
        model: A search network of DARTS, DARTS-PT or PC-DARTS, or one of the same form.
        batches: Training images: a DataLoader, a map-style data set, a pair of tensors (images [N, C, H, W],
            labels [N]), or ``Batches``.
        preset: ``"paper"`` for the published procedure, with its 10 proposals.
        shares: Weights of undecided operations: ``"equal"`` for 1/O each, ``"alpha"`` for the softmax of the
            network's alpha.
        primitives: Names of the operations, for code that has no PRIMITIVES: a list in the order of ``_ops``, or a
            mapping with 'normal' and 'reduce' to one list for every edge.
        callbacks: Called for every decision, such as ``zcpt.monitor.Progress()``.
        listeners: Old name of ``callbacks``.
        options: Fields of ``SearchConfig``, such as ``proxy="naswot"``, ``seed=0`` or ``batch_size=64``. Without a
            preset there is one proposal. With more (``proposals=10``), discrete networks of space 'darts', of the
            network's own width and depth, are validated and the best proposal is selected.

    Returns:
        The genotype, as DARTS code bases read and print it.

    Raises:
        ConfigError: The model is not a search network of a supported form, or an option cannot be used with it;
            nothing has been scored.
        ZcptError: Other errors of ``zcpt.search``.
    """
    callbacks = add_listeners(callbacks, listeners)
    structure = inspect_network(model, primitives)
    space = make_space(structure)
    config = _make_config(space, shares, preset, options)
    start = _start_mixture(space, read_alphas(structure) if shares == "alpha" else None)
    assert isinstance(model, nn.Module), "inspect_network accepts nothing else"
    with preserve(model):
        model.eval()
        for module in model.modules():
            # module.compile() keeps a compiled forward here. It was traced through the original mixed operations and
            # would bypass those of the adapter. ``preserve`` puts it back.
            vars(module).pop("_compiled_call_impl", None)
        source = as_batches(batches, ANY_CLASSES)  # the network's classifier fixes the number, the data need not
        check_image_count(source, config)
        context = _make_context(space, structure, start, source, config, callbacks)
        result = execute_search(context)
    return space.to_genotype(result.architecture)


def _make_context(
    space: SearchNetworkSpace,
    structure: SearchNetworkStructure,
    start: Mixture,
    batches: Batches,
    config: SearchConfig,
    callbacks: Sequence[Callback],
) -> SearchContext:
    probe = batches.draw(config.batch_size, seed=0)
    net = SearchNetworkAdapter(structure, start, probe).eval()
    # ``net.channels`` are those of the first cell. A reduction cell has twice the network's initial channels.
    channels, layers = net.channels // (2 if structure.kinds[0] == "reduce" else 1), len(structure.kinds)
    _, in_channels, height, width = probe.images.shape
    network_config = NetworkConfig(channels, layers, net.num_classes, in_channels, (height, width))
    if config.proposals > 1:
        space.check_network_config(network_config)
    config = replace(config, channels=channels, layers=layers)
    return SearchContext(
        space=space,
        config=config,
        batches=batches,
        supernets=_FixedSupernet(net, config),
        network_config=network_config,
        budget_checker=BudgetChecker.from_config(space, config, network_config),
        device=next(structure.network.parameters()).device,
        callback=CallbackList(callbacks),
    )


class SearchNetworkSpace(Darts):
    """The space that a search network spans: DARTS' cells with its own operations and number of nodes."""

    def __init__(self, structure: SearchNetworkStructure) -> None:
        self.nodes = structure.nodes
        self.concatenated = structure.joined
        candidates = structure.candidates
        # A genotype of DARTS has no 'none': the operation takes part in every mixture and is never kept.
        has_none = any("none" in names for edges in candidates.values() for names in edges)
        not_selectable = ("none",) if has_none else ()
        self.choices = tuple(darts_choices(lambda kind, edge: candidates[kind][edge], not_selectable, self.nodes))

    def to_genotype(self, architecture: Architecture) -> Genotype:
        """Convert an architecture to the named tuple that DARTS code bases read."""
        last = 2 + len(self.nodes)
        concat = range(last - self.concatenated, last)
        pairs = self._list_pairs(architecture)
        return Genotype(list(pairs["normal"]), concat, list(pairs["reduce"]), concat)

    def format(self, architecture: Architecture) -> str:
        # The writer of space 'darts' has a fixed concat of all 4 nodes.
        return repr(self.to_genotype(architecture))

    @property
    def build_obstacle(self) -> str:
        """Reason why space 'darts' can neither build nor price these cells; empty if it can."""
        operations = {name for choice in self.choices if choice.phase == 0 for name in choice.selectable}
        foreign = sorted(operations - {*OPERATIONS})
        if foreign:
            return f"it has no operation '{foreign[0]}'"
        if self.nodes != NODES or self.concatenated != len(NODES):
            return f"its cells concatenate 4 nodes, and these concatenate {self.concatenated} of {len(self.nodes)}"
        return ""


def make_space(structure: SearchNetworkStructure) -> SearchNetworkSpace:
    """Make the space of a search network, named after the network's class."""

    class Space(SearchNetworkSpace):
        # Architectures and callbacks carry the space's name, which ``SearchSpace`` declares once for each class.
        name = type(structure.network).__name__

    return Space(structure)


_FIXED_BY_NETWORK = ("channels", "layers", "supernet_weights")
_BUDGETS = ("max_params", "max_macs", "max_latency")


def _make_config(space: SearchNetworkSpace, shares: str, preset: str | None, options: dict[str, Any]) -> SearchConfig:
    for name in _FIXED_BY_NETWORK:
        if name in options:
            raise ConfigError(
                f"{name} is not an option of zcpt.select, which scores the network as it is: leave it out."
            )
    if "valid_only" in options:
        raise ConfigError(
            "valid_only is not an option of zcpt.select, as there is no published list of valid DARTS cells: "
            "leave it out."
        )
    default = {} if preset else {"proposals": 1}
    config = configure(space, preset, **{**default, **options})
    if shares not in ("equal", "alpha"):
        raise ConfigError(describe_unknown_name("value of shares", str(shares), ("equal", "alpha")))
    if shares == "alpha" and config.alpha_noise:
        raise ConfigError("shares='alpha' takes the network's own architecture parameters: give alpha_noise=0.")
    budgets = [name for name in _BUDGETS if getattr(config, name)]
    for name in options:
        # Both kinds would be ignored without a word otherwise.
        if name.startswith("train_") and not budgets:
            raise ConfigError(
                f"{name} describes the networks that budgets apply to, and no budget is given: give max_params, or "
                "leave it out."
            )
        if name.startswith("validation_") and config.proposals == 1:
            raise ConfigError(
                f"{name} applies to the validation of several proposals, and there is one: give proposals=10, or "
                "leave it out."
            )
    if space.build_obstacle:
        cannot = f"discrete networks of space 'darts', which cannot build these cells ({space.build_obstacle})"
        if budgets:
            raise ConfigError(f"{budgets[0]} is a limit for {cannot}: leave {budgets[0]} out.")
        if config.proposals > 1:
            raise ConfigError(f"proposals={config.proposals} are compared as {cannot}: use proposals=1.")
    return config


def _start_mixture(space: SearchNetworkSpace, alphas: Mapping[str, Tensor] | None) -> Mixture:
    """Return the mixture in which nothing is decided: equal shares, or the softmax of alpha."""
    mixture = Mixture.initial(space.choices)
    shares = {
        edge_name(kind, *edge): tuple(torch.softmax(row, dim=0).tolist())
        for kind, alpha in (alphas or {}).items()
        for edge, row in zip(list_edges(space.nodes), alpha, strict=True)
    }
    return replace(mixture, weights={**mixture.weights, **shares})


@dataclass(frozen=True)
class _FixedSupernet:
    """A ``SupernetSource`` of one supernet, the user's network, for all proposals."""

    net: SearchNetworkAdapter
    config: SearchConfig

    def draw_initial_mixture(self, draw: int) -> Mixture:
        start = self.net.initial_mixture()
        return draw_mixture(tuple(start.choices.values()), self.config, draw) if self.config.alpha_noise else start

    def build_supernet(self, draw: int) -> SearchNetworkAdapter:
        return self.net

    def move_batch(self, batch: Batch) -> Batch:
        return self.net.place(batch)
