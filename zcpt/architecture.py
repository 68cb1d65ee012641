"""Choices, and the architectures that they lead to."""

from __future__ import annotations

import copyreg
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from zcpt.errors import SpaceError, describe_unknown_name
from zcpt.files import parse_json
from zcpt.printing import shorten

SCHEMA = 1
"""Version of the format of ``architecture.json``."""


def _make_read_only(mapping: Mapping[str, tuple[str, ...]]) -> MappingProxyType[str, tuple[str, ...]]:
    return MappingProxyType(dict(mapping))


# Processes exchange architectures, and Python can neither pickle nor deep-copy a read-only mapping by itself.
copyreg.pickle(MappingProxyType, lambda mapping: (_make_read_only, (dict(mapping),)))


_RENAMED = {"never_kept": "not_selectable", "rivals": "selectable", "looks": "round_sizes"}
"""Attribute of a choice in version 0.1 -> its name now."""


@dataclass(frozen=True)
class Choice:
    """One decision with its candidates: the operation of an edge, or which of its input edges a node keeps."""

    name: str
    candidates: tuple[str, ...]
    keep: int = 1
    """Number of candidates that an architecture keeps. With 1, one scoring of all candidates decides. With more, the
    least important candidate is dropped and the rest scored again, until ``keep`` are left."""
    start: Literal["share", "one"] = "share"
    """Weight of an undecided candidate: an equal share of 1, or 1 each."""
    group: str = ""
    """Choices of different groups, such as normal and reduction cells, are decided in parallel: in each step one choice
    of every group, all scored on the same batch."""
    phase: int = 0
    """All choices of a phase are decided before the next phase begins."""
    not_selectable: tuple[str, ...] = ()
    """Candidates that have a weight in the supernet but that no architecture keeps, such as RobustDARTS' 'none'."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Choice:
        if "never_kept" in kwargs:
            raise SpaceError("Choice(never_kept=...) is now called Choice(not_selectable=...): rename it.")
        return super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute by its name in version 0.1, with a warning; Python calls this for unknown names only."""
        if name not in _RENAMED:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        warnings.warn(f"Choice.{name} is now called {_RENAMED[name]}: rename it.", DeprecationWarning, stacklevel=2)
        return getattr(self, _RENAMED[name])

    def position(self, candidate: str) -> int:
        """Return the index of a candidate.

        Raises:
            SpaceError: The choice has no such candidate; the message gives the nearest name.
        """
        try:
            return self.candidates.index(candidate)
        except ValueError:
            message = describe_unknown_name(f"candidate of {self.name}", candidate, self.candidates)
            raise SpaceError(message) from None

    @property
    def selectable(self) -> tuple[str, ...]:
        """Candidates that may be kept, and so are scored."""
        return tuple(candidate for candidate in self.candidates if candidate not in self.not_selectable)

    @property
    def round_sizes(self) -> tuple[int, ...]:
        """Number of candidates scored in each round until the choice is decided.

        Five selectable candidates of which two are kept: (5, 4, 3). Of which one is kept: (5,).
        """
        count = len(self.selectable)
        if count <= self.keep:
            return ()
        return (count,) if self.keep == 1 else tuple(range(count, self.keep, -1))


@dataclass(frozen=True)
class Architecture:
    """Candidates that every choice of a space kept. Immutable and hashable.

    ``architecture["normal/node2/edge0"]`` is the candidate of a choice that keeps one; ``kept`` has the candidates of
    all choices.
    """

    space: str
    """Name of the space."""
    kept: Mapping[str, tuple[str, ...]]
    """Kept candidates by the name of the choice, in alphabetical order of the names; read-only."""

    def __post_init__(self) -> None:
        # Sorted, because equal architectures must have equal hashes; a copy, because the caller may change its own.
        object.__setattr__(self, "kept", _make_read_only(dict(sorted(self.kept.items()))))

    def __hash__(self) -> int:
        return hash((self.space, tuple(self.kept.items())))

    def __getitem__(self, choice: str) -> str:
        """Return the candidate of a choice that keeps one.

        Raises:
            SpaceError: The architecture has no such choice (with the nearest name), or the choice keeps several.
        """
        if choice not in self.kept:
            raise SpaceError(describe_unknown_name(f"choice of this {self.space} architecture", choice, self.kept))
        if len(self.kept[choice]) != 1:
            kept = ", ".join(f"'{candidate}'" for candidate in self.kept[choice])
            raise SpaceError(f"{choice} keeps {kept}, not one candidate: read architecture.kept['{choice}'].")
        return self.kept[choice][0]

    def to_json(self) -> dict[str, object]:
        """Return the document that ``architecture.json`` holds."""
        kept = {choice: list(names) for choice, names in self.kept.items()}
        return {"schema": SCHEMA, "space": self.space, "choices": kept}

    @classmethod
    def from_json(cls, text: str, source: str = "the text") -> Architecture:
        """Read the text of an ``architecture.json``.

        Args:
            text: The JSON document.
            source: Where it comes from, for messages.

        Raises:
            SpaceError: The text is not JSON, holds no architecture, or has another schema.
        """
        hint = "give the architecture.json that 'zcpt search' wrote"
        document = parse_json(text, source, hint=hint, error=SpaceError)
        if not isinstance(document, dict) or "space" not in document:
            raise SpaceError(
                f"{source} holds no architecture: a JSON object with 'schema', 'space' and 'choices' is expected."
            )
        if document.get("schema") != SCHEMA:
            raise SpaceError(
                f"{source} has schema {shorten(repr(document.get('schema')))}, and this version of zcpt reads schema "
                f"{SCHEMA}."
            )
        return cls(str(document["space"]), _read_choices(document.get("choices"), source))


def _read_choices(choices: object, source: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(choices, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in choices.values()
    ):
        raise SpaceError(f"'choices' of {source} must map each choice to the list of candidates that it keeps.")
    return {choice: tuple(names) for choice, names in choices.items()}


def check_space_name(architecture: Architecture, space: str) -> None:
    """Raise SpaceError unless an architecture belongs to the space of this name."""
    if architecture.space != space:
        raise SpaceError(f"the architecture belongs to space '{shorten(architecture.space)}', not to '{space}'.")


def check_kept(choice: Choice, kept: tuple[str, ...]) -> None:
    """Raise SpaceError unless ``kept`` is as many different selectable candidates as ``choice`` keeps."""
    for candidate in kept:
        choice.position(candidate)
        if candidate in choice.not_selectable:
            raise SpaceError(f"no architecture keeps '{candidate}' at {choice.name}.")
    if len(set(kept)) != choice.keep or len(kept) != choice.keep:
        raise SpaceError(f"{choice.name} keeps {choice.keep} of its candidates, not {shorten(list(kept))}.")
