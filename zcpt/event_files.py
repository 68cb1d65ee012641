"""TensorBoard's event files, written at once and without a thread."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as summaries

from zcpt.figures import encode_png
from zcpt.files import open_file
from zcpt.printing import escape_text

_log = logging.getLogger(__name__)
_counter = itertools.count()
_WRITER = "zcpt.event_files"
"""Mark of a writer in the first event of its file."""
_HEAD = 200
"""Bytes that hold the first event."""

Setting = bool | int | float | str | None


class EventFiles:
    """Event files of a search or training: one in its folder, and one in a subfolder for each further run.

    TensorBoard draws each run in a colour of its own. So lines that belong into one chart, such as those of the
    operations, are written as the same tag of several runs.

    torch's SummaryWriter hands its events to a thread, whose errors appear elsewhere, or never if it cannot be started.
    Here an event is on disk when its method returns. A view is not worth a run: if a file cannot be written, one
    warning says so, and nothing more is written.

    Args:
        folder: The folder, which is made if it is missing.
        remedy: Last words of the warning: how to get the events that are lost.
        first_step: Hide events of earlier files from this step on, which a resumed training writes again.
    """

    def __init__(self, folder: Path, remedy: str, first_step: int | None = None) -> None:
        self.folder = folder
        self.remedy = remedy
        self.first_step = first_step
        self._files: dict[str, tuple[Path, BinaryIO]] = {}
        self._failed = False

    def remove_earlier(self, runs: Sequence[str]) -> None:
        """Remove the event files of an interrupted search, which writes all of its events again.

        Files of other writers, such as a SummaryWriter of the user's, stay.

        Args:
            runs: Runs of the search; "" is the folder itself.
        """
        try:
            for run in runs:
                folder = self.folder / run
                for path in folder.glob("events.out.tfevents.*") if _is_inside(folder, self.folder) else ():
                    if _is_ours(path):
                        path.unlink()
        except OSError as error:
            self._fail(error)

    def add_scalar(self, tag: str, value: float, step: int, run: str = "") -> None:
        """Add a point of a curve."""
        self._write(summaries.scalar(tag, value), step, run)

    def add_picture(self, tag: str, figure: Figure, step: int) -> None:
        """Add a picture."""
        width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(figure))
        self._write(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add a text in Markdown."""
        self._write(summaries.text(tag, text), step)

    def add_charts(self, page: str, charts: Mapping[str, str]) -> None:
        """Add a page to the tab 'Custom Scalars': title of a chart -> tag whose runs are its lines."""
        lines = {title: ("Multiline", [f"^{re.escape(tag)}$"]) for title, tag in charts.items()}
        self._write(summaries.custom_scalars({page: lines}), 0)

    def add_settings(self, settings: Mapping[str, Setting | object], metrics: Sequence[str]) -> None:
        """Add a row to the tab 'HParams': settings, and the tags of the scalars that they are compared by."""
        values = {name: _convert_setting(value) for name, value in settings.items()}
        names, start, _ = summaries.hparams(values, dict.fromkeys(metrics, 0.0))
        self._write(names, 0)
        self._write(start, 0)

    def close(self) -> None:
        """Close all files."""
        for _, file in self._files.values():
            with contextlib.suppress(OSError):  # of a write that failed and was reported
                file.close()
        self._files = {}

    def _write(self, summary: Summary, step: int, run: str = "") -> None:
        if self._failed:
            return
        try:
            if run not in self._files:
                self._open(run)
            path, file = self._files[run]
            _append(file, Event(wall_time=time.time(), step=step, summary=summary))
            if not path.exists():
                raise FileNotFoundError("the files were deleted")
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failed = True
        reason = error.strerror or str(error)
        folder = escape_text(str(self.folder))
        _log.warning(f"TensorBoard's files in {folder} cannot be written: {reason}. {self.remedy}")
        self.close()

    def _open(self, run: str) -> None:
        folder = self.folder / run
        if not _is_inside(folder, self.folder):
            raise OSError("a symbolic link leads out of the folder")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_counter)}"
        file = open(folder / name, "xb")  # noqa: SIM115  # closed by `close`
        self._files[run] = folder / name, file
        source = SourceMetadata(writer=_WRITER)
        _append(file, Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=source))
        if self.first_step is not None:
            start = SessionLog(status=SessionLog.START)
            _append(file, Event(wall_time=time.time(), step=self.first_step, session_log=start))


def _is_ours(path: Path) -> bool:
    """Return whether an event file was begun by ``EventFiles``; earlier versions of zcpt gave theirs no mark."""
    try:
        with open_file(path, os.O_RDONLY) as file:
            return _WRITER.encode() in file.read(_HEAD)
    except OSError:  # a link, a pipe, or no permission
        return False


def _is_inside(path: Path, folder: Path) -> bool:
    """Return whether no symbolic link, which a run folder of a stranger may hold, leads from a folder to elsewhere."""
    return path.resolve() == folder.parent.resolve() / folder.name / path.relative_to(folder)


def _append(file: BinaryIO, event: Event) -> None:
    RecordWriter(file).write(event.SerializeToString())
    file.flush()


def _convert_setting(value: object) -> Setting:
    """Return a setting as TensorBoard can hold it: numbers within the range of a float, or text."""
    if isinstance(value, int | float) and abs(value) > 1e300:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
