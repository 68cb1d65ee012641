"""``zcpt search``."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import torch

from train.data import ImageData, build_scoring_batches, choose_recipe, get_named_recipe
from train.images import IMAGE_OPTIONS
from train.recipe import make_train_config, read_recipe
from train.reduced import prepare_training
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    format_program,
    get_given_options,
    load_given_data,
    make_run_path,
    parse_integer,
    pick_device,
    refuse_flags_of_resumed_run,
    reload_data,
)
from zcpt.cli._trainings import PREFIX
from zcpt.errors import ConfigError
from zcpt.figures import encode_png
from zcpt.files import write_atomically
from zcpt.monitor import Progress, TensorBoard
from zcpt.options import format_count, pluralize
from zcpt.plot import draw_architecture
from zcpt.printing import print_lines, quote_words
from zcpt.processes import ProcessGroup
from zcpt.search import (
    GROWING,
    PRESETS,
    BudgetChecker,
    Callback,
    SearchConfig,
    SearchPlan,
    SearchResult,
    configure,
    configure_from,
    count_evaluations,
    plan_search,
    read_run_config,
    run_search,
)
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space
from zcpt.values import Value

_log = logging.getLogger(__name__)

FINALISTS = "stage 3, finalists"
GROUPS = {
    "proxy": ("proxy", "validation_proxy", "non_finite"),
    "stage 1, proposals": ("order", "joint", "proposals", "batch_size", "scoring_batch", "removed_inputs"),
    "stage 2, validation": ("validation_batches", "validation_inits", "validation_batch_size"),
    FINALISTS: ("finalists",),
    "supernet": ("channels", "layers", "supernet_weights", "alpha_noise", "alpha_draw"),
    "computation": ("seed", "engine", "precision", "max_memory"),
    "budgets, and the network to be trained to which they apply": (
        "max_params", "max_macs", "max_latency", "latency_table", "valid_only", "train_channels", "train_layers",
        "train_image_size", "train_classes",
    ),
}  # fmt: skip
"""Groups of the settings of a search in the help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "To search in several processes: torchrun --nproc-per-node 4 -m zcpt search ..., or gpu instead of 4 for one "
        "process per GPU."
    )
    parser.add_argument("--space", metavar="NAME", help="search space, one of 'zcpt list spaces' (default: darts)")
    parser.add_argument(
        "--preset", metavar="|".join(PRESETS), help="settings of a published procedure; other flags win"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="new run folder (default: a folder in runs/)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume this run folder with its own settings; --proposals and --validation-batches extend it",
    )
    parser.add_argument("--then-train", action="store_true", help="train the architecture when the search is finished")
    add_data_arguments(parser)
    group = add_options(parser, SearchConfig, groups=GROUPS)[FINALISTS]
    add_finalist_setting(group)
    help_workers = (
        "processes that train finalists side by side; 0 takes one for each core, or one on a GPU (default: 0); those "
        "of torchrun share the finalists anyway"
    )
    group.add_argument("--workers", type=parse_integer, metavar="INT", default=0, help=help_workers)


def add_finalist_setting(group: argparse._ArgumentGroup) -> None:
    """Add the flag of the recipe by which finalists are trained."""
    help_setting = (
        "recipe of the short trainings of the finalists, such as econas ('zcpt list recipes'): a share of the training "
        "images is kept back, and the best accuracy on it wins"
    )
    group.add_argument("--finalist-setting", metavar="RECIPE", help=help_setting)


def run(args: argparse.Namespace) -> None:
    """Search, and print the architecture and the command that trains it."""
    ranks: ProcessGroup = args.ranks
    if args.resume:
        folder, space, data, config, device_name = _load_run(args)
        setting = args.finalist_setting or _read_setting(args.resume)
    else:
        setting = args.finalist_setting
        space = get_space(args.space or "darts")
        name = "digits" if args.dataset is None else args.dataset
        # Before the data are read, which can take long, so that a wrong option is reported at once.
        config = _configure(args, space, get_named_recipe(name) or "cifar-fast", name)
        check_setting(config, setting)
        with ranks.main_first():  # the first process downloads, the others then find the files
            data = load_given_data(args)
        config = _configure(args, space, choose_recipe(data), data.name)
        # The default name contains the time, which differs between processes: all use that of the first one.
        folder, device_name = ranks.gather(args.out or make_run_path(space.name, data.name))[0], args.device
    check_setting(config, setting)
    device = pick_device(device_name)
    batches = build_scoring_batches(data, config.seed)
    plan = plan_search(
        space,
        batches,
        config,
        run_dir=folder,
        resume=args.resume is not None,
        device=device,
        finalist_value=make_finalist_value(space, data, config, setting, device),
        workers=_count_workers(args.workers, config, device, ranks),
    )
    bounds = plan.budget_checker
    announcement = _Announcement(f"{_format_plan(plan, data, ranks)}{_format_limits(plan)}; run folder {folder}")
    args.run_folder = folder
    result = run_search(plan, [announcement, Progress(), TensorBoard(folder / "tensorboard")], ranks)
    # An exchange: once a process has begun to train, the others would find the folder of that training.
    words = ranks.gather(_make_training_command(args, space, config, data, folder))[0]
    if args.then_train:
        args.next_words = words
    if not ranks.is_main:
        return
    write_atomically(folder / "cells.png", encode_png(draw_architecture(space, result.architecture), dpi=120))
    print_lines(*_format_result(space, result, bounds, folder))
    other = _describe_other_images(config, data)
    if args.then_train:
        if other:
            _log.warning(f"{other}; the training uses {data.name}")
    elif other:
        # The budgets are for images that the search has not seen, so only the user knows where they are.
        size = ["--image-size", str(config.train_image_size)] if config.train_image_size else []
        quoted = quote_words([*words, "--dataset", "folder:PATH", *size])
        print_lines(
            f"note          {other}: put theirs in place of folder:PATH", f"next          {format_program()} {quoted}"
        )
    else:
        print_lines(f"next          {format_program()} {quote_words(words)}")


def _load_run(args: argparse.Namespace) -> tuple[Path, SearchSpace, ImageData, SearchConfig, str]:
    """Return folder, space, data, settings and device of the run to be resumed."""
    given = get_given_options(args, SearchConfig)
    fixed = ["space", *IMAGE_OPTIONS, "preset", "out", *(name for name in given if name not in GROWING)]
    refuse_flags_of_resumed_run(args, fixed)
    document = read_run_config(args.resume)
    if "dataset" not in document["data"]:
        raise ConfigError(
            f"{args.resume} was started from Python: resume it there, with zcpt.search(..., resume=True)."
        )
    space = get_space(document["space"])
    config = configure_from(args.resume, space, document, **given)
    data = reload_data(document["data"], args)
    return args.resume, space, data, config, args.device or document["device"]


def _read_setting(folder: Path) -> str | None:
    """Return the recipe that trains the finalists of a run folder; None if it has none."""
    by = read_run_config(folder).get("finalist_value")
    if by is None:
        return None
    name = str(by.get("name", ""))
    if not name.startswith(PREFIX):
        raise ConfigError(
            f"the finalists of {folder} were measured from Python by '{name}': resume it there, with "
            "zcpt.search(..., resume=True, finalist_value=...)."
        )
    return name.removeprefix(PREFIX)


def check_setting(config: SearchConfig, setting: str | None) -> None:
    """Raise ConfigError unless the number of finalists and their recipe are given both, or neither is."""
    if config.finalists and not setting:
        raise ConfigError(
            f"--finalists {config.finalists} needs --finalist-setting RECIPE, the short training that measures them, "
            "such as econas."
        )
    if setting is not None and not config.finalists:
        raise ConfigError(
            f"--finalist-setting {setting} needs --finalists K, the number of proposals to be trained, such as 5."
        )
    if setting is not None:
        read_recipe(setting)  # reports a wrong name before the data are read


def make_finalist_value(
    space: SearchSpace, data: ImageData, config: SearchConfig, setting: str | None, device: torch.device
) -> Value | None:
    """Return the short trainings of the finalists; None if there are none."""
    return prepare_training(space, data, setting, device=device, seed=config.seed) if setting else None


def _count_workers(given: int, config: SearchConfig, device: torch.device, ranks: ProcessGroup) -> int:
    """Return the number of processes that train finalists, where the search itself is in one process."""
    if given < 0:
        raise ConfigError(f"--workers {given} must not be negative.")
    if given and ranks.size > 1:
        raise ConfigError(f"--workers {given} has no effect with torchrun, whose processes share the finalists.")
    most = (os.cpu_count() or 1) if device.type == "cpu" else 1
    return given or max(1, min(most, config.finalists))


class _Announcement(Callback):
    """Logs the plan of the search once all checks have passed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        _log.info(self.text)


def _format_plan(plan: SearchPlan, data: ImageData, ranks: ProcessGroup) -> str:
    """Format space, data, proposals and supernet for the log."""
    space, config, (channels, height, width) = plan.space, plan.config, data.image_shape
    processes = f" in {ranks.size} processes" if ranks.size > 1 else ""
    least, most = count_evaluations(space.choices, config.order, config.joint)
    number = str(least) if least == most else f"{least} to {most}"
    validation = ""
    if config.proposals > 1:
        inits = min(config.validation_inits, config.validation_batches)
        validation = f", V={pluralize(config.validation_batches, 'validation batch', 'validation batches')}"
        validation += f" at R={pluralize(inits, 'initialisation')}"
        validation += f" with {config.validation_proxy}" if config.validation_proxy else ""
        if plan.finalist_value is not None:
            validation += f", K={config.finalists} finalists by {plan.finalist_value.name}"
    return (
        f"searching {space.name} on {data.name} ({channels}x{height}x{width}), seed {config.seed}, "
        f"on {plan.device} by the {plan.document['engine']} engine{processes}: "
        f"N={pluralize(config.proposals, 'proposal')} of {number} evaluations with {config.proxy} in {config.order} "
        f"order{validation}; "
        f"supernet of C={config.channels}, {space.describe_layers(config.layers)}"
    )


def _format_limits(plan: SearchPlan) -> str:
    """Format budgets and memory limit for the log; an empty text where there are none."""
    limits = [f"of at most {budget.format_value(budget.limit)}" for budget in plan.budget_checker.budgets]
    if plan.budget_checker.valid_only:
        limits.append("in the published list of the space")
    text = f"; networks {', '.join(limits)}" if limits else ""
    if plan.memory is not None:
        text += (
            f"; scoring takes about {format_count(plan.memory)}B of the allowed {format_count(plan.config.max_memory)}B"
        )
    return text


def _format_choice(result: SearchResult) -> str:
    """Format how many proposals the architecture was chosen from, and its validation score."""
    proposals, distinct = result.config.proposals, len(result.candidates)
    (chosen,) = (candidate for candidate in result.candidates if candidate.architecture == result.architecture)
    if proposals == 1:
        return "one proposal"
    if result.finalists:
        return f"{distinct} distinct of {proposals} proposals, by the best value of {len(result.finalists)} finalists"
    score = "" if chosen.mean is None else f", by a mean validation score of {chosen.mean:.2f}"
    return f"{distinct} distinct of {proposals} proposals{score}"


def _format_finalists(space: SearchSpace, result: SearchResult) -> list[str]:
    """Format a line for each finalist, in the order of validation."""
    lines = []
    for number, finalist in enumerate(result.finalists, 1):
        value = f"failed, {finalist.failure}" if finalist.failure else f"{finalist.value:.6g}"
        chosen = ", chosen" if finalist.architecture == result.architecture else ""
        text = space.format(finalist.architecture)
        lines.append(f"finalist {number:<4} {value} in {finalist.seconds:.0f} s{chosen}: {text}")
    return lines


def _format_result(space: SearchSpace, result: SearchResult, bounds: BudgetChecker, folder: Path) -> list[str]:
    """Format architecture, size of the network to be trained, budgets and run folder."""
    network_config, (height, width) = bounds.network_config, bounds.network_config.image_size
    cost = space.cost(result.architecture, network_config)
    totals = zip(bounds.budgets, bounds.compute_totals(result.architecture), strict=True)
    kept = ", ".join(f"{format_count(total)} of {budget.format_value(budget.limit)}" for budget, total in totals)
    return [
        f"architecture  {space.format(result.architecture)}",
        f"chosen from   {_format_choice(result)}",
        *_format_finalists(space, result),
        f"size          {format_count(cost.params)} parameters, {format_count(cost.macs)} MACs "
        f"(C={network_config.channels}, {space.describe_layers(network_config.layers)}, {height}x{width} images, "
        f"{pluralize(network_config.num_classes, 'class', 'classes')})",
        *([f"budgets       {kept}"] if kept else []),
        f"run folder    {folder} (tensorboard --logdir {quote_words([str(folder)])})",
    ]


def _configure(args: argparse.Namespace, space: SearchSpace, recipe: str, dataset: str) -> SearchConfig:
    """Return the settings of a new search; the network to train has the width and depth of the recipe."""
    trained = make_train_config(space, recipe, dataset)
    size = {"train_channels": trained.channels, "train_layers": trained.layers}
    return configure(space, args.preset, **{**size, **get_given_options(args, SearchConfig)})


def _describe_other_images(config: SearchConfig, data: ImageData) -> str:
    """Describe the images that the network is for, if they are not those of the search; else return ''."""
    _, height, width = data.image_shape
    searched = (height, width), len(data.classes)
    side = config.train_image_size
    size = (side, side) if side else searched[0]
    wanted = size, config.train_classes or searched[1]
    if wanted == searched:
        return ""
    texts = [f"{h}x{w} images of {pluralize(classes, 'class', 'classes')}" for (h, w), classes in (wanted, searched)]
    return f"the network was searched for {texts[0]}, and {data.name} has {texts[1]}"


def _make_training_command(
    args: argparse.Namespace, space: SearchSpace, config: SearchConfig, data: ImageData, folder: Path
) -> list[str]:
    """Return the words of the command that trains the architecture, or that resumes its training."""
    device = ["--device", args.device] if args.device else []
    recipe = choose_recipe(data)
    if args.then_train and (folder / "train" / recipe / "args.yaml").exists():
        return ["train", "--resume", str(folder / "train" / recipe), *device]
    words = ["train", "--arch", str(folder / "architecture.json")]
    default = make_train_config(space, recipe, data.name)
    if config.train_channels != default.channels:
        words += ["--channels", str(config.train_channels)]
    if config.train_layers != default.layers:
        words += ["--layers", str(config.train_layers)]
    return words + device
