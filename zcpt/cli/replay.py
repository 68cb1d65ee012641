"""``zcpt replay``."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.data import build_scoring_batches
from zcpt.cli._options import add_data_arguments, pick_device, reload_data
from zcpt.errors import ConfigError
from zcpt.monitor import Progress
from zcpt.printing import print_lines
from zcpt.search import read_run_config, replay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished search")
    add_data_arguments(parser, image_flags=())


def run(args: argparse.Namespace) -> int:
    """Repeat a search, and print 'same' (exit code 0) or the first difference (exit code 1)."""
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
    print_lines(
        f"same: all {outcome.decisions} decisions and the architecture "
        f"(scores differ by {outcome.largest_gap:.3g} at most)"
    )
    return 0
