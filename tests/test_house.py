"""The rules of the code base: which module may import which, and what no file may contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("zcpt", "darts_space", "mobilenet_space", "train", "benchmarks", "scripts")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

LAYERS = (
    "zcpt.printing",
    "zcpt._version zcpt.errors",
    "zcpt._startup zcpt.progress zcpt.figures",
    "zcpt.versions zcpt.seeding zcpt.options zcpt.registry zcpt.files zcpt.processes zcpt.items zcpt.notation",
    "zcpt.event_files zcpt.folders zcpt.journal zcpt.workers zcpt.cost zcpt.architecture zcpt.batches",
    "zcpt.ray_workers zcpt.mixture zcpt.devices zcpt.snapshot zcpt.variation zcpt.discrete_network zcpt.values",
    "zcpt.supernet",
    "zcpt.space",
    "zcpt.layers zcpt.latency zcpt.space_registry",
    "zcpt.architecture_files zcpt.staged_network zcpt.cell_pictures",
    "zcpt.supernet_space",
    "zcpt.proxies",
    "zcpt.scoring",
    "zcpt.search",
    "zcpt.baselines zcpt.plot zcpt.trials",
    "zcpt.monitor zcpt.tabular",
    "zcpt._deprecated",
    "zcpt zcpt.testing",
    "darts_space mobilenet_space train",
    "zcpt.compat",
    "zcpt.cli",
    "zcpt.timm",
    "zcpt.__main__",
    "benchmarks scripts",
)
"""Rooms from the ground up. A room imports itself and rooms of lower layers, with the exceptions below."""
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms.split()}

METHOD = frozenset({"zcpt.proxies", "zcpt.scoring", "zcpt.search", "zcpt.baselines", "zcpt.trials", "zcpt.tabular"})
CONCRETE = frozenset({"darts_space", "mobilenet_space", "train"})
FORBIDDEN = {
    # Spaces and training know the contract of a space, and neither the method nor each other.
    **{room: METHOD | {"zcpt", "zcpt._deprecated", "zcpt.testing", "zcpt.plot", "zcpt.monitor"} for room in CONCRETE},
    # The drop-in reads the cells of darts_space; it needs no chains and no training.
    "zcpt.compat": frozenset({"mobilenet_space", "train", "zcpt.tabular", "zcpt.baselines", "zcpt.trials"}),
}
"""Rooms that a room must not import although they are on a lower layer."""
LAZY = {("zcpt", "zcpt.compat"), ("zcpt", "train")}
"""Imports inside a function that point up: ``zcpt.select`` and ``zcpt.load`` are loaded on first use."""
ENTRANCES = METHOD - {"zcpt.tabular"}
"""Packages that other rooms import by their public names only, not by their modules."""


def get_module(path: Path) -> str:
    """Return the dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_room(module: str) -> str:
    """Return the room of a module: the longest prefix that is one."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOOR and (length > 1 or len(parts) == 1 or parts[0] != "zcpt"):
            return ".".join(parts[:length])
    raise AssertionError(f"{module} has no room: add it to LAYERS")


def list_imports(source: str) -> Iterator[str]:
    """Yield every module of the project that a file imports anywhere, also inside functions and for type checking."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module
            if node.module.split(".")[0] in PACKAGES:
                for alias in node.names:
                    module = f"{node.module}.{alias.name}"
                    # `from zcpt.scoring import score` is the function, although a module has that name too.
                    yield module if module in MODULES and alias.name not in read_exports(node.module) else node.module


@cache
def read_exports(package: str) -> set[str]:
    """Return the public names of a package."""
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    names = re.search(r"__all__ = (\[.*?\])", path.read_text(), re.DOTALL) if path.exists() else None
    return set(ast.literal_eval(names[1])) if names else set()


MODULES = {get_module(path) for path in FILES}


def find_violations(module: str, source: str) -> list[str]:
    """Return a sentence for each import of a module that the rules forbid."""
    room, violations = find_room(module), []
    for imported in sorted(set(list_imports(source))):
        other = find_room(imported)
        if other == room or (room, other) in LAZY:
            continue
        if FLOOR[other] >= FLOOR[room]:
            violations.append(f"{module} imports {imported}, which is not below it")
        if other in FORBIDDEN.get(room, ()):
            violations.append(f"{module} imports {imported}, which {room} must not know")
        if other in ENTRANCES and imported != other and not room.startswith(("benchmarks", "scripts")):
            violations.append(f"{module} imports {imported}: take it from {other}")
        is_private = imported.rpartition(".")[2].startswith("_")
        if is_private and imported not in ("zcpt._version", "zcpt._startup", "zcpt._deprecated"):
            violations.append(f"{module} imports the private module {imported}")
    return violations


def find_circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the groups of two and more modules that import each other, directly or not."""

    def reach(start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            for module in imports.get(waiting.pop(), set()) - reached:
                reached.add(module)
                waiting.append(module)
        return reached

    reached = {module: reach(module) for module in imports}
    circles = []
    for module in imports:
        circle = {other for other in reached[module] if module in reached.get(other, set())}
        if len(circle) > 1 and circle not in circles:
            circles.append(circle)
    return circles


@pytest.mark.parametrize("path", FILES, ids=get_module)
def test_imports_run_one_way(path: Path) -> None:
    assert find_violations(get_module(path), path.read_text()) == []


def test_no_modules_import_each_other() -> None:
    imports = {get_module(path): set(list_imports(path.read_text())) - {get_module(path)} for path in FILES}
    # A package imports its own modules, and zcpt loads the drop-in on first use: neither is a circle.
    for package in [module for module in MODULES if any(other.startswith(f"{module}.") for other in MODULES)]:
        imports[package] = {m for m in imports.get(package, set()) if not m.startswith(f"{package}.")}
    imports["zcpt"] = set()
    assert find_circles(imports) == []


WRONG = [
    ("zcpt.proxies.zen", "from zcpt.search import SearchConfig", "not below"),
    (
        "zcpt.proxies.zen",
        "from zcpt.journal import Journal\ndef f():\n    from zcpt.search.run import search",
        "not below",
    ),
    ("zcpt.proxies.zen", "import zcpt", "not below"),
    ("zcpt.scoring.plain", "from zcpt.baselines import OperationScore", "not below"),
    ("zcpt.space", "from zcpt.supernet_space import SupernetSpace", "not below"),
    ("zcpt.mixture", "from zcpt.supernet import Supernet", "not below"),
    ("zcpt.architecture", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zcpt.space", "not below"),
    ("zcpt.versions", "from zcpt import __version__", "not below"),
    ("zcpt.search.run", "from darts_space.darts import Darts", "not below"),
    ("zcpt.search.run", "from train.data import load_data", "not below"),
    ("zcpt.search.run", "from zcpt.cli import main", "not below"),
    ("zcpt.tabular.searches", "from zcpt.monitor import Progress", "not below"),
    ("zcpt.errors", "from zcpt._version import __version__", "not below"),
    ("darts_space.darts", "from mobilenet_space.chain import Chain", "not below"),
    ("train.loop", "from darts_space.darts import Darts", "not below"),
    ("train.loop", "from benchmarks import engine", "not below"),
    ("train.loop", "from zcpt.search import SearchConfig", "must not know"),
    ("darts_space.darts", "from zcpt.proxies import Naswot", "must not know"),
    ("mobilenet_space.chain", "import zcpt", "must not know"),
    ("zcpt.compat.selection", "from train.data import load_data", "must not know"),
    ("zcpt.compat.selection", "from mobilenet_space.chain import Chain", "must not know"),
    ("zcpt.tabular.searches", "from zcpt.search.run import search", "take it from zcpt.search"),
    ("zcpt.search.config", "from zcpt.scoring.evaluator import Evaluator", "take it from zcpt.scoring"),
    ("zcpt.scoring.plain", "from zcpt.proxies._registry import Proxy", "private module"),
    ("benchmarks.engine", "from zcpt.proxies._registry import Proxy", "private module"),
]


@pytest.mark.parametrize(("module", "source", "complaint"), WRONG)
def test_a_wrong_import_of_each_kind_is_found(module: str, source: str, complaint: str) -> None:
    assert any(complaint in violation for violation in find_violations(module, source))


def test_a_circle_is_found() -> None:
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert find_circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", FILES, ids=get_module)
def test_habits(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module has a docstring"
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
            assert node.end_lineno
            assert node.end_lineno - node.lineno <= 60, f"{node.name} does not fit a screen"


def test_importing_zcpt_imports_no_space_no_data_and_no_training(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise RuntimeError('a module of the user')")
    code = (
        f"import sys; sys.path.insert(1, {str(ROOT)!r}); import zcpt; "
        "foreign = 'train', 'darts_space', 'mobilenet_space', 'timm', 'torchvision', 'tensorboard', 'sklearn'; "
        "print([module for module in foreign if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_module_of_the_user_that_hides_train_is_named(tmp_path: Path) -> None:
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
