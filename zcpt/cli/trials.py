"""``zcpt trials``."""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from train.data import ImageData, build_scoring_batches
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    add_workers_arguments,
    format_program,
    get_given_options,
    load_given_data,
    make_run_path,
    pick_device,
    refuse_flags_of_resumed_run,
    reload_data,
)
from zcpt.errors import ConfigError
from zcpt.options import format_count, format_flag, pluralize
from zcpt.printing import print_lines, quote_words
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space
from zcpt.tabular import read_table
from zcpt.tabular.trials import TableValue
from zcpt.trials import (
    ALGORITHMS,
    PROXY,
    ScoreTable,
    TrialsConfig,
    TrialsPlan,
    TrialsProgress,
    TrialsResult,
    TrialsTensorBoard,
    Value,
    configure_trials,
    configure_trials_from,
    execute_plan,
    plan_trials,
    read_trials_config,
)

_log = logging.getLogger(__name__)
_VALUES = "table:FILE, proxy, or train:RECIPE"


def _merge_settings() -> type[Any]:
    """Return a dataclass of the settings of all algorithms, in which equal names are one field."""
    owners: dict[str, list[str]] = defaultdict(list)
    for name in sorted(ALGORITHMS):
        for setting in fields(ALGORITHMS[name].settings_class):
            owners[setting.name].append(name)
    merged = []
    for name, algorithms in owners.items():
        classes = [ALGORITHMS[algorithm].settings_class for algorithm in algorithms]
        settings = [settings_class.__dataclass_fields__[name] for settings_class in classes]
        helps = list(dict.fromkeys(setting.metadata["help"] for setting in settings))
        metadata = {**settings[0].metadata, "help": "; ".join(helps)}
        if len({setting.default for setting in settings}) > 1:
            pairs = zip(algorithms, settings, strict=True)
            metadata["shown"] = ", ".join(f"{setting.default} for {algorithm}" for algorithm, setting in pairs)
        hint = get_type_hints(classes[0])[name]
        merged.append((name, hint, field(default=settings[0].default, metadata=metadata)))
    return make_dataclass("AlgorithmSettings", merged)


AlgorithmSettings = _merge_settings()


def _group_algorithm_settings() -> dict[str, list[str]]:
    """Return the groups of the help: settings of several algorithms, then those of each alone."""
    groups: dict[str, list[str]] = {"several algorithms": []}
    for name in AlgorithmSettings.__dataclass_fields__:
        owners = [a for a in sorted(ALGORITHMS) if name in ALGORITHMS[a].settings_class.__dataclass_fields__]
        groups.setdefault(f"algorithm {owners[0]}" if len(owners) == 1 else "several algorithms", []).append(name)
    return groups


GROUPS = {
    "trials": ("algorithm", "trials", "trial_batch", "seed"),
    "proxy": ("proxy", "warmup", "batch_size", "channels", "layers"),
    "budgets, and the network to be trained to which they apply": (
        "max_params", "max_macs", "max_latency", "latency_table", "valid_only", "train_channels", "train_layers",
        "train_image_size", "train_classes",
    ),
}  # fmt: skip
"""Groups of the settings in the help."""
ALGORITHM_GROUPS = _group_algorithm_settings()


@dataclass(frozen=True)
class _Inputs:
    """Where values and proxy scores come from; the run folder keeps it for ``--resume``."""

    value: str
    """As given: 'proxy', 'table:FILE' or 'train:RECIPE'."""
    scores: str = ""
    accuracy_on: str = ""
    guide: str = ""
    metric: str = ""
    table_only: bool = False


def add_value_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of values from a table and of scores."""
    group = parser.add_argument_group("values and scores")
    group.add_argument("--scores", metavar="FILE", help="scores by the proxy: a folder of 'zcpt benchmark proxies'")
    group.add_argument("--accuracy-on", metavar="NAME", help="data set of the table (default: its first)")
    group.add_argument("--guide", metavar="NAME", help="accuracies of the table that guide the search (default: valid)")
    help_metric = "accuracies of the table that are reported (default: test if the table has it, else its first)"
    group.add_argument("--metric", metavar="NAME", help=help_metric)
    group.add_argument(
        "--table-only", action="store_true", default=None, help="measure architectures of the table only"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("--space", metavar="NAME", help="search space, one of 'zcpt list spaces' (default: darts)")
    help_value = (
        f"what a trial measures, {_VALUES}: the accuracy in a tabular benchmark, the score by --proxy, or the accuracy "
        "of a short training on images kept back"
    )
    parser.add_argument("--value", metavar="table:FILE|proxy|train:RECIPE", help=help_value)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="new run folder (default: a folder in runs/)")
    help_resume = "resume this run folder with its own settings; more --trials extend it"
    parser.add_argument("--resume", type=Path, metavar="RUN", help=help_resume)
    add_workers_arguments(parser, "measure the trials of a batch, and score networks, side by side", None, "1")
    add_value_arguments(parser)
    add_data_arguments(parser)
    add_options(parser, TrialsConfig, groups=GROUPS)
    add_options(parser, AlgorithmSettings, groups=ALGORITHM_GROUPS)


def run(args: argparse.Namespace) -> None:
    """Run the trials, and print the best architecture and the command that trains it."""
    plan, folder = _load_run(args) if args.resume else _plan_run(args)
    args.run_folder = folder
    _log.info(f"{_describe_plan(plan)}; run folder {folder}")
    callbacks = [TrialsProgress(), TrialsTensorBoard(folder / "tensorboard")]
    result = execute_plan(plan, folder, resume=args.resume is not None, callbacks=callbacks)
    print_lines(*_format_result(plan, result, folder))


def _plan_run(args: argparse.Namespace) -> tuple[TrialsPlan, Path]:
    """Return the plan and the folder of a new run."""
    space = get_space(args.space or "darts")
    options = {**get_given_options(args, TrialsConfig), **get_given_options(args, AlgorithmSettings)}
    if not args.value:
        raise ConfigError(f"--value is missing: give what a trial measures, {_VALUES}.")
    given = {name: getattr(args, name) for name in _Inputs.__dataclass_fields__ if getattr(args, name) is not None}
    inputs = _Inputs(**given)
    config, _ = configure_trials(space, **options)  # reports a wrong option before the data are read
    data = load_given_data(args) if _needs_images(inputs, config) or args.dataset is not None else None
    plan = _make_plan(space, inputs, options, data, args.device, _get_pool(args))
    return plan, args.out or make_run_path(space.name, *([data.name] if data else []), "trials")


def _load_run(args: argparse.Namespace) -> tuple[TrialsPlan, Path]:
    """Return the plan and the folder of the run to be resumed."""
    given = {**get_given_options(args, TrialsConfig), **get_given_options(args, AlgorithmSettings)}
    fixed = ["space", "out", *(name for name in _Inputs.__dataclass_fields__ if name != "value" and name != "scores")]
    refuse_flags_of_resumed_run(args, [*fixed, *(name for name in given if name != "trials")])
    plan = load_plan(args.resume, args, trials=given.get("trials"))
    return plan, args.resume


def load_plan(folder: Path, args: argparse.Namespace, trials: int | None = None) -> TrialsPlan:
    """Return the plan of a run folder; ``--value`` and ``--scores`` say where its files have moved."""
    document = read_trials_config(folder)
    if not isinstance(document.get("command"), dict):
        raise ConfigError(f"{folder} was started from Python: resume it there, with zcpt.run_trials(..., resume=True).")
    moved = {name: getattr(args, name, None) for name in ("value", "scores")}
    try:
        inputs = _Inputs(**{**document["command"], **{name: value for name, value in moved.items() if value}})
    except TypeError:
        raise ConfigError(f"{folder / 'config.json'} is damaged: its 'command' has unknown entries.") from None
    space = get_space(document["space"])
    changes = {} if trials is None else {"trials": trials}
    configure_trials_from(folder, space, document, **changes)  # names the file if a setting is wrong
    options = {**document["trials"], **document["algorithm"], **changes}
    if options["latency_table"]:
        options["latency_table"] = str(folder / "latency.json")
    data = reload_data(document["data"], args) if "dataset" in document["data"] else None
    return _make_plan(space, inputs, options, data, args.device or document["device"], _get_pool(args))


def _get_pool(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags of the processes that measure; 'zcpt replay' has none."""
    return {name: getattr(args, name, None) for name in ("workers", "ray")}


def _needs_images(inputs: _Inputs, config: TrialsConfig) -> bool:
    return inputs.value.startswith("train:") or bool(config.proxy and not inputs.scores)


def _make_plan(
    space: SearchSpace,
    inputs: _Inputs,
    options: Mapping[str, Any],
    data: ImageData | None,
    device: str | None,
    pool: Mapping[str, Any],
) -> TrialsPlan:
    config, settings = configure_trials(space, **options)
    resolved = pick_device(device)
    value = _make_value(space, inputs, data, str(resolved), config.seed)
    criterion = config.criterion
    if inputs.scores and criterion is None:
        raise ConfigError("--scores has the scores of proxies, and none is chosen: add --proxy.")
    listed = value.list_measured() if inputs.table_only and isinstance(value, TableValue) else None
    if inputs.table_only and listed is None:
        raise ConfigError("--table-only needs --value table:FILE.")
    return plan_trials(
        space,
        value,
        config,
        settings,
        batches=None if data is None else build_scoring_batches(data, config.seed),
        scores=ScoreTable(inputs.scores, space, criterion) if inputs.scores and criterion is not None else None,
        architectures=listed,
        device=resolved,
        **pool,
        about={"command": {name: getattr(inputs, name) for name in _Inputs.__dataclass_fields__}},
    )


def _make_value(space: SearchSpace, inputs: _Inputs, data: ImageData | None, device: str, seed: int) -> Value | str:
    """Return the value that ``--value`` names."""
    kind, _, name = inputs.value.partition(":")
    of_table = [flag for flag in ("accuracy_on", "guide", "metric") if getattr(inputs, flag)]
    if kind != "table" and of_table:
        raise ConfigError(f"{format_flag(of_table[0])} needs --value table:FILE.")
    if kind == "table" and name:
        table = read_table(name, space)
        return TableValue(table, inputs.accuracy_on or table.data_sets[0], inputs.guide, inputs.metric)
    if kind == "train" and name:
        from train.reduced import prepare_training

        assert data is not None
        return prepare_training(space, data, name, device=device, seed=seed)
    if inputs.value == PROXY:
        return PROXY
    raise ConfigError(f"--value '{inputs.value}' is unknown: give {_VALUES}.")


def _describe_plan(plan: TrialsPlan) -> str:
    config = plan.config
    warmup = f", after a warm-up of {config.warmup} architectures" if config.warmup else ""
    proxy = f" with {config.proxy}" if config.proxy and plan.value != PROXY else ""
    limits = [f"of at most {budget.format_value(budget.limit)}" for budget in plan.budget_checker.budgets]
    budgets = f"; networks {', '.join(limits)}" if limits else ""
    return (
        f"measuring {plan.space.name} by {plan.describe_value()}: {pluralize(config.trials, 'trial')} of "
        f"{config.algorithm}{proxy}{warmup}, seed {config.seed}{budgets}"
    )


def _format_result(plan: TrialsPlan, result: TrialsResult, folder: Path) -> list[str]:
    """Format architecture, value, size, budgets and the next command."""
    best, checker = result.best, plan.budget_checker
    failed = sum(1 for trial in result.trials if trial.failure)
    failures = f", {failed} of which failed" if failed else ""
    report = ", ".join(f"{name} {number:.6g}" for name, number in best.report.items())
    network_config = checker.network_config
    height, width = network_config.image_size
    cost = plan.space.cost(result.architecture, network_config)
    totals = zip(checker.budgets, checker.compute_totals(result.architecture), strict=True)
    kept = ", ".join(f"{format_count(total)} of {budget.format_value(budget.limit)}" for budget, total in totals)
    return [
        f"architecture  {plan.space.format(result.architecture)}",
        f"value         {best.value:.6g} by {plan.describe_value()}, in trial {best.number} of "
        f"{len(result.trials)}{failures}",
        *([f"report        {report}"] if report else []),
        f"size          {format_count(cost.params)} parameters, {format_count(cost.macs)} MACs "
        f"(C={network_config.channels}, {plan.space.describe_layers(network_config.layers)}, {height}x{width} images, "
        f"{pluralize(network_config.num_classes, 'class', 'classes')})",
        *([f"budgets       {kept}"] if kept else []),
        f"run folder    {folder} (tensorboard --logdir {quote_words([str(folder)])})",
        f"next          {format_program()} train --arch {quote_words([str(folder / 'architecture.json')])}",
    ]
