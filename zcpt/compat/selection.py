"""The selection step of Zero-Cost-PT for the search network of another code base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from darts_space.darts import Darts, darts_choices, edge_name, edges_into
from darts_space.darts_network import NODES
from darts_space.operations import OPERATIONS
from zcpt.architecture import Architecture
from zcpt.batches import Batch, as_batches
from zcpt.compat.adapter import Adopted
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import Anatomy, Primitives, architecture_parameters, examine
from zcpt.errors import ConfigError, unknown_name
from zcpt.mixture import Mixture
from zcpt.search import (
    Callback,
    SearchConfig,
    SearchContext,
    check_image_count,
    configure,
    draw_start_mixture,
    execute_search,
)
from zcpt.search.budgets import BudgetChecker
from zcpt.search.callbacks import CallbackList
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
    **options: Any,
) -> Genotype:
    """Select a genotype from a DARTS-style search network by Zero-Cost-PT, in place of the arg max of alpha.

    The network is scored as it is, with its own weights, trained or not, on its own device. Afterwards it is bit for
    bit what it was, and so are the random generators, also when the call fails.

    Args:
        model: A search network in the shape of DARTS', DARTS-PT's or PC-DARTS'.
        batches: Training images: a DataLoader, a map-style data set, a pair of tensors (images [N, C, H, W],
            labels [N]), or ``Batches``.
        preset: ``"paper"`` for the published procedure, with its 10 proposals.
        shares: What undecided operations weigh: equal shares, or the softmax of the network's alpha.
        primitives: Names of the operations, where the network's code has no PRIMITIVES: a list in the order of
            ``_ops``, or a mapping with 'normal' and 'reduce' to a list for every edge.
        listeners: Told of every decision, such as ``zcpt.monitor.Progress()``.
        options: Fields of ``SearchConfig``, such as ``proxy="naswot"``, ``seed=0`` or ``batch_size=64``. Without a
            preset there is one proposal; of several (``proposals=10``) the best is chosen by validation of discrete
            networks from space 'darts', of the network's width and depth.

    Raises:
        ConfigError: The model has another network_config, or an option cannot be used with it; nothing has been scored.
        ZcptError: What else ``zcpt.search`` raises.
    """
    anatomy = examine(model, primitives)
    cells = AdoptedCells(anatomy)
    config = _configured(cells, shares, preset, options)
    start = _start(cells, architecture_parameters(anatomy) if shares == "alpha" else None)
    assert isinstance(model, nn.Module)  # or else examine had raised
    with preserve(model):
        model.eval()
        for module in model.modules():
            # What module.compile() made would go on with the mixed operations as they are now.
            vars(module).pop("_compiled_call_impl", None)
        # The network says how many classes there are, so that the data do not have to.
        source = as_batches(batches, num_classes=1)
        check_image_count(source, config)
        probe = source.draw(config.batch_size, seed=0)
        net = Adopted(anatomy, start, probe).eval()
        channels, layers = net.channels // (2 if anatomy.kinds[0] == "reduce" else 1), len(anatomy.kinds)
        _, colours, height, width = probe.images.shape
        network_config = NetworkConfig(channels, layers, net.num_classes, colours, (height, width))
        if config.proposals > 1:
            cells.check_network_config(network_config)
        config = replace(config, channels=channels, layers=layers)
        context = SearchContext(
            space=cells,
            config=config,
            batches=source,
            supernets=_Given(net, config),
            network_config=network_config,
            budget_checker=BudgetChecker.from_config(cells, config, network_config),
            device=next(anatomy.network.parameters()).device,
            callback=CallbackList(callbacks),
        )
        result = execute_search(context)
    return cells.genotype(result.architecture)


class AdoptedCells(Darts):
    """The cells of somebody's search network: those of DARTS, with their own candidates and number of nodes."""

    def __init__(self, anatomy: Anatomy) -> None:
        # Those who listen see whose architectures they are; of one network, not of a class.
        self.name = type(anatomy.network).__name__  # type: ignore[misc]
        self.nodes, self.joined = anatomy.nodes, anatomy.joined
        candidates = anatomy.candidates
        # Of all candidates 'none' is the one that has no place in a genotype.
        none = {name for edges in candidates.values() for names in edges for name in names} & {"none"}
        self.choices = tuple(darts_choices(lambda kind, edge: candidates[kind][edge], tuple(none), self.nodes))

    def genotype(self, architecture: Architecture) -> Genotype:
        """The architecture as DARTS code bases read it."""
        last = 2 + len(self.nodes)
        joined = range(last - self.joined, last)
        pairs = self._pairs(architecture)
        return Genotype(list(pairs["normal"]), joined, list(pairs["reduce"]), joined)

    def format(self, architecture: Architecture) -> str:
        return repr(self.genotype(architecture))

    def obstacle(self) -> str:
        """Why the space 'darts' can neither build nor price these cells; empty if it can."""
        foreign = sorted(
            {name for choice in self.choices if choice.phase == 0 for name in choice.selectable} - {*OPERATIONS}
        )
        if foreign:
            return f"it has no operation '{foreign[0]}'"
        if self.nodes != NODES or self.joined != len(NODES):
            return f"its cells join 4 nodes, and these join {self.joined} of {len(self.nodes)}"
        return ""


_OF_THE_NETWORK = ("channels", "layers", "supernet_weights")
_BUDGETS = ("max_params", "max_macs", "max_latency")


def _configured(cells: AdoptedCells, shares: str, preset: str | None, options: dict[str, Any]) -> SearchConfig:
    for name in _OF_THE_NETWORK:
        if name in options:
            raise ConfigError(f"{name} is no option of zcpt.select, which scores the network as it is: leave it out.")
    if "valid_only" in options:
        raise ConfigError(
            "valid_only is no option of zcpt.select: cells of DARTS have no published list; leave it out."
        )
    config = configure(cells, preset, **{**({} if preset else {"proposals": 1}), **options})
    if shares not in ("equal", "alpha"):
        raise ConfigError(unknown_name("value of shares", str(shares), ("equal", "alpha")))
    if shares == "alpha" and config.alpha_noise:
        raise ConfigError("shares='alpha' takes the network's own architecture parameters: give alpha_noise=0.")
    limits = [name for name in ("max_params", "max_macs", "max_latency") if getattr(config, name)]
    for name in options:
        if name.startswith("train_") and not limits:
            raise ConfigError(
                f"{name} says what budgets are about, and none is given: give max_params, or leave it out."
            )
        if name.startswith("validation_") and config.proposals == 1:
            raise ConfigError(
                f"{name} is for comparing proposals, and there is one: give proposals=10, or leave it out."
            )
    if cells.obstacle():
        _refuse_discrete(cells.obstacle(), config, limits)
    return config


def _refuse_discrete(obstacle: str, config: SearchConfig, limits: Sequence[str]) -> None:
    cannot = f"discrete networks of space 'darts', which cannot build these cells ({obstacle})"
    if limits:
        raise ConfigError(f"{limits[0]} is a limit for {cannot}: leave {limits[0]} out.")
    if config.proposals > 1:
        raise ConfigError(f"proposals={config.proposals} are compared as {cannot}: use proposals=1.")


def _start(cells: AdoptedCells, alphas: Mapping[str, Tensor] | None) -> Mixture:
    """The mixture in which nothing is decided: equal shares, or the softmax of alpha."""
    mixture = Mixture.start(cells.choices)
    shares = {
        edge_name(kind, *edge): tuple(torch.softmax(row, dim=0).tolist())
        for kind, alpha in (alphas or {}).items()
        for edge, row in zip(edges_into(cells.nodes), alpha, strict=True)
    }
    return replace(mixture, weights={**mixture.weights, **shares})


@dataclass(frozen=True)
class _Given:
    """The one network that all proposals are made on."""

    net: Adopted
    config: SearchConfig

    def start(self, draw: int) -> Mixture:
        start = self.net.start()
        return (
            draw_start_mixture(tuple(start.choices.values()), self.config, draw) if self.config.alpha_noise else start
        )

    def supernet(self, draw: int) -> Adopted:
        return self.net

    def place(self, batch: Batch) -> Batch:
        return self.net.place(batch)
