"""``zcpt benchmark trials``."""

from __future__ import annotations

import argparse
from pathlib import Path

from zcpt.cli._options import add_options, add_workers_arguments, get_given_options, parse_integer
from zcpt.cli.trials import ALGORITHM_GROUPS, GROUPS, AlgorithmSettings, add_value_arguments
from zcpt.errors import ConfigError
from zcpt.printing import print_lines
from zcpt.tabular import read_table
from zcpt.tabular.report import write_report
from zcpt.tabular.trial_curves import measure_trials, read_trial_variants
from zcpt.tabular.trials import TableValue
from zcpt.trials import TrialsConfig

_SEEDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--table", type=Path, metavar="FILE", required=True, help="tabular benchmark; see docs/benchmarks.md"
    )
    parser.add_argument("--space", metavar="NAME", required=True, help="search space of its architectures")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="a new folder, or one to resume")
    help_variants = (
        "YAML file of several ways to search: name -> settings, which win over flags; the first one of an algorithm is "
        "the baseline of its others"
    )
    parser.add_argument("--variants", type=Path, metavar="FILE", help=help_variants)
    help_seeds = f"number of seeds, from 0 on (default: {_SEEDS})"
    parser.add_argument("--seeds", type=parse_integer, metavar="INT", default=_SEEDS, help=help_seeds)
    help_target = (
        "reported accuracy that counts as success (default: that of the best guiding accuracy of the table, minus 0.1)"
    )
    parser.add_argument("--target", type=float, metavar="FLOAT", help=help_target)
    add_workers_arguments(parser, "run seeds side by side", None, "1")
    add_value_arguments(parser)
    add_options(parser, TrialsConfig, skip=["seed"], groups=GROUPS)
    add_options(parser, AlgorithmSettings, groups=ALGORITHM_GROUPS)


def run(args: argparse.Namespace) -> None:
    """Run the trials of all variants and seeds, and print what each variant found."""
    if args.seeds < 1 or (args.workers is not None and args.workers < 1):
        raise ConfigError("--seeds and --workers must be at least 1.")
    options = {**get_given_options(args, TrialsConfig, skip=["seed"]), **get_given_options(args, AlgorithmSettings)}
    table = read_table(args.table, args.space)
    value = TableValue(table, args.accuracy_on or table.data_sets[0], args.guide or "", args.metric or "")
    variants = read_trial_variants(args.variants, table) if args.variants else {"trials": {}}
    args.run_folder = args.out
    result = measure_trials(
        value,
        args.out,
        {name: {**options, **settings} for name, settings in variants.items()},
        scores=args.scores,
        seeds=range(args.seeds),
        table_only=bool(args.table_only),
        target=args.target,
        workers=args.workers,
        ray=args.ray,
    )
    for name, measures in result["results"].items():
        print_lines(
            f"{name:13} {value.metric} {measures['final']['mean']:.2f} % in the mean of {args.seeds} seeds; "
            f"{100 * measures['successful']:.0f} % came to {result['protocol']['target']:.2f} %"
        )
    print_lines(f"report        {write_report(args.out)}")
