"""Registries: parts by name, built in, added by a decorator, or added by installed packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from zcpt.errors import ConfigError, ZcptError, describe_unknown_name
from zcpt.printing import shorten

PLUGINS = "zcpt.plugins"
"""Entry-point group of packages that add parts; each entry point names a module that registers them."""

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Registry(Mapping[str, T], Generic[T]):
    """Parts of one kind by name.

    Looking up an unknown name loads the installed plugins, and so does listing all names. Known names do not, so that a
    broken plugin cannot break a search that does not use it.

    Args:
        kind: Kind of the parts, for messages, such as 'proxy'.
        error: Class of the error that an unknown or a taken name raises.
        listing: Command that lists all names.
        own: Built-in parts.
    """

    def __init__(
        self, kind: str, error: type[ZcptError], listing: str = "", own: Mapping[str, T] | None = None
    ) -> None:
        self._kind = kind
        self._error = error
        self._listing = listing
        self._parts: dict[str, T] = dict(own or {})
        self._origins: dict[str, str] = {}
        """Module and qualified name of what was decorated, by name of the part; built-in parts have none."""

    def decorator(
        self, name: str | None = None, *, convert: Callable[[Any], T] | None = None, required: Sequence[str] = ("name",)
    ) -> Callable[[Decorated], Decorated]:
        """Return a decorator that registers a class or function and leaves it unchanged.

        Defining the same class or function again, as when a notebook cell is run twice, replaces the earlier one.

        Args:
            name: Name to register under; None takes the class attribute ``name``.
            convert: Makes the registered part from what is decorated; None registers that itself.
            required: Attributes that a class must have if ``name`` is None.

        Returns:
            The decorator. It raises the registry's error if the name is taken or an attribute is missing.
        """

        def register(decorated: Decorated) -> Decorated:
            if name is None:
                self._check_attributes(decorated, required)
            key = getattr(decorated, "name", "") if name is None else name
            # A class keeps its module and qualified name when it is defined again; another class has a different one.
            origin = f"{decorated.__module__}.{decorated.__qualname__}"
            if key in self._parts and self._origins.get(key) != origin:
                article = "an" if self._kind[0] in "aeio" else "a"
                raise self._error(f"{article} {self._kind} named '{key}' exists already: choose another name.")
            self._parts[key] = convert(decorated) if convert else cast(T, decorated)
            self._origins[key] = origin
            return decorated

        return register

    def _check_attributes(self, decorated: Callable[..., Any], required: Sequence[str]) -> None:
        for attribute in required:
            if not hasattr(decorated, attribute):
                raise self._error(
                    f"{self._kind} {decorated.__name__} has no {attribute}: write '{attribute} = ...' into the class."
                )

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise self._error(describe_unknown_name(self._kind, name, self._parts, self._listing))
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


def is_built_in(part: object) -> bool:
    """Return whether the class of a part is one of zcpt's own, whose contract is tested, and not one of a user."""
    return type(part).__module__.partition(".")[0] == "zcpt"


def check_part_class(part: object, base: type, kind: str, error: type[ZcptError]) -> None:
    """Raise an error unless a part is a class derived from ``base`` that implements all of its abstract methods."""
    if not (inspect.isclass(part) and issubclass(part, base)):
        raise error(f"{shorten(part)} cannot be registered as {kind}: derive a class from zcpt.{base.__name__}.")
    if missing := sorted(getattr(part, "__abstractmethods__", ())):
        raise error(f"class {part.__name__} has no method {missing[0]}, which {kind} needs: implement it.")


@cache
def load_plugins() -> None:
    """Import the plugin modules of installed packages.

    Raises:
        ConfigError: A plugin cannot be imported.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:  # a third party's module may raise anything
            package = plugin.dist.name if plugin.dist else plugin.value
            reason = str(error).rstrip(".") or "no reason given"
            raise ConfigError(
                f"plugin '{plugin.name}' of package '{package}' cannot be loaded ({type(error).__name__}: {reason}): "
                f"fix it, or type 'pip uninstall {package}'."
            ) from error


def get_docstring_summary(documented: Callable[..., Any] | type) -> str:
    """Return the first line of a docstring without its full stop; empty if there is no docstring."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    return lines[0].rstrip(".") if lines else ""
