"""``zcpt predict`` and ``zcpt.load``."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import functional as F

import zcpt
from tests.test_house import ROOT
from tests.zcpt.cli.conftest import run
from train.data import load_data


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with two test images of the digits as pictures, and what else a folder may hold."""
    folder = tmp_path / "fünf und sechs"
    (folder / "more").mkdir(parents=True)
    images = load_data("digits").test
    F.to_pil_image(images[0][0]).save(folder / "first one.png")
    F.to_pil_image(images[1][0]).save(folder / "more" / "zwölf.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    return folder


def test_a_loaded_network_classifies_a_picture_as_its_image(run_folder: Path, pictures: Path) -> None:
    trained = zcpt.load(run_folder)
    image = load_data("digits").test[0][0]
    assert torch.equal(trained.transform(pictures / "first one.png"), trained.transform(image))
    assert trained.classes == tuple("0123456789")
    logits = trained.network(trained.transform(image)[None])
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (1, 10)
    file = run_folder / "train" / "digits" / "model.safetensors"
    again = zcpt.load(str(file)).network(trained.transform(image)[None])
    assert isinstance(again, torch.Tensor)
    assert torch.equal(again, logits)


def test_pictures_and_folders_are_predicted(
    run_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = ["predict", run_folder, pictures / "first one.png", pictures, "--device", "cpu"]
    code, out, err = run(capsys, *words, "--batch-size", 2)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(pictures / name) for name in ("first one.png", "first one.png", "more/zwölf.png")
    ]
    assert lines[0] == lines[1]
    assert all(line.count(" %") == 5 for line in lines)
    assert "2 pictures; left out: 1 .hidden.png, 1 .txt" in caplog.text
    assert run(capsys, *words)[1] == out


def test_json_has_the_probabilities_of_all_classes(
    run_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "predict", run_folder, pictures, "--json", "--top", 99, "--device", "cpu")
    documents = [json.loads(line) for line in out.splitlines()]
    trained = zcpt.load(run_folder)
    logits = trained.network(trained.transform(documents[1]["picture"])[None])
    assert isinstance(logits, torch.Tensor)
    found = {row["class"]: row["probability"] for row in documents[1]["predictions"]}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    torch.testing.assert_close(
        [found[name] for name in trained.classes], logits[0].softmax(0).tolist(), rtol=0, atol=1e-5
    )


def test_a_damaged_picture_is_named_and_the_others_are_predicted(
    run_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    code, out, err = run(capsys, "predict", run_folder, pictures, pictures / "missing.png", "--json")
    assert code == 2
    assert err == "zcpt: 2 of 4 pictures cannot be read.\n"
    documents = [json.loads(line) for line in out.splitlines()]
    assert [Path(document["picture"]).name for document in documents if "error" in document] == [
        "broken.png",
        "missing.png",
    ]
    assert len(documents) == 4
    assert "broken.png cannot be read" in caplog.text
    assert "missing.png cannot be read (No such file or directory)" in caplog.text


def test_names_come_from_the_standard_input(
    run_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pictures / 'first one.png'}\n\n{pictures / 'more'}\n"))
    code, out, _ = run(capsys, "predict", run_folder, "-", "--top", 1)
    assert (code, out.count(" %\n")) == (0, 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = run(capsys, "predict", run_folder, "-")
    assert (code, err) == (2, "zcpt: no picture is named on the standard input.\n")


def test_wrong_calls_are_explained(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "predict", run_folder, tmp_path)[2] == f"zcpt: {tmp_path} holds no pictures.\n"
    assert "--top 0 is too small" in run(capsys, "predict", run_folder, "a.png", "--top", 0)[2]
    assert "is missing" in run(capsys, "predict", tmp_path, "a.png")[2]


def test_a_module_of_the_user_that_hides_train_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise RuntimeError('a module of the user')")
    code = f"import sys; sys.path.insert(1, {str(ROOT)!r}); import zcpt; zcpt.load('runs/a')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(
        f"zcpt.errors.ConfigError: zcpt's package 'train' is hidden by {tmp_path}"
    )
