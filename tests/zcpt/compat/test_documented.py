"""The Python examples of docs/drop-in.md, run on stand-ins of the code bases."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import zcpt
from tests.zcpt.compat.conftest import make_standin
from zcpt.compat.darts import Genotype

PAGE = Path(__file__).parents[3] / "docs" / "drop-in.md"
STANDINS = ["darts", "darts", "darts_pt", "pc_darts", "darts", None]
"""The stand-in for the ``model`` of each example; the last one has imports only."""


def test_the_examples_run(three_operations: None) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    train_queue = DataLoader(TensorDataset(torch.randn(64, 3, 4, 4), torch.arange(64) % 10), shuffle=True)
    for example, standin in zip(examples, STANDINS, strict=True):
        names: dict[str, Any] = {"zcpt": zcpt, "logging": logging, "train_queue": train_queue}
        if standin is not None:
            names["model"] = make_standin(standin)
        # The stand-in takes the place of the model that the example makes.
        code = re.sub(r"^model = .*$", "", example, flags=re.MULTILINE)
        exec(compile(code, str(PAGE), "exec"), names)
        assert standin is None or isinstance(names["genotype"], Genotype)
