"""Files and folders that the user may not read or write."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zcpt
from tests.zcpt.cli.conftest import content


@pytest.fixture
def shut(searched, tmp_path):
    """A finished run that everybody may read and nobody may write to, and a folder that nobody may look into."""
    run = shutil.copytree(searched, tmp_path / "run")
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
load_data("digits").train  # modules that are imported late may lie where nobody can read them
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
said = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        said.append([main([*words, "--device", "cpu"]), stderr.getvalue()])
sys.stdout.write(json.dumps(said))
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
def test_without_permission_there_is_one_sentence_too(shut):
    """As a user without rights: root may write everywhere."""
    before = content(shut)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(shut)],
        input=json.dumps(FORBIDDEN),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(zcpt.__file__).parents[1])},
    )
    for words, (code, err) in zip(FORBIDDEN, json.loads(done.stdout), strict=True):
        said = [line for line in err.splitlines() if line.startswith("zcpt: ")]
        assert (code, len(said)) == (2, 1), (words, err)
        assert re.search("secret|run", said[0]), words
    assert content(shut) == before
