"""``zcpt reproduce``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from zcpt.cli._parser import parse
from zcpt.cli.list_names import align_columns
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.files import write_atomically
from zcpt.printing import print_lines
from zcpt.tabular.markdown import format_mean
from zcpt.tabular.papers import ENTRIES, PAPERS
from zcpt.tabular.reproduction import MEASUREMENTS, SCALES, Entry, Files, write_entry, write_overview

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="table or figure of a paper, such as zcpt-table-1")
    parser.add_argument("--list", action="store_true", help="show all of them, and what they need")
    parser.add_argument("--all", action="store_true", help="run all that can run here, one after the other")
    help_scale = "small: minutes on a CPU; full: the published settings (default: small)"
    parser.add_argument("--scale", choices=SCALES, metavar="|".join(SCALES), default="small", help=help_scale)
    help_tables = "folder of the tabular benchmarks (default: data)"
    parser.add_argument("--table-dir", type=Path, metavar="PATH", default=Path("data"), help=help_tables)
    help_data = "folder of the images, with cifar10/train/CLASS/ or torchvision's files (default: data)"
    parser.add_argument("--data-dir", type=Path, metavar="PATH", default=Path("data"), help=help_data)
    parser.add_argument("--device", help="torch device: cpu, cuda, cuda:1 ... (default: cuda if available)")
    help_out = "a new folder, or one to resume; all tables and figures can share it (default: runs/reproduce)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path("runs/reproduce"), help=help_out)


def run(args: argparse.Namespace) -> None:
    """Show the list, or measure one table or figure or all of them."""
    files = Files(args.table_dir, args.data_dir)
    # Whoever names a device has decided that the full scale shall run on it.
    has_gpu = bool(args.device) or torch.cuda.is_available()
    if args.list:
        print_lines(*format_list(files, has_gpu))
        return
    entries = _select_entries(args, files, has_gpu)
    out = args.out / args.scale
    args.run_folder = out / MEASUREMENTS
    for entry in entries:
        _measure_entry(entry, out, files, args)
        document = write_entry(entry, args.scale, out, files)
        print_lines(f"{entry.name}: {entry.title}")
        for number in document["numbers"]:
            ours = format_mean(number["ours"], number["digits"])
            print_lines(f"  {number['row']}, {number['column']}: published {number['value']}, ours {ours}")
        print_lines(f"report        {out / entry.name / 'report.md'}")
    print_lines(f"all reports   {write_overview(out, list(ENTRIES))}")


def format_list(files: Files, has_gpu: bool) -> list[str]:
    """Return a line for each table and figure, and one for each paper."""
    rows = [("name", "paper", "scales", "minutes", "needs", "missing", "what")]
    for entry in ENTRIES.values():
        needs = entry.list_needs(files, "full", has_gpu)
        # A GPU is of use at full scale only.
        missing = [need.name for need in entry.list_needs(files, entry.scales[0], has_gpu) if not need.is_there]
        minutes = "-" if entry.minutes is None else f"{entry.minutes:.0f}"
        texts = (", ".join(names) for names in (entry.scales, [need.name for need in needs], missing or ["-"]))
        scales, names, lacking = texts
        rows.append((entry.name, entry.paper, scales, minutes, names, lacking, entry.title))
    explained = "minutes: at small scale on two CPU cores, '-' if not measured; a GPU is needed at full scale only"
    return [*align_columns(rows), "", explained, *(f"{name}: {title}" for name, title in PAPERS.items())]


def _select_entries(args: argparse.Namespace, files: Files, has_gpu: bool) -> list[Entry]:
    """Return the entry of the name, or all that can run here; the others are reported.

    Raises:
        ConfigError: Neither or both are given, the name is unknown, or what it needs is not there.
    """
    if bool(args.name) == args.all:
        raise ConfigError("give one table or figure, such as zcpt-table-1, or --all; --list shows them.")
    if args.name:
        if args.name not in ENTRIES:
            raise ConfigError(describe_unknown_name("table or figure", args.name, ENTRIES, "zcpt reproduce --list"))
        entry = ENTRIES[args.name]
        entry.check_needs(files, args.scale, has_gpu)
        return [entry]
    entries = []
    for entry in ENTRIES.values():
        try:
            entry.check_needs(files, args.scale, has_gpu)
            entries.append(entry)
        except ConfigError as error:
            _log.warning(f"left out: {error}")
    if not entries:
        raise ConfigError(f"nothing can run at {args.scale} scale: 'zcpt reproduce --list' shows what is missing.")
    return entries


def _measure_entry(entry: Entry, out: Path, files: Files, args: argparse.Namespace) -> None:
    """Run or resume the measurements of an entry; finished ones only write their results again."""
    folder, scale = out / MEASUREMENTS, args.scale
    folder.mkdir(parents=True, exist_ok=True)
    for measurement in entry.measurements:
        table = files.find_table(measurement.space)
        images = [] if measurement.kind == "trials" else files.find_images(measurement.data_set)
        assert table is not None
        assert images is not None
        if measurement.variants:
            write_atomically(measurement.get_variants_path(folder), measurement.variants)
        words = measurement.build_words(folder, table, images, scale, args.device)
        _log.info(f"{entry.name}: {measurement.name}")
        _run_command(words, args)


def _run_command(words: Sequence[str], args: argparse.Namespace) -> None:
    """Run a command of zcpt in this process."""
    parsed = parse(words)
    parsed.ranks, parsed.words = args.ranks, words
    parsed.run(parsed)
