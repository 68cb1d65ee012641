"""Choices, and architectures: what a search keeps of every choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zcpt.errors import SpaceError, describe_unknown_name

SCHEMA = 1


@dataclass(frozen=True)
class Choice:
    """One decision: the operation of an edge, or which of its inputs a node keeps."""

    name: str
    candidates: tuple[str, ...]
    keep: int = 1
    """How many candidates stay. With 1 all are looked at once; with more the least important one is dropped, again and
    again, until so many are left."""
    start: Literal["share", "one"] = "share"
    """Weight of an undecided candidate: an equal share of 1, or 1 each."""
    group: str = ""
    """Choices of different groups (normal and reduction cells) are decided side by side: one step, one batch."""
    phase: int = 0
    """All choices of a phase are decided before the next phase begins."""
    not_selectable: tuple[str, ...] = ()
    """Candidates that have their share of the mixture but that no architecture keeps, such as RobustDARTS' 'none'."""

    def position(self, candidate: str) -> int:
        """Index of a candidate; SpaceError with the nearest one when there is none of that name."""
        try:
            return self.candidates.index(candidate)
        except ValueError:
            message = describe_unknown_name(f"candidate of {self.name}", candidate, self.candidates)
            raise SpaceError(message) from None

    @property
    def selectable(self) -> tuple[str, ...]:
        """The candidates that may be kept, and so are compared."""
        return tuple(candidate for candidate in self.candidates if candidate not in self.not_selectable)

    @property
    def round_sizes(self) -> tuple[int, ...]:
        """How many candidates are scored, look by look, until the choice is decided."""
        count = len(self.selectable)
        if count <= self.keep:
            return ()
        return (count,) if self.keep == 1 else tuple(range(count, self.keep, -1))


@dataclass(frozen=True)
class Architecture:
    """What was kept, choice by choice, in one space."""

    space: str
    kept: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", dict(sorted(self.kept.items())))

    def __hash__(self) -> int:
        return hash((self.space, tuple(self.kept.items())))

    def __getitem__(self, choice: str) -> str:
        """The one candidate that a choice kept."""
        (candidate,) = self.kept[choice]
        return candidate

    def to_json(self) -> dict[str, object]:
        """The document that ``architecture.json`` holds."""
        kept = {choice: list(names) for choice, names in self.kept.items()}
        return {"schema": SCHEMA, "space": self.space, "choices": kept}

    @classmethod
    def from_json(cls, text: str, source: str = "the text") -> Architecture:
        """Read what ``to_json`` wrote. SpaceError says what is wrong with it and where it came from."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise SpaceError(
                f"{source} is not a complete JSON document ({error.msg}, {where}): "
                "give the architecture.json that 'zcpt search' wrote."
            ) from None
        if not isinstance(document, dict) or "space" not in document:
            raise SpaceError(
                f"{source} holds no architecture: a JSON object with 'schema', 'space' and 'choices' is expected."
            )
        if document.get("schema") != SCHEMA:
            raise SpaceError(
                f"{source} has schema {document.get('schema')!r}, and this version of zcpt reads schema {SCHEMA}."
            )
        return cls(str(document["space"]), _choices_from(document.get("choices"), source))


def _choices_from(choices: object, source: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(choices, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in choices.values()
    ):
        raise SpaceError(f"'choices' of {source} must map each choice to the list of candidates that it keeps.")
    return {choice: tuple(names) for choice, names in choices.items()}


def check_kept(choice: Choice, kept: tuple[str, ...]) -> None:
    """SpaceError unless ``kept`` is the right number of different candidates of ``choice``."""
    for candidate in kept:
        choice.position(candidate)
        if candidate in choice.not_selectable:
            raise SpaceError(f"no architecture keeps '{candidate}' at {choice.name}.")
    if len(set(kept)) != choice.keep or len(kept) != choice.keep:
        raise SpaceError(f"{choice.name} keeps {choice.keep} of its candidates, not {list(kept)}.")
