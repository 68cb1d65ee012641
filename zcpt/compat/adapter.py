"""An adapter that lets a mixture steer the mixed operations of another code base's search network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zcpt.architecture import Choice
from zcpt.batches import Batch
from zcpt.compat.inspection import MixedEdge, SearchNetworkStructure
from zcpt.compat.logits import Path, get_part
from zcpt.compat.observation import Observation, place_images
from zcpt.compat.steering import MethodReplacer, Row, Steering, reseed
from zcpt.mixture import Mixture
from zcpt.supernet import Stochastic


class SearchNetworkAdapter(Stochastic):
    """A search network of another code base as a supernet: its mixed operations follow a mixture instead of alpha.

    During a forward pass each mixed operation, or each cell that mixes the operations itself, gets the weights of the
    mixture in place of its own, and lists without the operations of weight 0. The rest of its forward runs unchanged,
    such as the partial channels and the shuffle of PC-DARTS. A mixed operation whose weights are all 0 gives zeros and
    computes nothing.

    Args:
        structure: The network, in evaluation mode.
        observation: What ``observe_network`` found.
        initial: The mixture in which nothing is decided.
    """

    def __init__(self, structure: SearchNetworkStructure, observation: Observation, initial: Mixture) -> None:
        super().__init__()
        self.network = structure.network
        self._mixers = structure.mixers
        self._initial = initial
        self._observation = observation
        self._steering = Steering(MethodReplacer(structure.mixers), dict(observation.shapes))

    @property
    def choices(self) -> Mapping[str, Choice]:
        """All choices, by name."""
        return self._initial.choices

    @property
    def num_classes(self) -> int:
        """Number of classes, which is that of the logits."""
        return self._observation.num_classes

    @property
    def logits_path(self) -> Path:
        """Path to the logits in the network's output."""
        return self._observation.logits

    @property
    def channels(self) -> int:
        """Output channels of the first edge."""
        return self._observation.shapes[min(self._observation.shapes)][0]

    def initial_mixture(self) -> Mixture:
        """Return the mixture in which nothing is decided."""
        return self._initial

    def place(self, batch: Batch) -> Batch:
        """Move a batch to the device and type of the network."""
        images = place_images(self.network, batch.images)
        return Batch(images, batch.labels.to(images.device), batch.seed)

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Run the network.

        Args:
            images: Images [B, C, H, W] of a batch from ``place``.
            mixture: Weights of all candidates; None means nothing decided.

        Returns:
            Logits [B, classes].

        Raises:
            SpaceError: The mixture belongs to another supernet.
        """
        mixture = self.initial_mixture() if mixture is None else mixture
        mixture.check_choices(self.choices)
        rows = [[_compute_row(edge, mixture) for edge in mixer.edges] for mixer in self._mixers]
        with self._steering.steer(rows, self.seed, mixture.feed_zeros):
            reseed(self.seed, images.device, "network")
            logits: Tensor = get_part(self.network(images), self._observation.logits)
        return logits


def _compute_row(edge: MixedEdge, mixture: Mixture) -> Row:
    """Return the weights of an edge's operations, times the weight of the edge among its node's inputs."""
    if edge.operation not in mixture.weights:  # the network itself has struck the edge
        return (0.0,) * len(edge.names)
    row = dict(zip(mixture.choices[edge.operation].candidates, mixture.weights[edge.operation], strict=True))
    kept = 1.0
    if edge.inputs in mixture.weights:
        inputs = dict(zip(mixture.choices[edge.inputs].candidates, mixture.weights[edge.inputs], strict=True))
        kept = inputs.get(str(edge.source), 0.0)
    return tuple(kept * row.get(name, 0.0) for name in edge.names)
