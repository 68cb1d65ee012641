"""Trials whose values are accuracies of a tabular benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, DataError
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.trials import Measurement

GUIDE = "valid"
"""Metric that guides unless another one is given."""


class TableValue:
    """Accuracies of a tabular benchmark: one of them guides, and the test accuracy is reported.

    Args:
        table: Architectures and their accuracies.
        data_set: Data set of the table.
        guide: Metric that guides, by default the validation accuracy.
        metric: Metric that is reported, by default the test accuracy if the table has it.

    Raises:
        ConfigError: The table lacks the data set, or a metric of it.
    """

    def __init__(self, table: TabularBenchmark, data_set: str, guide: str = "", metric: str = "") -> None:
        self.table = table
        self.data_set = data_set
        try:
            table.get_accuracies(data_set, guide or GUIDE)
        except ConfigError:
            if guide or data_set not in table.data_sets:
                raise
            raise ConfigError(
                f"{table.path} has no validation accuracies of {data_set}, which would guide the search: choose others "
                f"with --guide, such as {table.choose_metric(data_set)}."
            ) from None
        self.guide = guide or GUIDE
        self.metric = table.choose_metric(data_set, metric)
        self.name = f"table:{self.guide} of {data_set}"

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Look up the accuracies of an architecture, in percent."""
        value = self.table.lookup(architecture, self.data_set, self.guide)
        if value is None:
            raise DataError(f"{self.table.path} has no accuracy of it.")
        reported = self.table.lookup(architecture, self.data_set, self.metric)
        return Measurement(value, {} if reported is None else {self.metric: reported})

    def describe(self) -> dict[str, Any]:
        """Return the table, with a hash of its accuracies."""
        return {
            **self.table.describe(self.data_set, self.guide),
            "reported": self.table.describe(self.data_set, self.metric)["content"],
            "reported_metric": self.metric,
        }

    def list_measured(self) -> list[Architecture]:
        """Return the architectures that have an accuracy, each network once."""
        is_listed = ~np.isnan(self.table.get_accuracies(self.data_set, self.guide))
        space = self.table.space
        chosen = (a for a, listed in zip(self.table.architectures, is_listed, strict=True) if listed)
        return list({space.canonicalize(architecture): architecture for architecture in chosen}.values())
