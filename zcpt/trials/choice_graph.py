"""Graph of a space's choices, and a graph network that ranks architectures by comparisons of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.architecture import Architecture
from zcpt.seeding import use_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Concat, Mixed, Sum

_MAX_COMPARED = 512
"""Largest number of architectures that are compared in one step of training."""


class ChoiceGraph:
    """Choices of a space as the nodes of a graph, with one more node that reads all of them.

    Two choices are neighbours if one reads the result of the other in the supernet, possibly through fixed steps. Where
    cells share their choices, the first cell of each kind counts.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._names = [choice.name for choice in space.choices]
        vocabulary = dict.fromkeys(name for choice in space.choices for name in choice.selectable)
        # A feature for every candidate of every choice would tell more, and ranks worse after few trials.
        self._columns = {name: column for column, name in enumerate(vocabulary)}
        self.num_features = len(vocabulary) + len(self._names) + 1
        """Length of a node's features: the kept candidates, and which node it is."""
        neighbors = self._build_adjacency() + torch.eye(len(self._names) + 1, dtype=torch.float64)
        self.adjacency = neighbors / neighbors.sum(dim=1, keepdim=True)
        """Weights [nodes, nodes] of the mean over a node and its neighbours; the global node is the first one."""

    def _build_adjacency(self) -> Tensor:
        adjacency = torch.zeros(len(self._names) + 1, len(self._names) + 1, dtype=torch.float64)
        adjacency[0, 1:] = 1
        for source, target in list_arrows(self.space):
            row, column = self._names.index(source) + 1, self._names.index(target) + 1
            adjacency[row, column] = adjacency[column, row] = 1
        return adjacency

    def encode(self, architectures: Sequence[Architecture]) -> Tensor:
        """Return the features [N, nodes, features] of architectures."""
        count = len(self._names)
        features = torch.zeros(len(architectures), count + 1, self.num_features, dtype=torch.float64)
        features[:, :, -count - 1 :] = torch.eye(count + 1, dtype=torch.float64)
        where = [
            (index, node, self._columns[candidate])
            for index, architecture in enumerate(architectures)
            for node, name in enumerate(self._names, 1)
            for candidate in architecture.kept.get(name, ())
        ]
        if where:
            features[tuple(torch.tensor(where).T)] = 1
        return features


def list_arrows(space: SearchSpace) -> list[tuple[str, str]]:
    """Return the pairs of choices of which the second, where it is used first, reads the first one's result; sorted."""
    size = space.small_size
    # Only the program is read; its weights must not change the random numbers of the caller.
    with use_seed(0):
        program = space.build_supernet(NetworkConfig(size.channels, size.layers)).program
    origins: dict[str, set[str]] = {}
    arrows: set[tuple[str, str]] = set()
    reached: set[str] = set()
    for step in program:
        sources = step.sources if isinstance(step, Sum | Concat) else (step.source,)
        read = set().union(*(origins.get(source, set()) for source in sources))
        choice = step.choice if isinstance(step, Sum | Mixed) else None
        if choice is not None and choice not in reached:
            arrows |= {(origin, choice) for origin in read}
            reached.add(choice)
        origins[step.out] = read if choice is None else {choice}
    return sorted(arrows)


class PairPredictor(nn.Module):
    """Graph network that predicts which of two architectures is better.

    Args:
        graph: Graph of the choices.
        width: Features of a node in the layers.
        layers: Number of graph convolutions.
        dropout: Probability with which training drops a feature.
    """

    def __init__(self, graph: ChoiceGraph, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.graph = graph
        sizes = [graph.num_features, *[width] * layers]
        self.convolutions = nn.ModuleList(
            nn.Linear(source, target, dtype=torch.float64) for source, target in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, dtype=torch.float64) for _ in range(layers))
        self.head = nn.Linear(width, 1, bias=False, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return the strength [N] of architectures; the difference of two is the logit that the first is better.

        Args:
            features: [N, nodes, features].
        """
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = self.dropout(F.relu(norm(self.graph.adjacency @ convolution(features))))
        strengths: Tensor = self.head(features[:, 0])[:, 0]
        return strengths

    def fit(
        self, architectures: Sequence[Architecture], values: Sequence[float], *, steps: int, lr: float, decay: float
    ) -> None:
        """Train with AdamW on all pairs of architectures; dropout draws from torch's generator.

        Args:
            architectures: Two or more architectures.
            values: Their values; -inf is worse than every other.
            steps: Number of steps, over which the learning rate falls to 0 in a cosine.
            lr: Learning rate.
            decay: Weight decay.
        """
        features, targets = self.graph.encode(architectures), torch.tensor(values, dtype=torch.float64)
        optimizer = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        self.train()
        for _ in range(steps):
            compared = torch.randperm(len(targets))[:_MAX_COMPARED] if len(targets) > _MAX_COMPARED else slice(None)
            optimizer.zero_grad()
            loss = compute_pair_loss(self(features[compared]), targets[compared])
            torch.autograd.backward([loss])
            optimizer.step()
            schedule.step()
        self.eval()

    @torch.no_grad()
    def predict(self, architectures: Sequence[Architecture]) -> list[float]:
        """Return the strengths of architectures: sorted by them, each is predicted to be better than all before it."""
        self.eval()
        strengths: list[float] = self(self.graph.encode(architectures)).tolist()
        return strengths


def compute_pair_loss(strengths: Tensor, values: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over all pairs of different architectures.

    Args:
        strengths: [N]; their differences are the logits.
        values: [N]; of a pair the higher one is better, and equal ones are better with probability 1/2 each.
    """
    is_better = (values[:, None] > values).double() + (values[:, None] == values).double() / 2
    losses = F.binary_cross_entropy_with_logits(strengths[:, None] - strengths, is_better, reduction="none")
    count = len(values)
    return (losses.sum() - losses.diagonal().sum()) / (count * (count - 1))
