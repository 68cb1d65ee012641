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
from zcpt.batches import as_batches
from zcpt.compat.adapter import Adopted
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import Anatomy, Primitives, architecture_parameters, examine
from zcpt.compat.snapshot import preserved
from zcpt.devices import place_batch
from zcpt.errors import ConfigError, unknown
from zcpt.mixture import Mixture
from zcpt.search import Listener, SearchConfig, configure
from zcpt.search.events import Audience
from zcpt.search.journal import Journal
from zcpt.search.propose import Fresh, Proposer
from zcpt.search.run import bounds_of, carry_out, check_enough
from zcpt.search.validate import Validator
from zcpt.space import Architecture, Shape

Shares = Literal["equal", "alpha"]


def select(
    model: object,
    batches: object,
    *,
    proxy: str = "naswot",
    order: str = "random",
    proposals: int = 1,
    seed: int = 0,
    shares: Shares = "equal",
    primitives: Primitives | None = None,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> Genotype:
    """Select a genotype from a DARTS-style search network by Zero-Cost-PT, in place of the arg max of alpha.

    The network is scored as it is, with its own weights, trained or not, on its own device. Afterwards it is bit for
    bit what it was, and so are the random generators, also when the call fails.

    Args:
        model: A search network in the shape of DARTS', DARTS-PT's or PC-DARTS'.
        batches: Training images: a DataLoader, a map-style data set, a pair of tensors (images [N, C, H, W],
            labels [N]), or ``Batches``.
        proxy: Zero-cost proxy that scores the network.
        order: Order in which edges are decided.
        proposals: How many genotypes are proposed; of several the best is chosen by validation of discrete networks
            from space 'darts', of the network's width and depth.
        seed: Seed of orders and batches.
        shares: What undecided operations weigh: equal shares, or the softmax of the network's alpha.
        primitives: Names of the operations, where the network's code has no PRIMITIVES: a list in the order of
            ``_ops``, or a mapping with 'normal' and 'reduce' to a list for every edge.
        listeners: Told of every decision, such as ``zcpt.monitor.Progress()``.
        options: Other fields of ``SearchConfig``, such as ``batch_size=64``.

    Raises:
        ConfigError: The model has another shape, or an option cannot be used with it; nothing has been scored.
        ZcptError: What else ``zcpt.search`` raises.
    """
    options = {"proxy": proxy, "order": order, "proposals": proposals, "seed": seed, **options}
    anatomy = examine(model, primitives)
    cells = AdoptedCells(anatomy)
    config = _configured(cells, shares, options)
    start = _start(cells, architecture_parameters(anatomy) if shares == "alpha" else None)
    assert isinstance(model, nn.Module)  # or else examine had raised
    with preserved(model):
        model.eval()
        # The network says how many classes there are, so that the data do not have to.
        source = as_batches(batches, num_classes=1)
        check_enough(source, config)
        device = next(anatomy.network.parameters()).device
        images = place_batch(source.draw(config.batch_size, seed=0), device).images
        net = Adopted(anatomy, start, images).eval()
        channels, layers = net.channels // (2 if anatomy.kinds[0] == "reduce" else 1), len(anatomy.kinds)
        shape = Shape(channels, layers, net.num_classes, images.shape[1], (images.shape[2], images.shape[3]))
        if config.proposals > 1:
            cells.check_shape(shape)
        config = replace(config, channels=channels, layers=layers)
        parts = (config, source, device, Journal(), Audience(listeners))
        origin = _Given(cells, shape, config, device, net)
        proposer = Proposer(cells, origin, *parts, bounds_of(cells, config, shape))
        result = carry_out(proposer, Validator(cells, shape, *parts))
    return cells.genotype(result.architecture)


class AdoptedCells(Darts):
    """The cells of somebody's search network: those of DARTS, with their own candidates and number of nodes."""

    def __init__(self, anatomy: Anatomy) -> None:
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

    def obstacle(self) -> str:
        """Why the space 'darts' cannot build these cells; empty if it can."""
        foreign = sorted(
            {name for choice in self.choices if choice.phase == 0 for name in choice.rivals} - {*OPERATIONS}
        )
        if foreign:
            return f"it has no operation '{foreign[0]}'"
        if self.nodes != NODES or self.joined != len(NODES):
            return f"its cells join 4 nodes, and these join {self.joined} of {len(self.nodes)}"
        return ""


def _configured(cells: AdoptedCells, shares: str, options: dict[str, Any]) -> SearchConfig:
    for name in ("channels", "layers", "supernet_weights"):
        if name in options:
            raise ConfigError(f"{name} is no option of zcpt.select, which scores the network as it is: leave it out.")
    config = configure(cells, None, **options)
    if shares not in ("equal", "alpha"):
        raise ConfigError(unknown("value of shares", str(shares), ("equal", "alpha")))
    if shares == "alpha" and config.alpha_noise:
        raise ConfigError("shares='alpha' takes the network's own architecture parameters: leave out alpha_noise.")
    if config.proposals > 1 and cells.obstacle():
        raise ConfigError(
            f"proposals={config.proposals} are compared as discrete networks of space 'darts', which cannot build "
            f"these cells ({cells.obstacle()}): use proposals=1."
        )
    return config


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
class _Given(Fresh):
    """The one network that all proposals are made on."""

    net: Adopted

    def start(self, draw: int) -> Mixture:
        return super().start(draw) if self.config.alpha_noise else self.net.start()

    def supernet(self, draw: int) -> Adopted:
        return self.net
