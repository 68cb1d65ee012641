"""What a way to score operations is, the names of all, and the call that they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeGuard, TypeVar

from torch import Tensor, nn

from zcpt.architecture import Choice
from zcpt.batches import Batch, as_batch
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.proxies import Criterion, get_criterion
from zcpt.registry import Registry
from zcpt.scoring.criterion import refuse_blind
from zcpt.supernet import Supernet

Importances = dict[str, list[float]]
"""For each choice, by name, the importance of each of its rivals, in their order; larger is to be kept."""


class OperationScore(ABC):
    """A way to score the operations of a supernet. It has no state: a score depends on what it is given alone."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for lists; where it is empty, that of the docstring."""
    proxies: ClassVar[str] = "any"
    """'any': it is handed a proxy or an aggregate; 'none': it needs none; else the name of the one that it takes."""
    paper: ClassVar[str] = ""

    @abstractmethod
    def importances(
        self,
        net: nn.Module,
        mixture: Mixture,
        choices: Sequence[Choice],
        batches: Sequence[Batch],
        criterion: Criterion | None,
        seed: int,
    ) -> Importances:
        """Score the candidates of some choices.

        Args:
            net: A supernet, which is left as it was.
            mixture: In which these choices are not decided; others may be.
            choices: What to score.
            batches: At least one; the scores of a network are averaged over them.
            criterion: What networks are compared by; None where ``proxies`` is 'none'.
            seed: What random numbers come from.

        Returns:
            An importance for each of ``choice.selectable``; -inf where there is none.
        """


_SCORES: Registry[type[OperationScore]] = Registry("operation score", ConfigError)
Class = TypeVar("Class", bound=type[OperationScore])


def register_operation_score(score: Class) -> Class:
    """Decorate an OperationScore class, so that ``get_operation_score`` finds it under its name.

    Raises:
        ConfigError: The name is taken, or the class has none.
    """
    return _SCORES.decorator()(score)


def list_operation_scores() -> dict[str, type[OperationScore]]:
    """All operation scores by name."""
    return {name: _SCORES[name] for name in sorted(_SCORES)}


def get_operation_score(name: str) -> OperationScore:
    """Make the operation score of that name; ConfigError with the nearest name when there is none."""
    return _SCORES[name]()


def operation_scores(
    method: str | OperationScore,
    net: nn.Module,
    batches: Batch | tuple[Tensor, Tensor] | Sequence[Batch],
    proxy: str | Criterion | None = None,
    *,
    choices: Sequence[Choice] | None = None,
    mixture: Mixture | None = None,
    seed: int = 0,
) -> Importances:
    """How important the operations of a supernet are.

    Args:
        method: An operation score, or its name.
        net: A supernet, on its device; it is afterwards what it was.
        batches: One batch, which may be a pair of images and labels; or several ``Batch``, over which the scores of a
            network are averaged. On the network's device.
        proxy: What networks are compared by: a proxy, an aggregate, or the name of one; None for methods that bring
            theirs along or need none.
        choices: What to score; None means all that are not decided.
        mixture: Where some choices are decided already, their decisions; None is the start of a search. Needed where
            the network is no ``Supernet``.
        seed: What random numbers come from.

    Returns:
        For each choice, by name, the importance of each of ``choice.selectable``; larger is to be kept,
        -inf is not known.

    Raises:
        ConfigError: An unknown method; a proxy is missing, or not wanted; a choice is decided, or the mixture's none.
        ProxyError: The proxy is unknown, does not see mixtures, or cannot score the network.
    """
    score = get_operation_score(method) if isinstance(method, str) else method
    if mixture is None:
        if not isinstance(net, Supernet):
            raise ConfigError(f"{type(net).__name__} does not say its choices: pass mixture=Mixture.start(choices).")
        mixture = net.start()
    several = [as_batch(each) for each in (batches if _are_several(batches) else [batches])]
    if not several:
        raise ConfigError("there is no batch to score on: pass one, or several.")
    return score.importances(net, mixture, _open(mixture, choices), several, _criterion(score, proxy), seed)


def _are_several(batches: object) -> TypeGuard[Sequence[object]]:
    return isinstance(batches, Sequence) and not any(isinstance(part, Tensor) for part in batches)


def _open(mixture: Mixture, choices: Sequence[Choice] | None) -> Sequence[Choice]:
    """The choices, none of which the mixture has decided."""
    undecided = [choice for choice in mixture.choices.values() if not mixture.decides(choice)]
    if choices is None:
        return undecided
    for choice in choices:
        if choice not in undecided:
            what = f"'{choice.name}' is decided" if isinstance(choice, Choice) else f"{choice!r} is no Choice"
            raise ConfigError(f"{what}: score some of {', '.join(each.name for each in undecided) or 'none'}.")
    return choices


def _criterion(score: OperationScore, proxy: str | Criterion | None) -> Criterion | None:
    if score.proxies != "any" and proxy is not None:
        has = "needs no proxy" if score.proxies == "none" else f"is made with '{score.proxies}'"
        raise ConfigError(f"operation score '{score.name}' {has}: leave the proxy out.")
    if score.proxies == "none":
        return None
    if score.proxies != "any":
        proxy = score.proxies
    elif proxy is None:
        raise ConfigError(f"operation score '{score.name}' needs a proxy: give one of 'zcpt list proxies'.")
    criterion = get_criterion(proxy) if isinstance(proxy, str) else proxy
    refuse_blind(criterion, "Give another proxy.")
    return criterion
