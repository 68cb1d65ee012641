"""The commands and examples of the pages on pictures, old weights and exports, on small networks."""

from __future__ import annotations

import ast
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import zcpt
from darts_space.genotype import read_genotype
from darts_space.published import get_genotype
from tests.test_docs import read_blocks
from tests.zcpt.cli.conftest import QUICK, SMALL_TRAINING
from tests.zcpt.compat.standins.darts_model import Network
from zcpt import ConfigError, DataError
from zcpt.cli import main
from zcpt.cli._darts_weights import load_darts_network

SIZE, TRAINING = ["--channels", "2", "--layers", "1"], ["--epochs", "1", *SMALL_TRAINING]


def run_commands(page: str, *changes: tuple[str, str]) -> None:
    """Run all commands of a page, with their words replaced; searches and trainings are small."""
    for _, text in read_blocks(page, "bash"):
        for old, new in changes:
            text = text.replace(old, new)
        for line in text.splitlines():
            _, command, *words = shlex.split(line)
            small = {"search": ["--space", "nasbench201", *QUICK], "train": TRAINING}.get(command, [])
            assert main([command, *words, *small]) == 0, line
            if command == "search":
                assert main(["train", "--arch", words[-1], *SIZE, *TRAINING]) == 0


def test_the_commands_of_the_page_on_pictures_run(
    pictures: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("photos", "more-photos"):
        shutil.copytree(pictures, cwd / name)
    (cwd / "more-photos" / "gray").rename(cwd / "more-photos" / "grau")
    shutil.copy(pictures / "dark" / "0.png", cwd / "holiday.jpg")
    # The format that every installation can write, and a training of its own, whose length can be set.
    run_commands("docs/own-pictures.md", ("--format onnx", "--format python"), (" --then-train", ""))
    assert "holiday.jpg: " in capsys.readouterr().out
    ((_, example),) = read_blocks("docs/own-pictures.md", "python")
    exec(example, {})
    assert capsys.readouterr().out.split()[0] in ("dark", "gray", "light")


@pytest.mark.parametrize("name", ["DARTS_V2", "PCDARTS"])
def test_the_page_on_old_weights_can_be_followed(
    name: str, pictures: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotype = get_genotype(name.lower())
    theirs = Network(dict(read_genotype(genotype)), 2, 3, 3, imagenet=False)
    theirs(torch.randn(4, 3, 32, 32))
    torch.save(theirs.state_dict(), "weights.pt")
    Path("genotypes.py").write_text(f"NASNet = 1\nPCDARTS = {genotype}\nDARTS = PCDARTS\n")
    shutil.copy(pictures / "dark" / "0.png", "holiday.jpg")
    run_commands("docs/old-weights.md", ("cifar10", str(pictures)))
    out = capsys.readouterr().out
    assert "file          model.safetensors" in out
    assert "test accuracy" in out
    trained, images = zcpt.load("model.safetensors"), torch.randn(2, 3, 32, 32)
    assert trained.classes == ("dark", "gray", "light")
    torch.testing.assert_close(trained.network(images), theirs.eval()(images)[0], rtol=0, atol=1e-5)
    ((_, example),) = read_blocks("docs/old-weights.md", "python")
    converted: dict[str, dict[str, torch.Tensor]] = {}
    exec(example.replace("channels=36, layers=20", "channels=2, layers=3, num_classes=3"), {}, converted)
    assert converted["theirs"].keys() == theirs.state_dict().keys()


def test_a_checkpoint_of_imagenet_is_recognised(cwd: Path) -> None:
    genotype = get_genotype("pcdarts_imagenet")
    theirs = Network(dict(read_genotype(genotype)), 4, 3, 7, imagenet=True)
    torch.save({"state_dict": theirs.state_dict()}, "best.pth.tar")
    trained = load_darts_network(Path("best.pth.tar"), genotype, None)
    config = trained.network_config
    assert (config.channels, config.layers, config.num_classes, config.image_size) == (4, 3, 7, (224, 224))
    assert trained.classes == tuple("0123456")
    assert trained.preprocessing.test_crop == 0.875
    assert trained.statistics[0] == (0.485, 0.456, 0.406)
    with pytest.raises(DataError, match="has 7 classes, and the data set 2"):
        load_darts_network(Path("best.pth.tar"), genotype, ("a", "b"))
    with pytest.raises(ConfigError, match="the weights in best.pth.tar are those of another network"):
        load_darts_network(Path("best.pth.tar"), get_genotype("darts_v2"), None)
    torch.save({"stem.0.weight": torch.zeros(6, 3, 3, 3)}, "part.pt")
    with pytest.raises(ConfigError, match="the weights lack those of a stem or a classifier"):
        load_darts_network(Path("part.pt"), genotype, None)


@pytest.mark.parametrize("name", ["weights.pt", "best.pth.tar"])
def test_a_checkpoint_without_a_genotype_is_answered_by_what_to_give(
    name: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, name)
    assert main(["export", name, "--format", "onnx"]) == 2
    assert "the genotype with --genotype" in capsys.readouterr().err


def test_the_example_of_the_page_on_exports_runs(
    run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs").mkdir()
    Path("runs", "digits").symlink_to(run_folder)
    *_, (_, example) = read_blocks("docs/export.md", "python")
    exec(example, {})
    assert len(ast.literal_eval(capsys.readouterr().out)) == 5
