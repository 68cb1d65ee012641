"""Files and folders that the user may not read or write."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zcpt
from tests.zcpt.cli.conftest import content


@pytest.fixture
def protected(run_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """Make a finished run that is read-only, and a folder without any permission."""
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "train" / "digits" / ".lock").unlink(missing_ok=True)
    (run / ".lock").unlink(missing_ok=True)
    (tmp_path / "secret").mkdir()
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "secret").chmod(0o000)
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    yield tmp_path
    for path in (tmp_path / "secret", run, *run.rglob("*")):
        path.chmod(0o755)


AS_NOBODY = """
import contextlib, io, json, os, sys
from zcpt.cli import evaluate, main, search, train
from train.data import load_data
load_data("digits").train, b"x".decode("utf-8-sig")  # what is imported late may lie where this user cannot read
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
results = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        results.append([main([*words, "--device", "cpu"]), stderr.getvalue()])
sys.stdout.write(json.dumps(results))
"""
FORBIDDEN = [
    ["search", "--out", "run/a"],
    ["search", "--out", "secret/a/b"],
    ["search", "--resume", "run"],
    ["search", "--dataset", "folder:secret"],
    ["search", "--dataset", "folder:secret/pictures"],
    ["train", "--resume", "run/train/digits"],
    ["train", "--arch", "run/architecture.json", "--out", "run/b"],
    ["evaluate", "secret"],
]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without rights")
def test_missing_permission_is_reported_in_one_sentence(protected: Path) -> None:
    """Run as a user without rights, since root may write everywhere."""
    before = content(protected)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(protected)],
        input=json.dumps(FORBIDDEN),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(zcpt.__file__).parents[1])},
    )
    assert not done.returncode, done.stderr
    for words, (code, err) in zip(FORBIDDEN, json.loads(done.stdout), strict=True):
        sentences = [line for line in err.splitlines() if line.startswith("zcpt: ")]
        assert (code, len(sentences)) == (2, 1), (words, err)
        assert re.search("secret|run", sentences[0]), words
    assert content(protected) == before
