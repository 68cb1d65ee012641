"""The shell scripts: a search and the training of its architecture."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAKE = """#!{python}
import json, sys
words = sys.argv[3:]  # after -m zcpt
with open("calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
if words[0] == "search":
    sys.stdout.write(open("result").read())
sys.exit({code} if words[0] == "train" else 0)
"""


def search_and_train(folder: Path, result: str, *flags: str, code: int = 0) -> tuple[int, list[str]]:
    """Run the function of the scripts with a fake zcpt; return its exit code and the calls of zcpt."""
    fake = folder / "python"
    fake.write_text(FAKE.format(python=sys.executable, code=code))
    fake.chmod(0o755)
    (folder / "result").write_text(result)
    script = 'set -euo pipefail; source "$1"; python=./python; shift; search_and_train toy "--layers 1" "$@"'
    words = ["bash", "-c", script, "bash", str(ROOT / "scripts" / "_search_and_train.sh"), *flags]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    return done.returncode, (folder / "calls").read_text().splitlines()


def test_the_architecture_is_trained_with_the_flags_of_the_last_line(tmp_path: Path) -> None:
    result = "run folder    runs/a\nnext          python -m zcpt train --arch runs/a/architecture.json --layers 3\n"
    assert search_and_train(tmp_path, result, "--seed", "1") == (
        0,
        [
            '["search", "--space", "toy", "--layers", "1", "--seed", "1"]',
            '["train", "--arch", "runs/a/architecture.json", "--layers", "3"]',
        ],
    )


@pytest.mark.parametrize(
    "name",
    ["$(touch owned)", "`touch owned`", "a; touch owned; b", "a b", "it's", "&& touch owned", "*", "-m zcpt train "],
)
def test_the_name_of_a_run_folder_is_never_run_by_a_shell(name: str, tmp_path: Path) -> None:
    path = f"{name}/architecture.json"
    for text in (path, shlex.quote(path)):
        (tmp_path / "calls").unlink(missing_ok=True)
        result = f"next          python -m zcpt train --arch {text} --device cpu\n"
        _, calls = search_and_train(tmp_path, result)
        assert not (tmp_path / "owned").exists()
    assert json.loads(calls[1]) == ["train", "--arch", path, "--device", "cpu"]


def test_the_exit_code_is_that_of_the_training(tmp_path: Path) -> None:
    result = "next          python -m zcpt train --arch runs/a/architecture.json\n"
    assert search_and_train(tmp_path, result, code=2)[0] == 2


def test_nothing_is_trained_after_help(tmp_path: Path) -> None:
    code, calls = search_and_train(tmp_path, "usage: zcpt search\n  next to -m zcpt train\n", "--help")
    assert (code, calls) == (0, ['["search", "--help"]'])
