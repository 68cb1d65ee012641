"""Scripts in the manner of timm's ``train.py`` and ``validate.py``, which its package does not contain.

They call timm's public functions as those do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zcpt import ConfigError
from zcpt.timm.__main__ import main

ROOT = Path(__file__).parents[3]
TRAIN = """
import argparse, importlib, sys
import torch
from timm import utils
from timm.data import create_dataset, create_loader, resolve_data_config, Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask

parser = argparse.ArgumentParser()
parser.add_argument("--device-modules", default=None, type=str, nargs="+")
parser.add_argument("--data-dir")
parser.add_argument("--model")
parser.add_argument("--img-size", type=int, default=None)
parser.add_argument("--num-classes", type=int, default=None)
parser.add_argument("--model-kwargs", nargs="*", default={}, action=utils.ParseKwargs)
parser.add_argument("--epochs", type=int)
parser.add_argument("--output")
args = parser.parse_args()
for module in args.device_modules or []:
    importlib.import_module(module)
utils.random_seed(0)
model = create_model(  # without img_size, which is for the images alone
    args.model, pretrained=False, in_chans=3, num_classes=args.num_classes, drop_rate=0.1, drop_path_rate=0.2,
    drop_block_rate=None, global_pool=None, bn_momentum=None, bn_eps=None, scriptable=False, checkpoint_path="",
    **args.model_kwargs,
)
model.set_grad_checkpointing(enable=True)
data_config = resolve_data_config(vars(args), model=model)
loaders = {}
for split, training in (("train", True), ("validation", False)):
    dataset = create_dataset("", root=args.data_dir, split=split, is_training=training, batch_size=4)
    loaders[split] = create_loader(
        dataset, input_size=data_config["input_size"], batch_size=4, is_training=training, use_prefetcher=False,
        mean=data_config["mean"], std=data_config["std"], num_workers=0, crop_pct=data_config["crop_pct"],
        device=torch.device("cpu"), interpolation=data_config["interpolation"], no_aug=not training,
    )
optimizer = create_optimizer_v2(model, opt="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4)
scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=args.epochs, warmup_epochs=0)
mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=args.num_classes)
task = ClassificationTask(model, SoftTargetCrossEntropy(), device=torch.device("cpu"), verbose=False)
task.setup_ema(decay=0.9)
saver = utils.CheckpointSaver(model=model, optimizer=optimizer, args=args, checkpoint_dir=args.output, task=task)
for epoch in range(epochs):
    task.train()
    for images, targets in loaders["train"]:
        loss = task(*mixup(images, targets))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.update_ema()
    model.eval()
    with torch.no_grad():
        correct = sum(int((model(x).argmax(1) == y).sum()) for x, y in loaders["validation"])
    saver.save_checkpoint(epoch, metric=correct)
    scheduler.step(epoch + 1, correct)
    print("epoch", epoch, "loss", float(loss.detach()), "correct", correct)
"""
VALIDATE = """
import argparse
import torch
from timm import utils
from timm.data import create_dataset, create_loader, resolve_input_data_config
from timm.models import create_model, load_checkpoint, resolve_model_input_args

parser = argparse.ArgumentParser()
parser.add_argument("--data-dir")
parser.add_argument("--model")
parser.add_argument("--checkpoint")
parser.add_argument("--img-size", type=int, default=None)
parser.add_argument("--num-classes", type=int, default=None)
parser.add_argument("--model-kwargs", nargs="*", default={}, action=utils.ParseKwargs)
args = parser.parse_args()
model = create_model(**resolve_model_input_args(
    args.model, vars(args), pretrained=False, num_classes=args.num_classes, global_pool=None, scriptable=False,
    **args.model_kwargs,
))
load_checkpoint(model, args.checkpoint, False)
data_config = resolve_input_data_config(model, vars(args), use_test_size=True)
dataset = create_dataset("", root=args.data_dir, split="validation")
loader = create_loader(
    dataset, input_size=data_config["input_size"], batch_size=4, use_prefetcher=False, mean=data_config["mean"],
    std=data_config["std"], num_workers=0, crop_pct=data_config["crop_pct"], device=torch.device("cpu"),
    interpolation=data_config["interpolation"],
)
model.eval()
with torch.no_grad():
    top1, top5 = utils.accuracy(model(next(iter(loader))[0]), next(iter(loader))[1], topk=(1, 2))
print("top1", float(top1), "size", tuple(data_config["input_size"]))
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of pictures of two colours."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("validation", 2)):
        for label, color in (("blue", 2), ("red", 0)):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 60, (40, 40, 3), dtype=np.uint8)
                pixels[..., color] += 180
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "pictures"


def test_scripts_of_timm_train_and_validate(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in (("train", TRAIN), ("validate", VALIDATE)):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "output").mkdir()
    options = ["--data-dir", str(pictures), "--model", "zcpt_darts_v2", "--img-size", "32", "--num-classes", "2"]
    options += ["--model-kwargs", "channels=4", "layers=3"]
    train = [str(tmp_path / "train.py"), "--device-modules", "zcpt.timm", "--epochs", "2"]
    train += ["--output", str(tmp_path / "output"), *options, "img_size=32"]
    # A process of its own, because the name `train` then is the script and not the package.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *train], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    epochs = [line.split() for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert [epoch[1] for epoch in epochs] == ["0", "1"]
    checkpoint = tmp_path / "output" / "last.pth.tar"
    main([str(tmp_path / "validate.py"), "--checkpoint", str(checkpoint), *options])
    printed = capsys.readouterr().out.split()
    assert float(printed[1]) == 100 * int(epochs[-1][-1]) / 4
    assert "(3, 32, 32)" in " ".join(printed)


def test_what_is_no_command_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no command.\nusage: python -m zcpt.timm SCRIPT.py"):
        main(["evaluate"])
    with pytest.raises(ConfigError, match=r"none.py is missing"):
        main([str(tmp_path / "none.py")])
