"""Flag names of the field's other programs, and hints for an unknown flag."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_NO_SUPERNET_TRAINING = "zcpt trains no supernet, so leave it out"
_ALWAYS_LOGGED = "progress is always reported, and TensorBoard's event files are always written: leave it out"
_ALL_SAVED = "every epoch is saved, and --resume RUN continues a run: leave it out"

_FLAGS = {
    # What to search, on which images. Sources: DARTS and its descendants, the code of Zero-Cost-PT and DARTS-PT,
    # AutoDL-Projects, NASLib, timm, torchvision's references, Hugging Face.
    "--search-space": "--space",
    "--search-space-name": "--space",
    "--nas-space": "--space",
    "--model": "--model --space",
    "--network": "--model --space",
    "--net": "--model --space",
    "--arch-name": "--arch",
    "--architecture": "--arch",
    "--genotype": "--arch",
    "--model-config": "--arch",
    "--set": "--dataset",
    "--data-set": "--dataset",
    "--data-name": "--dataset",
    "--dataset-name": "--dataset",
    "--task": "--dataset",
    "--data": "--dataset --data-dir",
    "--data-path": "--dataset folder:PATH",
    "--data-root": "--data-dir",
    "--dataroot": "--data-dir",
    "--root": "--data-dir",
    "--data-folder": "--dataset folder:PATH",
    "--train-dir": "--dataset folder:PATH",
    "--tmp-data-dir": "--data-dir",
    "--dataset-download": "--download",
    "--val-split": "--validation-split",
    "--val-size": "--validation-split",
    "--test-split": "--validation-split",
    "--test-size": "--validation-split",
    # Where results are written.
    "--save": "--out",
    "--save-dir": "--out",
    "--save-path": "--out",
    "--output": "--out",
    "--output-dir": "--out",
    "--outdir": "--out",
    "--out-dir": "--out",
    "-o": "--out",
    "--exp": "--out",
    "--exp-name": "--out",
    "--experiment": "--out",
    "--experiment-name": "--out",
    "--name": "--out",
    "--run-name": "--out",
    "--log-dir": "--out",
    "--logdir": "--out",
    "--log-path": "--out",
    "--checkpoint-dir": "--out",
    "--work-dir": "--out",
    "--expid": "--out",
    "--group": "--out",
    # Going on.
    "--checkpoint": "--resume",
    "--resume-from": "--resume",
    "--resume-expid": "--resume",
    "--resume-epoch": "--resume",
    "--load": "--resume",
    "--restore": "--resume",
    "--continue": "--resume",
    "--ckpt": "--resume",
    "--auto-resume": "--resume",
    "--config": "-c",
    "--config-file": "-c",
    "--config-path": "-c",
    "--cfg": "-c",
    "--yaml": "-c",
    # Devices.
    "--gpu": "--device cuda:0",
    "--gpus": "--device cuda:0",
    "--gpu-id": "--device cuda:0",
    "--gpu-ids": "--device cuda:0",
    "--device-id": "--device cuda:0",
    "--cuda": "--device cuda",
    "--use-cuda": "--device cuda",
    "--cpu": "--device cpu",
    "--no-cuda": "--device cpu",
    "--accelerator": "--device",
    "--nproc": "torchrun --nproc-per-node",
    "--nproc-per-node": "torchrun --nproc-per-node",
    "--nnodes": "torchrun --nnodes",
    "--world-size": "torchrun --nproc-per-node",
    "--num-gpus": "torchrun --nproc-per-node",
    "--num-processes": "torchrun --nproc-per-node",
    "--distributed": "torchrun --nproc-per-node",
    "--dist-url": "torchrun --rdzv-endpoint",
    # Proxies, orders, proposals, validation.
    "--proj-crit": "--proxy",
    "--proj-crit-normal": "--proxy",
    "--proj-crit-reduce": "--proxy",
    "--proj-crit-edge": "--proxy",
    "--proxy-name": "--proxy --proxies",
    "--predictor": "--proxy --proxies",
    "--metric-name": "--proxy --proxies",
    "--score": "--proxy --proxies",
    "--measure": "--proxy --proxies",
    "--criterion": "--proxy --proxies",
    "--zc": "--proxy --proxies",
    "--zero-cost": "--proxy --proxies",
    "--foresight-augment": "--proxy --proxies",
    "--edge-decision": "--order",
    "--edge-order": "--order",
    "--pool-size": "--proposals",
    "--num-proposals": "--proposals",
    "--n-proposals": "--proposals",
    "--trials": "--proposals",
    "--num-trials": "--proposals",
    "--n-trials": "--proposals",
    "--validate-rounds": "--validation-batches",
    "--validation-rounds": "--validation-batches",
    "--val-batches": "--validation-batches",
    "--num-batches": "--validation-batches",
    "--maxofn": "--proposals",
    "--n-runs": "--seeds --proposals",
    "--num-samples": "--samples",
    "--n-samples": "--samples",
    # Sizes.
    "--init-channels": "--channels",
    "--channel": "--channels",
    "--width": "--channels",
    "--num-channels": "--channels",
    "--depth": "--layers",
    "--num-cells": "--layers",
    "--num-layers": "--layers",
    "--n-layers": "--layers",
    "--cells": "--layers",
    "--n-cells": "--layers",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--batchsize": "--batch-size",
    "-b": "--batch-size",
    "--train-batch-size": "--batch-size",
    "--per-device-train-batch-size": "--batch-size",
    "--val-batch-size": "--validation-batch-size",
    "--eval-batch-size": "--validation-batch-size",
    "--validation-size": "--validation-batch-size",
    "--img-size": "--image-size --train-image-size",
    "--input-size": "--image-size --train-image-size",
    "--image-size": "--train-image-size",
    "--resolution": "--image-size --train-image-size",
    "--imsize": "--image-size --train-image-size",
    "--num-classes": "--classes --train-classes",
    "--num-labels": "--classes --train-classes",
    "--n-classes": "--classes --train-classes",
    "--params": "--max-params",
    "--flops": "--max-macs",
    "--max-flops": "--max-macs",
    "--macs": "--max-macs",
    "--latency": "--max-latency",
    "--rand-seed": "--seed",
    "--random-seed": "--seed",
    "--manual-seed": "--seed",
    "--manualseed": "--seed",
    "-s": "--seed",
    # Training.
    "--learning-rate": "--lr",
    "--learningrate": "--lr",
    "--lr-init": "--lr",
    "--base-lr": "--lr",
    "--lr-base": "--lr",
    "--blr": "--lr",
    "-lr": "--lr",
    "--learning-rate-min": "--min-lr",
    "--lr-min": "--min-lr",
    "--nasbench-lr": "--lr",
    "--wd": "--weight-decay",
    "--weightdecay": "--weight-decay",
    "--l2": "--weight-decay",
    "--grad-clip": "--clip-grad",
    "--gradient-clip": "--clip-grad",
    "--max-norm": "--clip-grad",
    "--max-grad-norm": "--clip-grad",
    "--clip": "--clip-grad",
    "--opt": "--optimizer",
    "--opt-eps": "--optimizer-eps",
    "--lr-base-batch": "--lr-base-size",
    "--grad-accum-steps": "--accumulate",
    "--gradient-accumulation-steps": "--accumulate",
    "--gamma": "--decay-rate",
    "--decay-period": "--decay-epochs",
    "--warmup": "--warmup-epochs",
    "--model-ema": "--ema",
    "--use-ema": "--ema",
    "--model-ema-decay": "--ema-decay",
    "--sync-batchnorm": "--sync-bn",
    "--initial-checkpoint": "--from",
    "--finetune": "--from",
    "--optim": "--optimizer",
    "--optimiser": "--optimizer",
    "--sched": "--schedule",
    "--scheduler": "--schedule",
    "--lr-scheduler": "--schedule",
    "--lr-schedule": "--schedule",
    "--epoch": "--epochs",
    "--num-epochs": "--epochs",
    "--n-epochs": "--epochs",
    "--max-epochs": "--epochs",
    "--num-train-epochs": "--epochs",
    "--train-epochs": "--epochs",
    "-e": "--epochs",
    "--smoothing": "--label-smoothing",
    "--label-smooth": "--label-smoothing",
    "--auxiliary": "--auxiliary-weight 0.4",
    "--aux-weight": "--auxiliary-weight",
    "--drop-path-prob": "--drop-path",
    "--drop-path-rate": "--drop-path",
    "--drop-connect": "--drop-path",
    "--cutout-length": "--cutout",
    "--cutout-size": "--cutout",
    "--hflip": "--flip",
    "--aa": "--auto-augment",
    "--reprob": "--random-erase",
    "--random-erasing": "--random-erase",
    "--mixup-alpha": "--mixup",
    "--cutmix-alpha": "--cutmix",
    "--mixup-off-epoch": "--mixup-off-epochs",
    "--jitter": "--color-jitter",
    "--drop": "--dropout",
    "--drop-rate": "--dropout",
    "--train-interpolation": "--interpolation",
    "--crop-pct": "--test-crop",
    "--use-checkpoint": "--grad-checkpointing",
    "--gradient-checkpointing": "--grad-checkpointing",
    "--no-aug": "--no-flip --cutout 0 --crop-padding 0",
    "--num-workers": "--workers",
    "--n-workers": "--workers",
    "--worker": "--workers",
    "-j": "--workers",
    "--ray-address": "--ray",
    "--fp16": "--amp",
    "--bf16": "--amp",
    "--half": "--amp",
    "--mixed-precision": "--amp",
    "--torchcompile": "--compile",
    "--torch-compile": "--compile",
    "--dtype": "--precision",
    "--model-path": "zcpt evaluate RUN",
    "--weights": "zcpt evaluate RUN",
    "--pretrained": "zcpt evaluate RUN",
    "--eval": "zcpt evaluate RUN",
    "--evaluate": "zcpt evaluate RUN",
    "--log-level": "zcpt COMMAND 2> LOG",
    "--quiet": "zcpt COMMAND 2> LOG",
    "-q": "zcpt COMMAND 2> LOG",
    # Benchmarks.
    "--benchmark": "--table",
    "--api": "--table",
    "--nasbench": "--table",
    "--api-path": "--table",
    "--api-loc": "--table",
    "--nasspace-path": "--table",
    "--methods-names": "--methods",
    "--proxy-names": "--proxies",
    "--ground-truth": "--accuracy-on",
    "--start-seed": "--seeds",
}
"""Flag of another program, with dashes -> what to type here: a flag or several in order of preference, or words."""

_WITHOUT_COUNTERPART = {
    "--report-freq": _ALWAYS_LOGGED,
    "--print-freq": _ALWAYS_LOGGED,
    "--log-interval": _ALWAYS_LOGGED,
    "--verbose": _ALWAYS_LOGGED,
    "-v": _ALWAYS_LOGGED,
    "--log-tb": _ALWAYS_LOGGED,
    "--tensorboard": _ALWAYS_LOGGED,
    "--save-freq": _ALL_SAVED,
    "--checkpoint-hist": _ALL_SAVED,
    "--recovery-interval": _ALL_SAVED,
    "--unrolled": _NO_SUPERNET_TRAINING,
    "--arch-learning-rate": _NO_SUPERNET_TRAINING,
    "--arch-lr": _NO_SUPERNET_TRAINING,
    "--alpha-lr": _NO_SUPERNET_TRAINING,
    "--arch-weight-decay": _NO_SUPERNET_TRAINING,
    "--arch-wd": _NO_SUPERNET_TRAINING,
    "--train-portion": "a search always draws from one half of the training images: leave it out",
    "--proj-intv": _NO_SUPERNET_TRAINING,
    "--vflip": "the recipes flip from left to right only, by --flip: leave it out",
    "--local-rank": "torchrun passes it by the environment: start 'torchrun -m zcpt search'",
    "--nodes": "the number of nodes of a cell belongs to its space: see 'zcpt list spaces'",
    "--max-nodes": "the number of nodes of a cell belongs to its space: see 'zcpt list spaces'",
    "--steps": "the number of nodes of a cell belongs to its space: see 'zcpt list spaces'",
    "--primitives": "the operations belong to the space: see 'zcpt list spaces'",
    "--yes": "nothing is ever asked: leave it out",
    "-y": "nothing is ever asked: leave it out",
    "--force": "nothing is overwritten: give a new folder with --out",
    "--overwrite": "nothing is overwritten: give a new folder with --out",
    "--dry-run": "all settings are checked before anything is written: leave it out",
    "--wandb": "results are written as TensorBoard's event files, JSON and CSV: leave it out",
}
"""Flag of another program that has no counterpart here -> why."""


def describe_unknown_flag(given: str, command: str, flags_of_commands: Mapping[str, Iterable[str]]) -> str:
    """Return the hint for an unknown flag, '' if there is none.

    The field's names come first: ``--learning-rate`` is ``--lr``, though other flags are spelled more alike. Then come
    flags of the other commands, and only then the most similar one.

    Args:
        given: The unknown flag, with dashes.
        command: The command, such as 'search'.
        flags_of_commands: All flags of every command, of ``command`` too.
    """
    own = list(flags_of_commands.get(command, ()))
    name = given.lower()
    counterparts = [option for option in _split_options(_FLAGS.get(name, "")) if option.split()[0] in own]
    if name != given and name in own:
        return f"flags are written in small letters, '{name}'"
    if f"-{name}" in own:
        return f"flags have two dashes, '-{name}'"
    if counterparts:
        return f"here it is {_join_or(counterparts)}"
    owners = [other for other, flags in flags_of_commands.items() if name in flags]
    if owners:
        return f"it is a flag of {_join_or([f'zcpt {owner}' for owner in owners])}"
    if name in _WITHOUT_COUNTERPART:
        return _WITHOUT_COUNTERPART[name]
    for option in _split_options(_FLAGS.get(name, "")):
        owners = [other for other, flags in flags_of_commands.items() if option.split()[0] in flags]
        if owners:
            return f"it is {option} of 'zcpt {owners[0]}'"
        if not option.startswith("-"):
            return f"use '{option}'"
    # Without the dashes, which all flags have in common.
    near = difflib.get_close_matches(name.lstrip("-"), [flag.lstrip("-") for flag in own], n=1, cutoff=0.7)
    return f"did you mean '--{near[0]}'?" if near else ""


def _split_options(text: str) -> list[str]:
    """Split '--model --space', but neither '--device cuda:0' nor words such as 'zcpt evaluate RUN'."""
    words = text.split()
    return words if all(word.startswith("-") for word in words) else [text]


def _join_or(texts: list[str]) -> str:
    quoted = [f"'{text}'" for text in texts]
    return ", ".join(quoted[:-1]) + (" or " if quoted[1:] else "") + quoted[-1]


COMMANDS = {
    "eval": "evaluate",
    "test": "evaluate",
    "validate": "evaluate",
    "bench": "benchmark",
    "fit": "train",
    "retrain": "train",
    "run": "search",
    "find": "search",
    "nas": "search",
    "select": "search",
    "resume": "search --resume RUN",
    "continue": "search --resume RUN",
    "verify": "replay",
    "info": "show",
    "status": "show",
    "inspect": "show",
    "describe": "show",
    "summary": "show",
    "rank": "benchmark proxies",
    "proxies": "list proxies",
    "proxy": "list proxies",
    "spaces": "list spaces",
    "datasets": "list datasets",
    "orders": "list orders",
    "ls": "list",
    "measure": "latency",
    "profile": "latency",
    "report": "benchmark report",
    "operations": "benchmark operations",
    "completions": "completion",
    "autocomplete": "completion",
}
"""Command of another program, or a part of one of ours -> what to type here."""
