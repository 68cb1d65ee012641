"""What a search tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zcpt.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from zcpt.search.config import SearchConfig
    from zcpt.search.result import SearchResult


Purpose = Literal["decide", "survey", "settle"]


@dataclass(frozen=True)
class Decision:
    """One look at the candidates of a choice, and what was kept; ``importance`` is 'larger = keep'."""

    step: int
    choice: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]
    """Proxy value of the supernet without the candidate; of an aggregate minus the importance, as it only ranks."""
    importance: tuple[float, ...]
    kept: tuple[str, ...]
    """Empty where no score was finite."""
    seconds: float
    purpose: Purpose = "decide"
    """A survey only tells the order which choice is next, and keeps everything; to settle is to decide by the scores
    of the survey just before."""
    excluded: tuple[str, ...] = ()
    """Candidates that would have left no way to keep the budgets: by being chosen, or, where several are kept, by
    being dropped."""
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Where several proxies decide together: the scores of each."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Decision:
        """A decision as the journal holds it."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        values["parts"] = {name: tuple(scores) for name, scores in record.get("parts", {}).items()}
        return cls(**values)

    def to_record(self) -> dict[str, Any]:
        """What the journal holds of it; ``parts`` only where there are several."""
        record = asdict(self)
        return record if self.parts else {name: value for name, value in record.items() if name != "parts"}


class Listener:
    """Override what you want to hear. After a resume everything is told again from the journal, with ``replayed``."""

    def started(self, space: SearchSpace, config: SearchConfig) -> None:
        """The settings are known and nothing has been decided."""

    def decided(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """A decision, or a look at the candidates that decides nothing yet, is in the journal."""

    def proposed(self, proposal: int, architecture: Architecture) -> None:
        """All choices of a proposal are decided."""

    def validating(self, candidates: Sequence[Architecture]) -> None:
        """Stage 2 begins; with a single candidate it is skipped."""

    def validated(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        """Every candidate has been scored on one validation batch."""

    def finished(self, result: SearchResult) -> None:
        """The architecture is known."""

    def closed(self) -> None:
        """Nothing more will be told: the search is finished or has failed. Not told if nothing was before."""


class Audience(Listener):
    """All listeners of a search.

    Args:
        listeners: Those who are told.
        patient: Hold back what is replayed from a journal until the first thing that is new: a journal that turns
            out to belong to another search is then refused before anybody has acted on it.
    """

    def __init__(self, listeners: Sequence[Listener], patient: bool = False) -> None:
        self.listeners, self._patient = listeners, patient
        self._held: list[Callable[[Listener], None]] = []

    def _tell(self, message: Callable[[Listener], None], new: bool = False) -> None:
        self._held.append(message)
        self._patient = self._patient and not new
        if not self._patient:
            messages, self._held = self._held, []  # first: a listener that fails is not told again
            for held in messages:
                for listener in self.listeners:
                    held(listener)

    def started(self, space: SearchSpace, config: SearchConfig) -> None:
        self._tell(lambda listener: listener.started(space, config))

    def decided(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self._tell(lambda listener: listener.decided(proposal, decision, replayed), new=not replayed)

    def proposed(self, proposal: int, architecture: Architecture) -> None:
        self._tell(lambda listener: listener.proposed(proposal, architecture))

    def validating(self, candidates: Sequence[Architecture]) -> None:
        self._tell(lambda listener: listener.validating(candidates))

    def validated(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._tell(lambda listener: listener.validated(batch, scores, replayed), new=not replayed)

    def finished(self, result: SearchResult) -> None:
        self._tell(lambda listener: listener.finished(result), new=True)

    def closed(self) -> None:
        if not self._patient:
            self._tell(lambda listener: listener.closed())
