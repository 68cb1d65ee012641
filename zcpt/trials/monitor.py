"""Callbacks that show the progress of trials: a bar on a terminal, and TensorBoard."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from zcpt.printing import quote_words
from zcpt.progress import show_progress
from zcpt.space import SearchSpace
from zcpt.trials.callbacks import TrialsCallback
from zcpt.trials.config import TrialsConfig
from zcpt.trials.result import Trial, TrialsResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zcpt.event_files import EventFiles


class TrialsProgress(TrialsCallback):
    """A bar on a terminal, with the best value; a line in the log now and then elsewhere."""

    _bar: tqdm[Any] | None = None

    def on_trials_start(self, space: SearchSpace, config: TrialsConfig) -> None:
        self._config = config

    def on_trial(self, trial: Trial, best: Trial | None, replayed: bool) -> None:
        if self._bar is None:  # only now, since the bar of the warm-up comes before
            self._bar = show_progress(title="trials", total=self._config.trials, smoothing=0)
        if replayed and not self._bar.disable:
            self._bar.initial += 1  # a replayed trial takes no time and must not enter the rate
        text = "all have failed" if best is None else f"best {best.value:.6g} in trial {best.number}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()

    def on_close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class TrialsTensorBoard(TrialsCallback):
    """TensorBoard event files of trials: values, the best so far, trials a minute, and values against proxy scores.

    Args:
        folder: Folder of the event files. Files of an interrupted run are replaced: the journal replays all trials.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_trials_start(self, space: SearchSpace, config: TrialsConfig) -> None:
        from zcpt.event_files import EventFiles  # importing tensorboard takes long

        self._space = space
        remedy = f"When the run is finished, zcpt trials --resume {quote_words([str(self.folder.parent)])} writes them."
        self._files: EventFiles = EventFiles(self.folder, remedy)
        self._files.remove_earlier([""])
        settings = {name: value for name, value in asdict(config).items() if value not in ("", 0)}
        self._files.add_settings({"space": space.name, **settings}, ["trials/best"])
        self._started = time.monotonic()
        self._new = 0

    def on_trial(self, trial: Trial, best: Trial | None, replayed: bool) -> None:
        step = trial.number + 1
        if math.isfinite(trial.value):
            self._files.add_scalar("trials/value", trial.value, step)
        for name, score in trial.scores.items():
            if math.isfinite(score):
                self._files.add_scalar(f"trials/{name}", score, step)
        if best is not None:
            self._files.add_scalar("trials/best", best.value, step)
            for name, number in best.report.items():
                self._files.add_scalar(f"report_of_best/{name}", number, step)
        if not replayed:
            self._new += 1
            minutes = (time.monotonic() - self._started) / 60
            self._files.add_scalar("trials/per_minute", self._new / max(minutes, 1e-9), step)

    def on_trials_end(self, result: TrialsResult) -> None:
        text = self._space.format(result.architecture)
        self._files.add_text("result/genotype", f"`{text}`", 0)
        for name in result.best.scores:
            self._files.add_picture(f"result/value against {name}", draw_values_against_scores(result, name), 0)

    def on_close(self) -> None:
        self._files.close()


def draw_values_against_scores(result: TrialsResult, proxy: str) -> Figure:
    """Draw the values of trials against their scores by a proxy; trials without one of the two are left out."""
    from matplotlib.figure import Figure

    pairs = [(trial.scores.get(proxy, math.nan), trial.value) for trial in result.trials]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    axis.scatter([x for x, _ in pairs], [y for _, y in pairs], s=12, alpha=0.6, linewidths=0)
    axis.set_xlabel(proxy)
    axis.set_ylabel("value")
    axis.set_title(f"{len(pairs)} of {len(result.trials)} trials")
    return figure
