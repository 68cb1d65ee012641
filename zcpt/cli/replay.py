"""``zcpt replay``."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.data import build_scoring_batches
from zcpt.cli._options import add_data_arguments, pick_device, reload_data
from zcpt.cli.trials import load_plan
from zcpt.errors import ConfigError
from zcpt.monitor import Progress
from zcpt.options import pluralize
from zcpt.printing import print_lines
from zcpt.search import read_run_config, replay
from zcpt.trials import TrialsProgress, is_run_of_trials, replay_trials


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished search, or of finished trials")
    add_data_arguments(parser, image_flags=())


def run(args: argparse.Namespace) -> int:
    """Repeat a search or trials, and print 'same' (exit code 0) or the first difference (exit code 1)."""
    if is_run_of_trials(args.folder):
        return _replay_trials(args)
    document = read_run_config(args.folder)
    data_of_run = document["data"]
    if "dataset" not in data_of_run:
        raise ConfigError(f"{args.folder} was started from Python: use zcpt.replay there.")
    data = reload_data(data_of_run, args)
    batches = build_scoring_batches(data, document["search"]["seed"])
    device = pick_device(args.device or document["device"])
    outcome = replay(args.folder, batches, device=device, callbacks=[Progress()])
    if outcome.difference:
        print_lines(f"different: {outcome.difference}")
        return 1
    finalists = outcome.finalists
    note = f"; {pluralize(finalists, 'finalist')} not measured again: values of the journal" if finalists else ""
    print_lines(
        f"same: all {outcome.decisions} decisions and the architecture "
        f"(scores differ by {outcome.largest_gap:.3g} at most{note})"
    )
    return 0


def _replay_trials(args: argparse.Namespace) -> int:
    """Repeat trials. Trainings are not repeated: the algorithm is told their values."""
    plan = load_plan(args.folder, args)
    is_training = not isinstance(plan.value, str) and plan.value.name.startswith("train:")
    outcome = replay_trials(plan, args.folder, measure=not is_training, callbacks=[TrialsProgress()])
    if outcome.difference:
        print_lines(f"different: {outcome.difference}")
        return 1
    what = "proxy scores" if is_training else "values and proxy scores"
    print_lines(
        f"same: all {outcome.trials} trials and the architecture ({what} differ by {outcome.largest_gap:.3g} at most)"
    )
    return 0
