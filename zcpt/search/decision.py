"""A decision of stage 1: the candidates of a choice, their scores, and what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
