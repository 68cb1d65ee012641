"""The house rules of the code: which package may import which, and what no file may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SPACES = {"darts_space", "mobilenet_space"}
PACKAGES = ["zcpt", *sorted(SPACES), "train"]
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def names_of(path: Any) -> Any:
    return str(path.relative_to(ROOT))


def imported(path: Any) -> Any:
    """Every module that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{names_of(path)} has a relative import"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=names_of)
def test_imports_run_one_way(path: Any) -> None:
    modules = list(imported(path))
    package = names_of(path).split("/")[0]
    others = (SPACES | {"train"}) - {package}
    if "compat" in path.parts:
        others -= SPACES
    if "cli" not in path.parts and path.name != "__main__.py":
        assert not {module.split(".")[0] for module in modules} & others
        assert not any(module.startswith("zcpt.cli") for module in modules)
    inner = {"space.py", "mixture.py", "supernet.py"} if package == "zcpt" and path.parent.name == "zcpt" else set()
    if path.name in inner:
        assert not any(module.startswith(("zcpt.search", "zcpt.scoring", "zcpt.proxies")) for module in modules)


@pytest.mark.parametrize("path", FILES, ids=names_of)
def test_habits(path: Any) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is"
    assert len(text.splitlines()) <= 400, "a file over 400 lines holds two ideas"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec", "input")
        if isinstance(node, ast.Attribute):
            assert node.attr != "cuda" or "torch.cuda" in ast.unparse(node), "devices are named by the user"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names)
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            assert not all(isinstance(statement, ast.Pass) for statement in node.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno <= 60, f"{node.name} does not fit a screen"


def test_importing_zcpt_imports_no_space_no_data_and_no_training(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise RuntimeError('somebody else')")
    code = (
        f"import sys; sys.path.insert(1, {str(ROOT)!r}); import zcpt; "
        "foreign = 'train', 'darts_space', 'mobilenet_space', 'timm', 'torchvision', 'tensorboard', 'sklearn'; "
        "print([module for module in foreign if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_train_module_of_the_users_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "zcpt", "list"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"hidden by {tmp_path / 'train.py'}" in done.stderr


def test_every_setting_has_a_flag_of_its_own() -> None:
    from train.recipe import TrainConfig
    from zcpt.cli._parser import parse
    from zcpt.search import SearchConfig

    for command, settings in (("search", SearchConfig), ("train", TrainConfig)):
        for field in settings.__dataclass_fields__.values():
            if isinstance(field.default, bool):
                words = ["--no-" + field.name.replace("_", "-")]
            else:
                words = ["--" + field.name.replace("_", "-"), str(field.default)]
            value = getattr(parse([command, *words]), field.name)
            assert value == (False if isinstance(field.default, bool) else field.default)
