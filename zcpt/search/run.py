"""The whole search: N proposals, validation, result."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from zcpt.batches import Batch, Batches, as_batches, fingerprint
from zcpt.devices import as_device
from zcpt.errors import ConfigError, DataError, LostError
from zcpt.files import as_json, locked, make_folder, read_text
from zcpt.options import flag
from zcpt.proxies import Use
from zcpt.search.budgets import Bounds, budgets, checksums, train_shape
from zcpt.search.config import SearchConfig, configure
from zcpt.search.events import Audience, Listener
from zcpt.search.journal import Journal
from zcpt.search.propose import Fresh, Proposer, Seeds, panel
from zcpt.search.ranks import ALONE, Ranks, joined
from zcpt.search.result import (
    LATENCY,
    Candidate,
    SearchResult,
    check_folder,
    difference,
    group,
    with_own_table,
    write_result,
)
from zcpt.search.validate import Validator, best
from zcpt.space import Architecture, SearchSpace, Shape
from zcpt.spaces import get_space
from zcpt.versions import versions

_log = logging.getLogger(__name__)


def search(
    space: SearchSpace | str,
    batches: object,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    preset: str | None = None,
    num_classes: int | None = None,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> SearchResult:
    """Find an architecture without training anything (Zero-Cost-PT, arXiv 2106.06799).

    Where torch.distributed's default process group is initialised, all of its processes have to call it, and share
    one search; the result is that of one process.

    Args:
        space: A space or its name.
        batches: Training images: a map-style data set, a DataLoader over one, a pair of tensors (images
            [N, C, H, W], labels [N]), or ``Batches``.
        run_dir: Folder for the journal and the result; None writes nothing.
        resume: Go on with the search that ``run_dir`` holds.
        device: Where networks are scored; in several processes, where this one scores them.
        preset: ``"paper"`` for the published procedure.
        num_classes: Number of classes, where ``batches`` does not say it.
        listeners: Told of every decision, such as ``zcpt.monitor.TensorBoard``; in several processes, the first one's.
        options: Fields of ``SearchConfig``, such as ``proposals=10``.

    Raises:
        InfeasibleError: No architecture keeps the budgets; nothing has been scored or written.
        ZcptError: Something given cannot be used, and nothing has been written; or no candidate of a choice got a
            finite score, and ``run_dir`` shows in its journal how that came. An error before the first decision, of
            whatever kind, leaves no new ``run_dir``.
        LostError: Another process of the search is gone.
    """
    with joined() as ranks:
        plan = prepare(
            space,
            batches,
            run_dir=run_dir,
            resume=resume,
            device=device,
            preset=preset,
            num_classes=num_classes,
            **options,
        )
        return start(plan, listeners, ranks)


@dataclass(frozen=True)
class Plan:
    """A search that may begin."""

    space: SearchSpace
    config: SearchConfig
    source: Batches
    shape: Shape
    """Of the supernet."""
    device: torch.device
    document: dict[str, Any]
    """What ``config.json`` holds."""
    run_dir: Path | None
    resume: bool
    remarks: tuple[str, ...] = ()
    """For the log: how a search that goes on differs from the one that began."""
    memory: int | None = None
    """An estimate of the bytes that scoring takes at once, where there is a limit."""

    @cached_property
    def bounds(self) -> Bounds:
        """What the proposals have to keep; InfeasibleError if no architecture does."""
        return bounds_of(self.space, self.config, self.shape)


def prepare(
    space: SearchSpace | str,
    batches: object,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    preset: str | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> Plan:
    """Check what ``search`` was given, without writing anything; the arguments are the same."""
    space = get_space(space) if isinstance(space, str) else space
    folder = None if run_dir is None else Path(run_dir)
    table = options.get("latency_table")
    if folder and resume and table and not Path(table).exists():
        options = with_own_table(folder, options)
    config = configure(space, preset, **options)
    source = as_batches(batches, num_classes)
    check_enough(source, config)
    probe = source.draw(config.batch_size, seed=0)
    _, channels, height, width = probe.images.shape
    shape = Shape(config.channels, config.layers, source.num_classes, channels, (height, width))
    space.check_shape(shape)
    device = as_device(device)
    memory = _memory(Fresh(space, shape, config, device), config, probe) if config.max_memory else None
    document = _document(space, config, shape, device)
    document |= {"data": dict(source.about), "fingerprint": fingerprint(probe)}
    trained = train_shape(config, shape)
    space.check_shape(trained)
    document |= {"budgets": checksums(space, trained, budgets(space, config, trained))}
    # Before anything is said of budgets: with another latency table it would not be about this search.
    remarks = check_folder(folder, document) if folder and resume else ()
    return Plan(space, config, source, shape, device, document, folder, resume, tuple(remarks), memory)


def start(plan: Plan, listeners: Sequence[Listener] = (), ranks: Ranks = ALONE) -> SearchResult:
    """Carry out what was prepared."""
    patient = plan.resume and plan.run_dir is not None
    audience, bounds = Audience(listeners if ranks.first else (), patient), plan.bounds
    with _folder(plan) if ranks.first else nullcontext(), ranks.together():
        try:
            _check_same(ranks.gather(plan.document))  # after which the folder is there
            return _run(plan, audience, bounds, ranks)
        except LostError as error:
            raise _with_remedy(error, plan.run_dir) from error


@contextmanager
def _folder(plan: Plan) -> Iterator[None]:
    """The run folder, if there is to be one: made if it is new, and locked."""
    for remark in plan.remarks:
        _log.warning(remark)
    if plan.run_dir is None:
        yield
        return
    if not plan.resume:
        files = {"config.json": as_json(plan.document)}
        if plan.config.latency_table:
            files[LATENCY] = read_text(Path(plan.config.latency_table))
        make_folder(plan.run_dir, files)
    with locked(plan.run_dir):
        try:
            yield
        except LostError:
            raise  # the other processes may still write there
        except Exception:
            if not plan.resume and not _journal(plan.run_dir).exists():
                # Nothing is decided that one could go on from: the folder would only be in the way of the next try.
                shutil.rmtree(plan.run_dir, ignore_errors=True)
            raise


def _check_same(documents: Sequence[dict[str, Any]]) -> None:
    for rank, document in enumerate(documents):
        for key in ("space", "search", "images", "fingerprint", "budgets", "versions"):
            if document[key] != documents[0][key]:
                raise ConfigError(
                    f"the processes would make different searches: {difference(key, documents[0][key], document[key])} "
                    f"in process {rank}. Start all with the same settings, images and versions."
                )


def _with_remedy(error: LostError, run_dir: Path | None) -> LostError:
    if run_dir is None:
        return error
    text = str(error).rstrip(".")
    return LostError(f"{text}; what is done is on disk, and --resume {run_dir} goes on, with any number of processes.")


def bounds_of(space: SearchSpace, config: SearchConfig, searched: Shape) -> Bounds:
    """What the proposals of a search have to keep.

    Raises:
        InfeasibleError: No architecture does.
        ConfigError: The latency table is missing, damaged, or lacks a block.
        SpaceError: The space has no networks of the width and depth that are to be trained.
    """
    shape = train_shape(config, searched)
    space.check_shape(shape)
    return Bounds(space, shape, budgets(space, config, shape), config.valid_only)


def _journal(run_dir: Path) -> Path:
    return run_dir / "journal"


def _run(plan: Plan, audience: Audience, bounds: Bounds, ranks: Ranks) -> SearchResult:
    journal = Journal(None if plan.run_dir is None else _journal(plan.run_dir))
    origin = Fresh(plan.space, plan.shape, plan.config, plan.device)
    proposer = Proposer(plan.space, origin, plan.config, plan.source, journal, audience, bounds)
    # A proposal's file has one writer, whoever made it; that of the validation is written by the first process.
    journal = journal if ranks.first else Journal()
    validator = Validator(plan.space, plan.shape, plan.config, plan.source, plan.device, journal, audience, ranks)
    return carry_out(proposer, validator, plan.run_dir)


def carry_out(proposer: Proposer, validator: Validator, folder: Path | None = None) -> SearchResult:
    """Make all proposals, validate them and write the result."""
    space, config, audience, ranks = proposer.space, proposer.config, proposer.audience, validator.ranks
    audience.started(space, config)
    try:
        proposals = group(space, proposer.propose_all(ranks))
        result = _choose(validator, proposals, folder)
        if folder is not None and ranks.first:
            write_result(folder, space, result)
        audience.finished(result)
    finally:
        audience.closed()
    return result


def _choose(validator: Validator, proposals: dict[Architecture, tuple[int, ...]], folder: Path | None) -> SearchResult:
    candidates, config = list(proposals), validator.config
    validator.audience.validating(candidates)
    if len(candidates) == 1 < config.proposals and validator.ranks.first:
        _log.info("all proposals are the same architecture, so there is nothing to validate")
    scores = validator.scores(candidates) if len(candidates) > 1 else [[]]
    winner = best(scores, config) if len(candidates) > 1 else 0
    described = tuple(
        Candidate(architecture, proposals[architecture], tuple(row))
        for architecture, row in zip(candidates, scores, strict=True)
    )
    return SearchResult(candidates[winner], described, config, folder)


def check_enough(batches: Batches, config: SearchConfig) -> None:
    """DataError if there are fewer images than the proxy needs or a mini-batch has."""
    validated = config.proposals > 1
    uses: tuple[Use, ...] = ("operations", "validation") if validated else ("operations",)
    for criterion in map(config.criterion, uses):
        if len(batches) < criterion.min_batch:
            raise DataError(
                f"there are {len(batches)} images to draw from, and proxy '{criterion.name}' needs at least "
                f"{criterion.min_batch}: give more training images."
            )
    for name in ("batch_size", "validation_batch_size") if validated else ("batch_size",):
        if getattr(config, name) > len(batches):
            raise DataError(
                f"{flag(name)} {getattr(config, name)} is more than the {len(batches)} images that there are to "
                f"draw from: use {flag(name)} {len(batches)} or less."
            )


def _memory(origin: Fresh, config: SearchConfig, probe: Batch) -> int | None:
    """Bytes for the first evaluation, to which all others are smaller; ConfigError if that is more than the limit."""
    start = origin.start(0)
    choice = next(iter(start.choices.values()))
    removed = [start.without(choice.name, candidate) for candidate in choice.candidates]
    return panel(origin.supernet(0), config, "operations").needs(removed, origin.place(probe))


def _document(space: SearchSpace, config: SearchConfig, shape: Shape, device: torch.device) -> dict[str, Any]:
    return {
        "space": space.name,
        "search": asdict(config),
        "seeds": asdict(Seeds.derived(config.seed)),
        "images": {
            "size": list(shape.image_size),
            "channels": shape.in_channels,
            "classes": shape.num_classes,
        },
        "device": str(device),
        "engine": config.engines(),
        "versions": versions(),
    }
