"""The context of a search: everything that both stages share, handed over once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from zcpt.batches import Batches
from zcpt.journal import Journal
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.search.budgets import BudgetChecker
from zcpt.search.callbacks import Callback
from zcpt.search.config import SearchConfig
from zcpt.search.supernets import SupernetSource
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.values import Value


@dataclass(frozen=True)
class SearchContext:
    """Everything that stage 1 and stage 2 need; it does not change during a search."""

    space: SearchSpace
    config: SearchConfig
    batches: Batches
    supernets: SupernetSource
    network_config: NetworkConfig
    """Configuration of the supernet, and of the discrete networks that stage 2 scores."""
    budget_checker: BudgetChecker
    device: torch.device
    journal: Journal = field(default_factory=Journal)
    callback: Callback = field(default_factory=Callback)
    processes: ProcessGroup = SINGLE_PROCESS
    finalist_value: Value | None = None
    """What measures the finalists; None if there are none."""
    workers: int = 1
    """Processes that measure finalists side by side, where the search itself is in one."""
