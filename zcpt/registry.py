"""Names, and what they stand for: our own parts, those that a decorator adds, and those of installed packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from zcpt.errors import ConfigError, ZcptError, unknown_name

PLUGINS = "zcpt.plugins"
"""Group of the entry points of packages that bring parts: each one names a module that registers them."""

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Parts of one kind by name.

    A name that is not known yet makes the installed plugins load, and so does listing all names.

    Args:
        kind: What the parts are, such as 'proxy'.
        error: What an unknown or a taken name raises.
        listing: A command that shows all names.
        own: The parts that are there from the start.
    """

    def __init__(
        self, kind: str, error: type[ZcptError], listing: str = "", own: Mapping[str, T] | None = None
    ) -> None:
        self._kind, self._error, self._listing = kind, error, listing
        self._parts: dict[str, T] = dict(own or {})
        self._origins: dict[str, str] = {}

    def register(self, name: str, part: T, defined: type | Callable[..., Any]) -> None:
        """Add a part.

        Args:
            name: Its name.
            part: The part.
            defined: The class or function that was decorated. When it is defined anew, as in a notebook, the new one
                takes the place of the old one; another one cannot have the name.
        """
        origin = f"{defined.__module__}.{defined.__qualname__}"
        if name in self._parts and self._origins.get(name) != origin:
            article = "an" if self._kind[0] in "aeio" else "a"
            raise self._error(f"{article} {self._kind} named '{name}' exists already: choose another name.")
        self._parts[name], self._origins[name] = part, origin

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise self._error(unknown_name(self._kind, name, self._parts, self._listing))
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._parts:
            load_plugins()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(tuple(self._parts))

    def __len__(self) -> int:
        load_plugins()
        return len(self._parts)


@cache
def load_plugins() -> None:
    """Import the modules that installed packages name as plugins.

    Raises:
        ConfigError: One of them cannot be imported.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:  # whatever a stranger's module raises
            package = plugin.dist.name if plugin.dist else plugin.value
            reason = str(error).rstrip(".") or "no reason given"
            raise ConfigError(
                f"plugin '{plugin.name}' of package '{package}' cannot be loaded ({type(error).__name__}: {reason}): "
                f"mend it, or type 'pip uninstall {package}'."
            ) from error


def first_line(documented: Callable[..., Any] | type) -> str:
    """What the first line of a docstring says, without its full stop; empty where there is none."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    return lines[0].rstrip(".") if lines else ""
