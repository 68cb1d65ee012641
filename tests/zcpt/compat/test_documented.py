"""The Python examples of docs/drop-in.md, run on stand-ins of the code bases."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import zcpt
from tests.zcpt.compat.conftest import make_standin
from tests.zcpt.compat.standins import nasbench201, pdarts
from zcpt.compat.darts import Genotype
from zcpt.compat.structure import Structure

PAGE = Path(__file__).parents[3] / "docs" / "drop-in.md"
SWITCHES = [[True, False, True, True]] * 5
STANDINS: list[Callable[[], Any] | None] = [
    lambda: make_standin("darts"),
    lambda: make_standin("darts_pt"),
    lambda: make_standin("pc_darts"),
    nasbench201.TinyNetwork,
    lambda: pdarts.Network(SWITCHES, SWITCHES, steps=2),
    lambda: make_standin("darts"),
    None,
]
"""The stand-in for the ``model`` of each example; the last one has imports only."""


def test_the_examples_run(three_operations: None) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    train_queue = DataLoader(TensorDataset(torch.randn(64, 3, 4, 4), torch.arange(64) % 10), shuffle=True)
    for example, standin in zip(examples, STANDINS, strict=True):
        names: dict[str, Any] = {"zcpt": zcpt, "logging": logging, "train_queue": train_queue}
        names |= {"PRIMITIVES": pdarts.PRIMITIVES, "switches_normal": SWITCHES, "switches_reduce": SWITCHES}
        if standin is not None:
            names["model"] = standin()
        # The stand-in takes the place of the model that the example makes.
        code = re.sub(r"^model = .*$", "", example, flags=re.MULTILINE)
        exec(compile(code, str(PAGE), "exec"), names)
        assert standin is None or isinstance(names.get("genotype", names.get("structure")), Genotype | Structure)
