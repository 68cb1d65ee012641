"""The page on timm: its table, and its examples, which are executed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import zcpt.timm
from tests.conftest import random_architecture
from tests.test_docs import read_blocks
from tests.zcpt.timm.test_models import SIZES
from train.checkpoint import TrainedNetwork, save_network
from zcpt.space import NetworkConfig
from zcpt.timm.__main__ import main

PAGE = Path(__file__).parents[3] / "docs" / "timm.md"


def test_the_table_has_the_sizes_of_all_models() -> None:
    rows = re.findall(r"^\| `(zcpt_\w+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    shown = {name: tuple(number.strip() for number in row.split("|") if number.strip() != "-") for name, row in rows}
    assert shown == {
        name: tuple(text for params, macs in sizes for text in (f"{params:.3f}", f"{macs:.1f}"))
        for name, sizes in SIZES.items()
    }
    assert [published.name for published in zcpt.timm.list_published_networks()] == [name for name, _ in rows]


def test_the_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = zcpt.get_space("nasbench201")
    architecture, config = random_architecture(space, 0), NetworkConfig(4, 1, 2, 1, (8, 8))
    network = space.build_network(architecture, config)
    folder = tmp_path / "runs" / "digits" / "train" / "digits"
    folder.mkdir(parents=True)
    trained = TrainedNetwork(network, space, architecture, config, ((0.5,), (0.25,)), ("0", "1"), {"epochs": 1})
    save_network(folder / "model.safetensors", trained)
    namespace: dict[str, Any] = {}
    for language, text in read_blocks(str(PAGE), "python", "bash"):
        if language == "python":
            exec(text, namespace)
        else:
            program, flag, module, *words = shlex.split(text)
            assert (program, flag, module) == ("python", "-m", "zcpt.timm")
            main(words)
    assert list(namespace["network"].state_dict()) == list(network.state_dict())
