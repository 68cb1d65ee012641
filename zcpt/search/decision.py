"""A decision of stage 1: the candidates of a choice, their scores, and what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Purpose = Literal["decide", "survey", "settle"]


@dataclass(frozen=True)
class Decision:
    """One scoring of the remaining candidates of a choice, and what was kept: one line of the journal.

    A choice that keeps one candidate takes one decision; a choice that keeps several takes one for each candidate that
    it drops. Example of a line, shortened:

        {"step": 0, "choice": "node1/edge0", "candidates": ["none", "skip_connect", "nor_conv_3x3"],
         "scores": [812.1, 809.7, 790.2], "importance": [-812.1, -809.7, -790.2], "kept": ["nor_conv_3x3"],
         "seconds": 0.4, "purpose": "decide", "excluded": []}
    """

    step: int
    choice: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]
    """Proxy value of the supernet without the candidate. For an aggregate, which only ranks, minus the importance."""
    importance: tuple[float, ...]
    """Cost of removing the candidate; larger means keep."""
    kept: tuple[str, ...]
    """Candidates that remain; empty where no score is finite."""
    seconds: float
    purpose: Purpose = "decide"
    """``survey`` ranks the open choices and keeps all candidates; ``settle`` decides by the survey just before."""
    excluded: tuple[str, ...] = ()
    """Candidates that would leave no feasible architecture: if chosen, or, where several are kept, if dropped."""
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Scores by each proxy of an aggregate; empty for a single proxy."""

    @property
    def is_open(self) -> bool:
        """Return whether scores decide: neither a survey, nor a decision that budgets leave no choice."""
        return self.purpose != "survey" and len(set(self.candidates) - set(self.excluded)) > 1

    @property
    def is_tied(self) -> bool:
        """Return whether all candidates are equally important, so that only their order in the list decides."""
        allowed = {i for c, i in zip(self.candidates, self.importance, strict=True) if c not in self.excluded}
        return self.is_open and len(allowed) == 1

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Decision:
        """Read a record of the journal; fields that a newer version has added are left out."""
        known = cls.__dataclass_fields__
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
        values["parts"] = {name: tuple(scores) for name, scores in record.get("parts", {}).items()}
        return cls(**values)

    def to_record(self) -> dict[str, Any]:
        """Return the record for the journal; it has ``parts`` only for an aggregate."""
        record = asdict(self)
        if not self.parts:
            del record["parts"]
        return record
