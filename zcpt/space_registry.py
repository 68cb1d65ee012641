"""The registry of search spaces."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

from zcpt.errors import SpaceError
from zcpt.registry import Registry
from zcpt.space import SearchSpace


def _import_lazily(path: str) -> Callable[[], SearchSpace]:
    """Return a function that imports and makes a built-in space. ``import zcpt`` does not import all spaces."""

    def make() -> SearchSpace:
        space: SearchSpace = pkgutil.resolve_name(path)()
        return space

    return make


_SPACES: Registry[Callable[[], SearchSpace]] = Registry(
    "space",
    SpaceError,
    "zcpt list spaces",
    {
        "darts": _import_lazily("darts_space.darts:Darts"),
        **{f"darts-s{n}": _import_lazily(f"darts_space.robust_darts:DartsS{n}") for n in (1, 2, 3, 4)},
        "nasbench-macro": _import_lazily("mobilenet_space.nasbench_macro:NasBenchMacro"),
        **{
            f"nasbench1shot1-{n}": _import_lazily(f"darts_space.nasbench1shot1:NasBench1Shot1Space{n}")
            for n in (1, 2, 3)
        },
        "nasbench201": _import_lazily("darts_space.nasbench201:NasBench201"),
        "proxyless": _import_lazily("mobilenet_space.proxyless:Proxyless"),
    },
)
Make = TypeVar("Make", bound=Callable[[], SearchSpace])


def register_space(name: str) -> Callable[[Make], Make]:
    """Return a decorator that registers a SearchSpace class, or a function that returns a space.

    ``get_space(name)`` then finds it. The space must have the same ``name``; a class without one gets it.

    Raises:
        SpaceError: The name is taken.
    """

    def set_name(make: Make) -> Make:
        if isinstance(make, type) and "name" not in vars(make):
            cast(Any, make).name = name
        return make

    return _SPACES.decorator(name, convert=set_name)


def list_spaces() -> list[str]:
    """Return the names of all spaces."""
    return sorted(_SPACES)


def get_space(name: str) -> SearchSpace:
    """Return the space of a name; SpaceError with the nearest name if there is none."""
    space = _SPACES[name]()
    if space.name != name:
        raise SpaceError(
            f"the space that is registered as '{name}' has the name '{space.name}': give both the same name."
        )
    return space
