"""``zcpt predict``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator

from train.layout import describe_left_out
from train.predict import BATCH_SIZE, TOP, Prediction, find_pictures, load, predict_pictures
from zcpt.cli._options import add_trained_argument, parse_integer, pick_device
from zcpt.errors import ConfigError, DataError
from zcpt.options import format_flag, pluralize
from zcpt.printing import escape_text, print_lines

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_trained_argument(parser)
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="pictures, folders of pictures, or - for names on the standard input, one a line",
    )
    parser.add_argument(
        "--top", type=parse_integer, metavar="INT", default=TOP, help=f"classes for each picture (default: {TOP})"
    )
    parser.add_argument(
        "--json",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="print a JSON object on a line for each picture (default: --no-json)",
    )
    parser.add_argument(
        "--batch-size",
        type=parse_integer,
        metavar="INT",
        default=BATCH_SIZE,
        help=f"pictures that are computed at once (default: {BATCH_SIZE})",
    )
    parser.add_argument("--device", help="torch device: cpu, cuda, cuda:1 ... (default: cuda if available)")


def run(args: argparse.Namespace) -> None:
    """Print the most probable classes of each picture."""
    for name in ("top", "batch_size"):
        if getattr(args, name) < 1:
            raise ConfigError(f"{format_flag(name)} {getattr(args, name)} is too small: it must be at least 1.")
    trained, device = load(args.source), pick_device(args.device)
    pictures = list(_list_pictures(args.pictures))
    if not pictures:
        raise DataError("no picture is named on the standard input.")
    failed = 0
    for prediction in predict_pictures(trained, pictures, top=args.top, batch_size=args.batch_size, device=device):
        failed += bool(prediction.error)
        if args.json:
            print_lines(json.dumps(prediction.to_document()))
        elif not prediction.error:
            print_lines(_format_line(prediction))
        if prediction.error:
            _log.warning(escape_text(prediction.error))
    if failed:
        raise DataError(f"{failed} of {pluralize(len(pictures), 'picture')} cannot be read.")


def _format_line(prediction: Prediction) -> str:
    found = zip(prediction.classes, prediction.probabilities, strict=True)
    return f"{prediction.picture}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in found)


def _list_pictures(given: list[str]) -> Iterator[str]:
    """Yield the paths of all pictures that are given, and say what was left out of folders."""
    for path in given:
        for name in _read_names() if path == "-" else [path]:
            pictures, left_out = find_pictures(name)
            if left_out:
                _log.info(f"{name}: {pluralize(len(pictures), 'picture')}; left out: {describe_left_out(left_out)}")
            yield from pictures


def _read_names() -> Iterator[str]:
    # Names that are no UTF-8 are kept, as those of the file system are.
    reader = getattr(sys.stdin, "reconfigure", None)
    if reader:
        reader(errors="surrogateescape")
    yield from (line for line in sys.stdin.read().splitlines() if line)
