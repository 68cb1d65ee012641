"""Tabular benchmarks: architectures whose networks have all been trained, as ground truth for proxies and searches."""

from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular.read import read_table

__all__ = ["TabularBenchmark", "read_table"]
