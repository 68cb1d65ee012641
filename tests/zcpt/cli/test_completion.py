"""``zcpt completion``: scripts by which shells complete commands, flags and names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import zcpt
from tests.zcpt.cli.conftest import run
from zcpt.cli._parser import build_command_parser, list_commands, list_flags


@pytest.fixture
def bash_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    code, out, _ = run(capsys, "completion", "bash")
    assert code == 0
    (tmp_path / "script").write_text(out)
    return tmp_path / "script"


def complete(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    code = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _zcpt; '
        '[ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code, "bash", "zcpt", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_flags_and_names(bash_script: Path) -> None:
    assert complete(bash_script, "se") == ["search"]
    assert set(complete(bash_script, "")) > {name.split()[0] for name in list_commands()}
    assert complete(bash_script, "benchmark", "pr") == ["proxies"]
    for command in ("search", "train", "benchmark proxies"):
        offered = set(complete(bash_script, *command.split(), "-"))
        assert offered == {*list_flags(build_command_parser(command)), "--help"}
    assert complete(bash_script, "search", "--space", "") == zcpt.list_spaces()
    assert complete(bash_script, "benchmark", "search", "--proxy", "naswot-o") == ["naswot-official"]
    assert complete(bash_script, "search", "--engine", "") == ["auto", "plain", "fast"]
    assert complete(bash_script, "list", "sp") == ["spaces"]
    assert complete(bash_script, "train", "--arch", "") != []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_can_read_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "completion", shell)[1]
    assert all(f"--{word}" in out or f"-l {word}" in out for word in ("validation-batches", "clip-grad", "table"))
    if shutil.which(shell):
        (tmp_path / "script").write_text(out)
        done = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown shell 'bsh': did you mean 'bash'?" in run(capsys, "completion", "bsh")[2]
    assert "unknown shell 'tcsh'" in run(capsys, "completion", "tcsh")[2]
