"""The interface of operation scores, their registry, and the function ``score_operations`` that runs one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard, TypeVar

from torch import Tensor

from zcpt.architecture import Choice
from zcpt.batches import Batch, as_batch
from zcpt.errors import ConfigError, refuse_old_names
from zcpt.mixture import Mixture
from zcpt.proxies import Criterion, get_criterion
from zcpt.registry import Registry
from zcpt.scoring import check_scores_operations
from zcpt.supernet import Scorable, Supernet

Importances = dict[str, list[float]]
"""The importance of each candidate in ``choice.selectable``, by the choice's name; larger means keep."""


@dataclass(frozen=True)
class ScoringTask:
    """The input of an operation score: a supernet, the choices to score, and the data."""

    net: Scorable
    """Supernet, on its device. It has to be left unchanged."""
    mixture: Mixture
    """Mixture in which none of ``choices`` is decided; other choices may be."""
    choices: Sequence[Choice]
    """Choices whose candidates are scored."""
    batches: Sequence[Batch]
    """At least one batch; the scores of a network are averaged over all."""
    criterion: Criterion | None
    """Proxy or aggregate that scores networks; None where ``OperationScore.proxies`` is 'none'."""
    seed: int
    """Seed of all random numbers."""


class OperationScore(ABC):
    """A method to score the candidates of a supernet's choices. It has no state: a score depends on its task alone."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for lists; empty stands for the first line of the docstring."""
    proxies: ClassVar[str] = "any"
    """'any': the user gives a proxy or an aggregate; 'none': no proxy; else the name of the one that it always uses."""
    paper: ClassVar[str] = ""
    needs_training: ClassVar[bool] = False
    """True if the supernet of the task has to be a trained one, and the mixture to have its shares."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, {"importances": "compute_importances"}, ConfigError)

    @abstractmethod
    def compute_importances(self, task: ScoringTask) -> Importances:
        """Score the candidates of some choices.

        Returns:
            An importance for each of ``choice.selectable``, larger means keep; -inf where it is undefined.
        """


_SCORES: Registry[type[OperationScore]] = Registry("operation score", ConfigError)
Class = TypeVar("Class", bound=type[OperationScore])


def register_operation_score(score: Class) -> Class:
    """Register a class of ``OperationScore`` under its name (a class decorator).

    Raises:
        ConfigError: The name is taken, or the class has none.
    """
    return _SCORES.decorator()(score)


def list_operation_scores() -> list[str]:
    """Return the names of all operation scores, sorted."""
    return sorted(_SCORES)


def get_operation_score(name: str) -> OperationScore:
    """Create the operation score with that name, with its defaults.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    return _SCORES[name]()


def score_operations(
    method: str | OperationScore,
    net: Scorable,
    batches: Batch | tuple[Tensor, Tensor] | Sequence[Batch | tuple[Tensor, Tensor]],
    proxy: str | Criterion | None = None,
    *,
    choices: Sequence[Choice] | None = None,
    mixture: Mixture | None = None,
    seed: int = 0,
) -> Importances:
    """Compute the importance of a supernet's candidate operations.

    Args:
        method: An operation score, or its name.
        net: A supernet, on its device. It is unchanged afterwards.
        batches: One batch, which may be a pair of images [B, C, H, W] and labels [B], or several; over several the
            scores of a network are averaged. They are on the network's device.
        proxy: A proxy, an aggregate, or the name of one, which scores networks; None for methods that need none or
            always use the same.
        choices: Choices to score; None scores all that are not decided.
        mixture: Mixture after the decisions made so far; None stands for the initial one. It is needed if ``net`` is
            not a ``Supernet``.
        seed: Seed of all random numbers.

    Returns:
        By the choice's name, the importance of each of ``choice.selectable``: larger means keep, -inf is undefined.

    Raises:
        ConfigError: The method is unknown; it needs a proxy and none is given, or takes none and one is; a choice is
            decided, or not in the mixture.
        ProxyError: The proxy is unknown, does not depend on the mixture, or cannot score the network.
    """
    operation_score = get_operation_score(method) if isinstance(method, str) else method
    if mixture is None:
        if not isinstance(net, Supernet):
            raise ConfigError(f"{type(net).__name__} has no list of choices: pass mixture=Mixture.initial(choices).")
        mixture = net.initial_mixture()
    batch_list = [as_batch(batch) for batch in (batches if _is_sequence_of_batches(batches) else [batches])]
    if not batch_list:
        raise ConfigError("there is no batch to score on: pass at least one.")
    undecided = _select_undecided(mixture, choices)
    criterion = _resolve_criterion(operation_score, proxy)
    return operation_score.compute_importances(ScoringTask(net, mixture, undecided, batch_list, criterion, seed))


def _is_sequence_of_batches(batches: object) -> TypeGuard[Sequence[object]]:
    # A pair (images, labels) is a sequence, too, and so is a Batch: both hold tensors.
    return isinstance(batches, Sequence) and not any(isinstance(part, Tensor) for part in batches)


def _select_undecided(mixture: Mixture, choices: Sequence[Choice] | None) -> Sequence[Choice]:
    """Return ``choices`` after a check that they are undecided, or all undecided choices of the mixture."""
    undecided = [choice for choice in mixture.choices.values() if not mixture.is_decided(choice)]
    if choices is None:
        return undecided
    for choice in choices:
        if choice not in undecided:
            problem = f"'{choice.name}' is decided" if isinstance(choice, Choice) else f"{choice!r} is not a Choice"
            allowed = ", ".join(choice.name for choice in undecided) or "none"
            raise ConfigError(f"{problem}: choices must be among {allowed}.")
    return choices


def _resolve_criterion(score: OperationScore, proxy: str | Criterion | None) -> Criterion | None:
    if score.proxies != "any" and proxy is not None:
        reason = "needs no proxy" if score.proxies == "none" else f"always uses '{score.proxies}'"
        raise ConfigError(f"operation score '{score.name}' {reason}: leave the proxy out.")
    if score.proxies == "none":
        return None
    if score.proxies != "any":
        proxy = score.proxies
    elif proxy is None:
        raise ConfigError(f"operation score '{score.name}' needs a proxy: give one of 'zcpt list proxies'.")
    criterion = get_criterion(proxy) if isinstance(proxy, str) else proxy
    check_scores_operations(criterion, "Give another proxy.")
    return criterion
