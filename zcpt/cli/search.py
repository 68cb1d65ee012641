"""``zcpt search``."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from train.data import ImageData, load_data, recipe_for, scoring_batches
from train.recipe import configure as configure_training
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    data_again,
    given,
    new_folder,
    pick_device,
    this_program,
)
from zcpt.errors import ConfigError
from zcpt.files import read_json
from zcpt.monitor import Progress, TensorBoard
from zcpt.options import format_count, format_flag, pluralize
from zcpt.plot import draw_architecture
from zcpt.processes import ProcessGroup
from zcpt.search import PRESETS, SearchConfig, SearchResult, configure
from zcpt.search.budgets import BudgetChecker
from zcpt.search.callbacks import Callback
from zcpt.search.orders import evaluations
from zcpt.search.result import with_own_table
from zcpt.search.run import Plan, prepare, start
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "Several processes share a search: torchrun --nproc-per-node 4 -m zcpt search ..., or gpu in place of 4 for "
        "one on each GPU."
    )
    parser.add_argument("--space", metavar="NAME", help="search space, one of 'zcpt list spaces' (default: darts)")
    add_data_arguments(parser)
    parser.add_argument("--preset", metavar="|".join(PRESETS), help="the published procedure, below the other flags")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new run folder (default: below runs/)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run folder, with its own settings")
    add_options(parser, SearchConfig)


def run(args: argparse.Namespace) -> None:
    """Search, and say what was found and what to do next."""
    ranks: ProcessGroup = args.ranks
    if args.resume:
        folder, space, data, options, device_name = _resumed(args)
    else:
        space = get_space(args.space or "darts")
        name = args.dataset or "digits"
        size = configure_training(space, recipe_for(name), name)
        trained = {"train_channels": size.channels, "train_layers": size.layers}
        options = {"preset": args.preset, **trained, **given(args, SearchConfig)}
        configure(space, **options)  # before data are read: a wrong option should not have to wait
        with ranks.in_turn():  # the first one downloads
            data = load_data(name, args.data_dir, args.download)
        # Only one of them, since its name tells the time.
        folder, device_name = ranks.gather(args.out or new_folder(space.name, data.name))[0], args.device
    device = pick_device(device_name)
    config = configure(space, **options)
    batches = scoring_batches(data, config.seed)
    plan = prepare(space, batches, run_dir=folder, resume=args.resume is not None, device=device, **options)
    bounds = plan.bounds
    announcement = _Announcement(_announced(plan, data, ranks) + _limits(plan))
    result = start(plan, [announcement, Progress(), TensorBoard(folder / "tensorboard")], ranks)
    if not ranks.first:
        return
    draw_architecture(space, result.architecture).savefig(folder / "cells.png", dpi=120)
    sys.stdout.write(_answer(space, result, bounds, folder) + _next(args, space, config, data, folder))


def _resumed(args: argparse.Namespace) -> tuple[Path, SearchSpace, ImageData, dict[str, Any], str]:
    fixed = ["space", "dataset", "preset", "out", *given(args, SearchConfig)]
    extra = [name for name in fixed if getattr(args, name) is not None]
    if extra:
        raise ConfigError(f"--resume goes on with the settings of {args.resume}: leave out {format_flag(extra[0])}.")
    document = read_json(args.resume / "config.json", ("space", "search", "data", "device"))
    if "dataset" not in document["data"]:
        raise ConfigError(f"{args.resume} was begun from Python: go on there, with zcpt.search(..., resume=True).")
    data = data_again(document["data"]["dataset"], document["data"].get("directory"), args)
    settings = with_own_table(args.resume, document["search"])
    return args.resume, get_space(document["space"]), data, settings, args.device or document["device"]


class _Announcement(Callback):
    """Says what is being searched as soon as nothing can be refused any more."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        _log.info(self.text)


def _announced(plan: Plan, data: ImageData, ranks: ProcessGroup) -> str:
    space, config, (channels, height, width) = plan.space, plan.config, data.image_shape
    processes = f" in {ranks.size} processes" if ranks.size > 1 else ""
    least, most = evaluations(space.choices, config.order, config.joint)
    number = str(least) if least == most else f"{least} to {most}"
    inits = min(config.validation_inits, config.validation_batches)
    validation = (
        f", V={pluralize(config.validation_batches, 'validation batch', 'validation batches')} "
        f"at R={pluralize(inits, 'initialisation')}"
        + (f" with {config.validation_proxy}" if config.validation_proxy else "")
    )
    return (
        f"searching {space.name} on {data.name} ({channels}x{height}x{width}), seed {config.seed}, "
        f"on {plan.device} by the {plan.document['engine']} engine{processes}: "
        f"N={pluralize(config.proposals, 'proposal')} of {number} evaluations with {config.proxy} in {config.order} "
        f"order{validation if config.proposals > 1 else ''}; "
        f"supernet of C={config.channels}, {space.describe_layers(config.layers)}"
    )


def _limits(plan: Plan) -> str:
    limits = [f"of at most {budget.text(budget.limit)}" for budget in plan.bounds.budgets]
    limits += ["in the published list of the space"] * plan.bounds.valid_only
    said = f"; networks {', '.join(limits)}" if limits else ""
    if plan.memory is not None:
        said += (
            f"; scoring takes about {format_count(plan.memory)}B of the {format_count(plan.config.max_memory)}B it may"
        )
    return said


def _chosen_from(result: SearchResult) -> str:
    proposals, distinct = result.config.proposals, len(result.candidates)
    (chosen,) = (c for c in result.candidates if c.architecture == result.architecture)
    if proposals == 1:
        return "one proposal"
    score = "" if chosen.mean is None else f", by a mean validation score of {chosen.mean:.2f}"
    return f"{distinct} distinct of {proposals} proposals{score}"


def _answer(space: SearchSpace, result: SearchResult, bounds: BudgetChecker, folder: Path) -> str:
    shape, (height, width) = bounds.network_config, bounds.network_config.image_size
    cost = space.cost(result.architecture, shape)
    totals = zip(bounds.budgets, bounds.totals(result.architecture), strict=True)
    kept = ", ".join(f"{format_count(total)} of {budget.text(budget.limit)}" for budget, total in totals)
    return (
        f"architecture  {space.format(result.architecture)}\n"
        f"chosen from   {_chosen_from(result)}\n"
        f"size          {format_count(cost.params)} parameters, {format_count(cost.macs)} MACs "
        f"(C={shape.channels}, {space.describe_layers(shape.layers)}, {height}x{width} images, "
        f"{pluralize(shape.num_classes, 'class', 'classes')})\n"
        + (f"budgets       {kept}\n" if kept else "")
        + f"run folder    {folder} (tensorboard --logdir {folder})\n"
    )


def _next(args: argparse.Namespace, space: SearchSpace, config: SearchConfig, data: ImageData, folder: Path) -> str:
    """The last line of the answer; scripts/ runs what it says."""
    words = ["train", "--arch", str(folder / "architecture.json")]
    usual = configure_training(space, recipe_for(data.name), data.name)
    words += ["--channels", str(config.train_channels)] if config.train_channels != usual.channels else []
    words += ["--layers", str(config.train_layers)] if config.train_layers != usual.layers else []
    words += ["--device", args.device] if args.device else []
    return f"next          {this_program()} {shlex.join(words)}\n"
