"""Tabular benchmarks: architectures whose networks have all been trained, to measure proxies and searches by."""

from zcpt.tabular._table import Table
from zcpt.tabular.read import read_table

__all__ = ["Table", "read_table"]
