"""The shell scripts: a search, and the training of its architecture by the same program."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zcpt.cli.conftest import QUICK, run

ROOT = Path(__file__).parents[3]
FAKE = """#!{python}
import json, sys
with open("calls", "a") as file:
    file.write(json.dumps(sys.argv[3:]) + "\\n")  # after -m zcpt
sys.stdout.write("next          python -m zcpt train --arch $(touch owned); touch owned\\n")
sys.exit({code})
"""


def search_and_train(folder: Path, *flags: str, code: int = 0) -> tuple[int, list[str]]:
    """Run the function of the scripts with a fake zcpt; return its exit code and the words of its only call."""
    fake = folder / "python"
    fake.write_text(FAKE.format(python=sys.executable, code=code))
    fake.chmod(0o755)
    script = 'set -euo pipefail; source "$1"; python=./python; shift; search_and_train toy "--layers 1" "$@"'
    words = ["bash", "-c", script, "bash", str(ROOT / "scripts" / "_search_and_train.sh"), *flags]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    (call,) = (folder / "calls").read_text().splitlines()
    assert not (folder / "owned").exists()
    return done.returncode, json.loads(call)


SMALL = ["--space", "toy", "--layers", "1"]


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        (["--seed", "1"], SMALL),
        (["--out", "$(touch owned)"], SMALL),
        (["--out", "a\nnext          ./python -m zcpt train; touch owned"], SMALL),
        (["--resume", "a b"], []),
        (["--dataset", "cifar10"], SMALL[:2]),
        (["--dataset", "digits"], SMALL),
        (["--preset", "paper"], SMALL[:2]),
        (["--help"], []),
    ],
)
def test_one_program_searches_and_trains_and_no_shell_reads_its_output(
    flags: list[str], first: list[str], tmp_path: Path
) -> None:
    assert search_and_train(tmp_path, *flags) == (0, ["search", "--then-train", *first, *flags])


def test_the_exit_code_is_that_of_the_program(tmp_path: Path) -> None:
    assert search_and_train(tmp_path, code=2)[0] == 2


@pytest.mark.parametrize("name", ["runs/a", "a b\nnext python -m zcpt train --arch b\x1b[2J"])
def test_a_search_trains_its_architecture_in_the_same_process(
    name: str, run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_folder, cwd / name)
    for path in (cwd / name / "train" / "digits").iterdir():
        if path.name not in ("args.yaml", "architecture.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, out, err = run(capsys, "search", "--resume", name, "--then-train", "--device", "cpu")
    assert code == 0, err
    answer = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert {"architecture", "test", "next"} <= set(answer)
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert (cwd / name / "train" / "digits" / "model.safetensors").exists()


@pytest.mark.parametrize("flag", ["--out", "--resume", "-c", "--data-dir", "--dataset"])
def test_a_name_that_is_no_utf8_is_refused(flag: str, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "search", flag, "a\udcff")
    assert (code, out) == (2, "")
    assert err.startswith(r"zcpt: 'a\xff' is not valid UTF-8: ")
    assert list(cwd.iterdir()) == []


def test_a_search_that_fails_trains_nothing(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "search", "--then-train", "--space", "nasbench201", "--max-params", "1", *QUICK)
    assert (code, out) == (2, "")
    assert list(cwd.iterdir()) == []
