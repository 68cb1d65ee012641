"""The names under which search spaces are found."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

from zcpt.errors import SpaceError
from zcpt.registry import Registry
from zcpt.space import SearchSpace


def _ours(path: str) -> Callable[[], SearchSpace]:
    """Import a space of ours when it is first made: not every program needs all of them."""

    def make() -> SearchSpace:
        space: SearchSpace = pkgutil.resolve_name(path)()
        return space

    return make


_SPACES: Registry[Callable[[], SearchSpace]] = Registry(
    "space",
    SpaceError,
    "zcpt list spaces",
    {
        "darts": _ours("darts_space.darts:Darts"),
        **{f"darts-s{n}": _ours(f"darts_space.robust_darts:DartsS{n}") for n in (1, 2, 3, 4)},
        "nasbench-macro": _ours("mobilenet_space.nasbench_macro:NasBenchMacro"),
        **{f"nasbench1shot1-{n}": _ours(f"darts_space.nasbench1shot1:NasBench1Shot1Space{n}") for n in (1, 2, 3)},
        "nasbench201": _ours("darts_space.nasbench201:NasBench201"),
        "proxyless": _ours("mobilenet_space.proxyless:Proxyless"),
    },
)
Make = TypeVar("Make", bound=Callable[[], SearchSpace])


def register_space(name: str) -> Callable[[Make], Make]:
    """Decorate a class or function that makes a SearchSpace, so that ``get_space(name)`` finds it.

    The space must call itself by that name too; a class that says no name gets it.

    Raises:
        SpaceError: The name is taken.
    """

    def set_name(make: Make) -> Make:
        if isinstance(make, type) and "name" not in vars(make):
            cast(Any, make).name = name
        return make

    return _SPACES.decorator(name, convert=set_name)


def list_spaces() -> list[str]:
    """Names of all spaces."""
    return sorted(_SPACES)


def get_space(name: str) -> SearchSpace:
    """Make the space of that name; SpaceError with the nearest name when there is none."""
    space = _SPACES[name]()
    if space.name != name:
        raise SpaceError(f"the space that is registered as '{name}' calls itself '{space.name}': give both one name.")
    return space
