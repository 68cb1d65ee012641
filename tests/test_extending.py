"""docs/extending.md exactly as it stands: imported, installed as a third party's package, and used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import zcpt
from tests.conftest import documented_blocks, documented_file, random_architecture
from zcpt import NetworkConfig, ProxyError, SpaceError
from zcpt.space import SearchSpace
from zcpt.space_registry import _SPACES

ROOT = Path(__file__).parents[1]


def install(folder: Path, module: str, text: str) -> None:
    """Write a module and its entry point as pip does."""
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[zcpt.plugins]\n{module} = {module}\n")


def python(folder: Path, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python with modules from ``folder``."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


USE = """
from zcpt.cli import main

quick = "--validation-batches 2 --batch-size 8 --validation-batch-size 8 --device cpu".split()
commands = [
    ["search", "--space", "toy", "--dataset", "parity", "--proxy", "gradient-norm", "--out", "run", "--proposals", "3",
     "--max-params", "5k", *quick],
    ["train", "--arch", "run/architecture.json", "--recipe", "digits", "--epochs", "1", "--device", "cpu"],
    ["evaluate", "run"],
    ["replay", "run"],
    ["latency", "--space", "toy", "--out", "cpu.json", "--repeats", "1", "--device", "cpu"],
    ["list"],
]
raise SystemExit(max(main(command) for command in commands))
"""


def test_the_documented_parts_work_as_an_installed_package(tmp_path: Path) -> None:
    install(tmp_path / "site", "own_parts", documented_file())
    done = python(tmp_path / "site", "-c", USE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["search"]["proxy"] == "gradient-norm"
    architecture = json.loads((tmp_path / "run" / "architecture.json").read_text())
    assert architecture["space"] == "toy"
    assert "same" in done.stdout
    assert "test accuracy" in done.stdout
    for line in (
        "toy               Equal cells in a row; a cell is three operations, each added to what it reads\n",
        "  Norm of the gradient of the loss (Abdelfattah et al., ICLR 2021)\n",
        "parity       Handwritten digits 8x8: even or odd\n",
    ):
        assert line in done.stdout


def test_the_documented_tests_pass(documented_parts: ModuleType) -> None:
    documented_parts.test_own_parts()


def test_the_documented_operation_is_one_of_a_cell_space() -> None:
    space, seen = zcpt.get_space("darts-ghost"), set[str]()
    for seed in range(3):
        architecture = random_architecture(space, seed)
        assert space.parse(space.format(architecture)) == architecture
        config = NetworkConfig(channels=8, layers=3, image_size=(9, 8))
        network = space.build_network(architecture, config).eval()
        logits = network(torch.randn(2, 3, 9, 8))
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (2, 10)
        assert space.cost(architecture, config).params == sum(p.numel() for p in network.parameters())
        seen |= {name for kept in architecture.kept.values() for name in kept}
    assert "ghost_3x3" in seen
    assert space.build_supernet(config).eval()(torch.randn(2, 3, 9, 8)).shape == (2, 10)


def test_the_documented_file_is_a_command(tmp_path: Path) -> None:
    (tmp_path / "own_parts.py").write_text(documented_file())
    words = ["--proposals", "1", "--channels", "4", "--batch-size", "8", "--device", "cpu", "--out", "run"]
    done = python(tmp_path, "own_parts.py", "search", "--space", "toy", "--dataset", "parity", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "own_parts.py train --arch run/architecture.json" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("block", documented_blocks())
def test_no_block_has_more_than_thirty_lines(block: str) -> None:
    assert len([line for line in block.splitlines() if line.strip()]) <= 30


def test_the_error_of_a_broken_plugin_names_it(tmp_path: Path) -> None:
    install(tmp_path / "site", "broken", "import nowhere\n")
    found_without = "zcpt.get_space('darts'), zcpt.get_proxy('naswot')"
    use = f"import zcpt, zcpt.cli; {found_without}; raise SystemExit(zcpt.cli.main(['list']))"
    done = python(tmp_path / "site", "-c", use, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "zcpt: plugin 'broken' of package 'broken' cannot be loaded (ModuleNotFoundError: No module named "
        "'nowhere'): fix it, or type 'pip uninstall broken'.\n"
    )


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo registrations of spaces after the test."""
    monkeypatch.setattr(_SPACES, "_parts", dict(_SPACES._parts))


@pytest.mark.usefixtures("own_names")
def test_a_name_is_refused_unless_the_same_thing_is_defined_again() -> None:
    def mine() -> SearchSpace:
        space: SearchSpace = type("Mine", (type(zcpt.get_space("nasbench201")),), {"name": "mine"})()
        return space

    zcpt.register_space("mine")(mine)
    zcpt.register_space("mine")(mine)  # as when a notebook's cell is run again
    assert zcpt.get_space("mine").name == "mine"
    assert "mine" in zcpt.list_spaces()
    for taken in ("mine", "darts"):
        with pytest.raises(SpaceError, match=f"a space named '{taken}' exists already"):
            zcpt.register_space(taken)(type("Other", (), {}))


@pytest.mark.usefixtures("own_names")
def test_a_space_with_two_names_is_refused() -> None:
    zcpt.register_space("alias")(lambda: zcpt.get_space("nasbench201"))
    with pytest.raises(SpaceError, match="registered as 'alias' has the name 'nasbench201'"):
        zcpt.get_space("alias")


def test_a_proxy_without_name_or_direction_is_refused() -> None:
    score = zcpt.proxies.Naswot.score
    with pytest.raises(ProxyError, match="proxy Nameless has no name: write 'name = ...'"):
        zcpt.register_proxy(type("Nameless", (zcpt.Proxy,), {"score": score}))
    with pytest.raises(ProxyError, match="has no higher_is_better"):
        zcpt.register_proxy(type("Lost", (zcpt.Proxy,), {"name": "lost", "score": score}))
