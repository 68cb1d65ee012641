"""Progress bars and TensorBoard of a search."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import TensorDataset

import zcpt
from tests.conftest import LAYERS
from zcpt.monitor import Progress, TensorBoard, estimate_proposal_work
from zcpt.search.orders import simulate_rounds
from zcpt.space import SearchSpace

CELL_SPACES = ["darts-s2", "nasbench201"]
"""With and without a second phase. S2 stands for DARTS: with two operations an edge it takes a fifth of the time."""
OPTIONS = {
    "proxy": "hashed", "proposals": 2, "batch_size": 4, "validation_batch_size": 4, "validation_batches": 3,
    "validation_inits": 2, "channels": 4, "num_classes": 10,
}  # fmt: skip


def run_search(
    space: SearchSpace, pictures: TensorDataset, run: Any, resume: bool = False, *, board: bool = True, **options: Any
) -> Any:
    callbacks = [TensorBoard(run / "tensorboard")] if board else [Progress()]
    options |= {**OPTIONS, "layers": LAYERS[space.name], "run_dir": run, "resume": resume}
    return zcpt.search(space, pictures, callbacks=callbacks, **options)


def events(run: Any, name: str = "") -> Any:
    return EventAccumulator(str(run / "tensorboard" / name), size_guidance={"images": 0, "scalars": 0}).Reload()


def shown(run: Any, name: str = "") -> Any:
    """Return tags, steps and values of everything that TensorBoard shows of a run."""
    board = events(run, name)
    scalars = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    images = {tag: [e.step for e in board.Images(tag)] for tag in board.Tags()["images"]}
    texts = {
        tag: [(e.step, e.tensor_proto.string_val[0]) for e in board.Tensors(tag)] for tag in board.Tags()["tensors"]
    }
    return scalars, images, texts


@pytest.mark.usefixtures("blank_pictures")
def test_the_folder_may_be_a_text(pictures: TensorDataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {**OPTIONS, "layers": LAYERS["nasbench201"]}
    zcpt.search("nasbench201", pictures, callbacks=[TensorBoard(str(tmp_path / "board"))], **options)
    assert any((tmp_path / "board").glob("events*"))


@pytest.mark.few_spaces
def test_importances_heat_maps_cells_validation_and_genotypes_are_shown(
    space: SearchSpace, pictures: TensorDataset, tmp_path: Path
) -> None:
    result = run_search(space, pictures, tmp_path / "run")
    scalars, images, texts = shown(tmp_path / "run")
    groups = {choice.group for choice in space.choices}
    for group in groups:
        choices = [choice for choice in space.choices if choice.group == group and choice.phase == 0]
        operations = {candidate for choice in choices for candidate in choice.selectable}
        for operation in operations:
            points = shown(tmp_path / "run", f"operations/{operation}")[0][f"importance/{group or 'operations'}"]
            assert [step for step, _ in points] == [0, 1]
            assert all(-1 <= value <= 1 for _, value in points)
    assert "custom_scalars__config__" in texts
    assert images == {
        "proposal/importance": [0, 1], "proposal/cell": [0, 1], "result/cell": [0], "result/importance": [0]
    }  # fmt: skip
    for index, candidate in enumerate(result.candidates):
        points = shown(tmp_path / "run", f"candidates/{index:02d}")[0]["validation/mean_score"]
        assert [step for step, _ in points] == [1, 2, 3]
        assert points[-1][1] == pytest.approx(candidate.mean, rel=1e-5)
    assert scalars["result/distinct_networks"] == [(0, len(result.candidates))]
    text = space.format(result.architecture)
    assert texts["result/genotype/text_summary"] == [(0, f"`{text}`".encode())]
    assert len(texts["proposal/genotype/text_summary"]) == 2
    assert any("hparams" in tag for tag in events(tmp_path / "run").summary_metadata)


@pytest.mark.usefixtures("blank_pictures")
def test_a_search_of_darts_shows_few_cards_of_curves(pictures: TensorDataset, tmp_path: Path) -> None:
    """A tag is one card of TensorBoard, with a line for each run."""
    space = zcpt.get_space("darts-s1")
    run_search(space, pictures, tmp_path / "run")
    board = tmp_path / "run" / "tensorboard"
    runs = {str(path.parent.relative_to(board)) for path in board.rglob("events.out*")}
    assert {"operations/sep_conv_3x3", "operations/skip_connect", "candidates/00"} < runs
    tags = {tag for run in runs for tag in shown(tmp_path / "run", run)[0]}
    assert tags == {
        "importance/normal", "importance/reduce", "validation/mean_score", "result/distinct_networks",
        "result/best_validation_score",
    }  # fmt: skip


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("space", CELL_SPACES, indirect=True)
def test_tensorboard_shows_the_same_after_a_resume(space: Any, pictures: TensorDataset, tmp_path: Path) -> None:
    run_search(space, pictures, tmp_path / "whole")
    run = shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (run / "journal" / "validation.jsonl").unlink()
    last = run / "journal" / "proposal_001.jsonl"
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:3]))
    run_search(space, pictures, run, resume=True)
    folders = {path.parent.relative_to(run / "tensorboard") for path in run.rglob("events.out*")}
    assert len(folders) > 4
    assert len(list(run.rglob("events.out*"))) == len(folders)
    for folder in folders:
        assert shown(run, str(folder)) == shown(tmp_path / "whole", str(folder))


def test_the_work_of_a_proposal_shrinks_with_every_decision(space: SearchSpace) -> None:
    counts = [look.evaluations for look in simulate_rounds(space.choices, "random")]
    work = estimate_proposal_work(space.choices, "random")
    per_evaluation = [round(w / count, 9) for w, count in zip(work, counts, strict=True)]
    assert per_evaluation[0] == 1
    assert per_evaluation == sorted(per_evaluation, reverse=True)
    assert per_evaluation[-1] < 0.8


class Terminal:
    """A text file that claims to be a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: Any) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> Any:
        return True


@pytest.mark.parametrize(
    ("space", "order"),
    [
        ("darts-s2", "random"),
        ("nasbench201", "random"),
        ("nasbench201", "global-op-iter"),
        pytest.param("darts-s2", "global-op-iter", marks=pytest.mark.slow),
    ],
    indirect=["space"],
)
def test_bars_reach_100_percent_also_after_a_resume(
    space: Any, order: str, pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for resume in (False, True):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        run_search(space, pictures, tmp_path / "run", resume, board=False, order=order)
        monkeypatch.undo()
        assert "proposals: 100%" in terminal.text
        assert "validation of" in terminal.text
        assert "proposal 2 of 2" in terminal.text
        assert re.search(r"proposals:  ..%.*<\d\d:\d\d", terminal.text) or resume  # time left, while it runs


@pytest.mark.parametrize("space", CELL_SPACES, indirect=True)
def test_bars_print_nothing_without_a_terminal(
    space: Any, pictures: TensorDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_search(space, pictures, tmp_path / "run", board=False)
    assert capsys.readouterr().err == ""
