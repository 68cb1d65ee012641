"""``zcpt.select``: the selection step of Zero-Cost-PT for search networks of other DARTS code bases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from darts_space import darts, nasbench201
from zcpt.batches import ANY_CLASSES, Batch, Batches, as_batches
from zcpt.compat.adapter import SearchNetworkAdapter
from zcpt.compat.inspection import SearchNetworkStructure, inspect_network
from zcpt.compat.observation import observe_network
from zcpt.compat.operation_names import Primitives, compute_shares, read_alphas
from zcpt.compat.spaces import SearchNetworkSpace, make_space
from zcpt.compat.tracing import rebuild_supernet
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.monitor import Progress
from zcpt.proxies import Naswot
from zcpt.search import (
    BudgetChecker,
    Callback,
    CallbackList,
    SearchConfig,
    SearchContext,
    add_listeners,
    check_callbacks,
    check_image_count,
    configure,
    draw_mixture,
    execute_search,
)
from zcpt.snapshot import preserve
from zcpt.space import NetworkConfig
from zcpt.supernet import Supernet

_log = logging.getLogger(__name__)
Shares = Literal["equal", "alpha"]


def select(
    model: object,
    batches: object,
    *,
    preset: str | None = None,
    shares: Shares = "equal",
    primitives: Primitives | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    listeners: Sequence[Callback] | None = None,
    **options: Any,
) -> Any:
    """Select a cell from another code base's search network by Zero-Cost-PT instead of the arg max of alpha.

    The network is scored on its own device, with its own weights, trained or not. Network and random generators are
    restored bit for bit afterwards, also when the call fails.

    Args:
        model: A search network of DARTS' form or of NAS-Bench-201's; docs/drop-in.md lists the code bases. Operations
            that it weighs with exactly 0 itself, because they are pruned or decided against, are no candidates.
        batches: Training images: a DataLoader, a map-style data set, a pair of tensors (images [N, C, H, W],
            labels [N]), or ``Batches``.
        preset: ``"paper"`` for the published procedure, with its 10 proposals.
        shares: Weights of undecided operations: ``"equal"`` for 1/O each, ``"alpha"`` for the softmax of the
            network's alpha.
        primitives: Names of the operations, for code that has no PRIMITIVES: a list in the order of the
            edges' lists, or a mapping with 'normal' and 'reduce' to one list for every edge.
        progress: Show a bar on a terminal or in a notebook; elsewhere a line goes to Python's log now and then.
        callbacks: Called for every decision, such as ``zcpt.monitor.TensorBoard(folder)``.
        listeners: Old name of ``callbacks``.
        options: Fields of ``SearchConfig``, such as ``proxy="naswot"``, ``seed=0`` or ``batch_size=64``. Without a
            preset there is one proposal. With more (``proposals=10``), discrete networks of space 'darts' or
            'nasbench201', of the network's own width and depth, are validated and the best proposal is selected.

    Returns:
        The cell as the code bases read and print it: a named tuple ``Genotype``, with a list of pairs for each node if
        the network is that of pt.darts; or for NAS-Bench-201 a ``Structure`` with ``nodes`` and ``tostr()``.

    Raises:
        ConfigError: The model is not a search network of a supported form, or an option cannot be used with it;
            nothing has been scored.
        ZcptError: Other errors of ``zcpt.search``.
    """
    callbacks = check_callbacks(add_listeners(callbacks, listeners))
    if progress and not any(isinstance(callback, Progress) for callback in callbacks):
        callbacks = [Progress(), *callbacks]
    structure = inspect_network(model, primitives)
    space = make_space(structure)
    config = _make_config(space, shares, preset, options)
    alphas = read_alphas(structure.owners, structure.candidates) if shares == "alpha" else None
    assert isinstance(model, nn.Module), "inspect_network accepts nothing else"
    with preserve(model):
        return _search(model, structure, config, alphas, batches, callbacks)


def _search(
    model: nn.Module,
    structure: SearchNetworkStructure,
    config: SearchConfig,
    alphas: Mapping[str, Sequence[Tensor]] | None,
    batches: object,
    callbacks: Sequence[Callback],
) -> Any:
    """Search on the network, which the caller restores, and return the cell."""
    model.eval()
    for module in model.modules():
        # module.compile() keeps a compiled forward here. It was traced through the original mixed operations and
        # would bypass those of the adapter. ``preserve`` puts it back.
        vars(module).pop("_compiled_call_impl", None)
    source = as_batches(batches, ANY_CLASSES)  # the network's classifier fixes the number, the data need not
    check_image_count(source, config)
    probe = source.draw(config.batch_size, seed=0)
    observation = observe_network(structure, probe.images)
    space = make_space(structure, observation.available)
    net = SearchNetworkAdapter(structure, observation, _make_initial_mixture(space, structure, alphas)).eval()
    scored = _choose_scored_network(structure, net, config, net.place(probe).images)
    context = _make_context(space, structure, _FixedSupernet(net, scored, config), source, probe, config, callbacks)
    return space.to_genotype(execute_search(context).architecture)


def _choose_scored_network(
    structure: SearchNetworkStructure, net: SearchNetworkAdapter, config: SearchConfig, images: Tensor
) -> nn.Module:
    """Return the network as a supernet for the fast engine, where that is possible and gives the same; else ``net``."""
    criterion = config.criterion("operations")
    if config.engine == "plain" or not isinstance(criterion, Naswot) or not criterion.fast_engine:
        return net
    if images.dtype == torch.float32:
        rebuilt = rebuild_supernet(structure, net, criterion, images)
    else:
        rebuilt = f"its weights are {images.dtype}, and the engine computes in float32"
    if isinstance(rebuilt, Supernet):
        return rebuilt
    name = type(structure.network).__name__
    if config.engine == "fast" or config.max_memory:
        option = "engine='fast'" if config.engine == "fast" else "max_memory, which only the fast engine has,"
        raise ConfigError(f"{option} cannot be used for {name}: {rebuilt}. Leave it out.")
    _log.info("the plain engine scores %s: %s", name, rebuilt)
    return net


def _make_context(
    space: SearchNetworkSpace,
    structure: SearchNetworkStructure,
    supernets: _FixedSupernet,
    batches: Batches,
    probe: Batch,
    config: SearchConfig,
    callbacks: Sequence[Callback],
) -> SearchContext:
    # ``net.channels`` are those of the first cell. A reduction cell has twice the network's initial channels.
    net = supernets.net
    channels, layers = net.channels // (2 if structure.kinds[0] == "reduce" else 1), space.count_layers()
    _, in_channels, height, width = probe.images.shape
    network_config = NetworkConfig(channels, layers, net.num_classes, in_channels, (height, width))
    if config.proposals > 1:
        space.check_network_config(network_config)
    config = replace(config, channels=channels, layers=layers)
    return SearchContext(
        space=space,
        config=config,
        batches=batches,
        supernets=supernets,
        network_config=network_config,
        budget_checker=BudgetChecker.from_config(space, config, network_config),
        device=next(structure.network.parameters()).device,
        callback=CallbackList(callbacks),
    )


_FIXED_BY_NETWORK = ("channels", "layers", "supernet_weights", "finalists")
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
        cannot = (
            f"discrete networks of space '{space.base_name}', which cannot build these cells ({space.build_obstacle})"
        )
        if budgets:
            raise ConfigError(f"{budgets[0]} is a limit for {cannot}: leave {budgets[0]} out.")
        if config.proposals > 1:
            raise ConfigError(f"proposals={config.proposals} are compared as {cannot}: use proposals=1.")
    return config


def _make_initial_mixture(
    space: SearchNetworkSpace, structure: SearchNetworkStructure, alphas: Mapping[str, Sequence[Tensor]] | None
) -> Mixture:
    """Return the mixture in which nothing is decided: equal shares, or the softmax of alpha."""
    mixture = Mixture.initial(space.choices)
    weights = dict(mixture.weights)
    for kind, rows in (alphas or {}).items():
        for index, ((node, source), row) in enumerate(zip(structure.positions, rows, strict=True)):
            name = darts.edge_name(kind, node, source) if kind != "cell" else nasbench201.edge_name(node, source)
            if name in weights:  # not where the network itself has struck the edge
                names = structure.candidates[kind][index]
                left = [names.index(candidate) for candidate in mixture.choices[name].candidates]
                weights[name] = compute_shares(row[left])
    return replace(mixture, weights=weights)


@dataclass(frozen=True)
class _FixedSupernet:
    """A ``SupernetSource`` of one supernet, the user's network, for all proposals."""

    net: SearchNetworkAdapter
    scored: nn.Module
    """The network as it is scored: the adapter, or the same network as a supernet for the fast engine."""
    config: SearchConfig

    def draw_initial_mixture(self, draw: int) -> Mixture:
        start = self.net.initial_mixture()
        return draw_mixture(tuple(start.choices.values()), self.config, draw) if self.config.alpha_noise else start

    def build_supernet(self, draw: int) -> nn.Module:
        return self.scored

    def move_batch(self, batch: Batch) -> Batch:
        return self.net.place(batch)
