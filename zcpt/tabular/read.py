"""Readers of benchmark files, by search space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space
from zcpt.tabular import nasbench101, nasbench201, nasbench301, nasbench_macro
from zcpt.tabular._benchmark import TabularBenchmark

READERS: dict[str, Callable[[Path, SearchSpace], TabularBenchmark]] = {
    "nasbench201": nasbench201.read,
    "nasbench-macro": nasbench_macro.read,
    "nasbench1shot1-1": nasbench101.read,
    "nasbench1shot1-2": nasbench101.read,
    "nasbench1shot1-3": nasbench101.read,
    "darts": nasbench301.read,
}
"""Readers by the name of the space."""


def read_table(path: str | Path, space: SearchSpace | str) -> TabularBenchmark:
    """Read the file of a benchmark.

    Args:
        path: A CSV file, gzipped or not, or a file that the benchmark publishes; docs/benchmarks.md lists the columns.
        space: The space of the architectures, or its name.

    Raises:
        ConfigError: There is no benchmark of the space.
        DataError: The file is missing or damaged; the message names the line.
    """
    space = get_space(space) if isinstance(space, str) else space
    if space.name not in READERS:
        raise ConfigError(describe_unknown_name("space with a benchmark", space.name, READERS))
    return READERS[space.name](Path(path), space)
