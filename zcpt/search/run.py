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

from zcpt.architecture import Architecture
from zcpt.batches import Batch, Batches, as_batches, compute_fingerprint
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError, DataError, LostError
from zcpt.files import create_folder, describe_difference, lock_folder, read_text, to_json_text
from zcpt.journal import Journal
from zcpt.options import format_flag
from zcpt.processes import SINGLE_PROCESS, ProcessGroup, joined
from zcpt.proxies import Use
from zcpt.search.budgets import BudgetChecker, budgets, checksums, trained_network_config
from zcpt.search.callbacks import Callback, CallbackList
from zcpt.search.config import SearchConfig, configure
from zcpt.search.propose import Proposer
from zcpt.search.result import LATENCY, Candidate, SearchResult, check_folder, group, with_own_table, write_result
from zcpt.search.supernets import FreshSupernets, SearchSeeds, panel
from zcpt.search.validate import Validator, best
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.space_registry import get_space
from zcpt.versions import get_versions

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
    callbacks: Sequence[Callback] = (),
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
        return start(plan, callbacks, ranks)


@dataclass(frozen=True)
class Plan:
    """A search that may begin."""

    space: SearchSpace
    config: SearchConfig
    source: Batches
    network_config: NetworkConfig
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
    def bounds(self) -> BudgetChecker:
        """What the proposals have to keep; InfeasibleError if no architecture does."""
        return bounds_of(self.space, self.config, self.network_config)


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
    network_config = NetworkConfig(config.channels, config.layers, source.num_classes, channels, (height, width))
    space.check_network_config(network_config)
    device = resolve_device(device)
    memory = (
        _memory(FreshSupernets(space, network_config, config, device), config, probe) if config.max_memory else None
    )
    document = _document(space, config, network_config, device)
    document |= {"data": dict(source.about), "fingerprint": compute_fingerprint(probe)}
    trained = trained_network_config(config, network_config)
    space.check_network_config(trained)
    document |= {"budgets": checksums(space, trained, budgets(space, config, trained))}
    # Before anything is said of budgets: with another latency table it would not be about this search.
    remarks = check_folder(folder, document) if folder and resume else ()
    return Plan(space, config, source, network_config, device, document, folder, resume, tuple(remarks), memory)


def start(plan: Plan, callbacks: Sequence[Callback] = (), ranks: ProcessGroup = SINGLE_PROCESS) -> SearchResult:
    """Carry out what was prepared."""
    patient = plan.resume and plan.run_dir is not None
    audience, bounds = CallbackList(callbacks if ranks.first else (), patient), plan.bounds
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
        files = {"config.json": to_json_text(plan.document)}
        if plan.config.latency_table:
            files[LATENCY] = read_text(Path(plan.config.latency_table))
        create_folder(plan.run_dir, files)
    with lock_folder(plan.run_dir):
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
                    "the processes would make different searches: "
                    f"{describe_difference(key, documents[0][key], document[key])} in process {rank}. "
                    "Start all with the same settings, images and versions."
                )


def _with_remedy(error: LostError, run_dir: Path | None) -> LostError:
    if run_dir is None:
        return error
    text = str(error).rstrip(".")
    return LostError(f"{text}; what is done is on disk, and --resume {run_dir} goes on, with any number of processes.")


def bounds_of(space: SearchSpace, config: SearchConfig, searched: NetworkConfig) -> BudgetChecker:
    """What the proposals of a search have to keep.

    Raises:
        InfeasibleError: No architecture does.
        ConfigError: The latency table is missing, damaged, or lacks a block.
        SpaceError: The space has no networks of the width and depth that are to be trained.
    """
    network_config = trained_network_config(config, searched)
    space.check_network_config(network_config)
    return BudgetChecker(space, network_config, budgets(space, config, network_config), config.valid_only)


def _journal(run_dir: Path) -> Path:
    return run_dir / "journal"


def _run(plan: Plan, audience: CallbackList, bounds: BudgetChecker, ranks: ProcessGroup) -> SearchResult:
    journal = Journal(None if plan.run_dir is None else _journal(plan.run_dir))
    origin = FreshSupernets(plan.space, plan.network_config, plan.config, plan.device)
    proposer = Proposer(plan.space, origin, plan.config, plan.source, journal, audience, bounds)
    # A proposal's file has one writer, whoever made it; that of the validation is written by the first process.
    journal = journal if ranks.first else Journal()
    validator = Validator(
        plan.space, plan.network_config, plan.config, plan.source, plan.device, journal, audience, ranks
    )
    return carry_out(proposer, validator, plan.run_dir)


def carry_out(proposer: Proposer, validator: Validator, folder: Path | None = None) -> SearchResult:
    """Make all proposals, validate them and write the result."""
    space, config, audience, ranks = proposer.space, proposer.config, proposer.audience, validator.ranks
    audience.on_search_start(space, config)
    try:
        proposals = group(space, proposer.propose_all(ranks))
        result = _choose(validator, proposals, folder)
        if folder is not None and ranks.first:
            write_result(folder, space, result)
        audience.on_search_end(result)
    finally:
        audience.on_close()
    return result


def _choose(validator: Validator, proposals: dict[Architecture, tuple[int, ...]], folder: Path | None) -> SearchResult:
    candidates, config = list(proposals), validator.config
    validator.audience.on_validation_start(candidates)
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
                f"{format_flag(name)} {getattr(config, name)} is more than the {len(batches)} images that there are to "
                f"draw from: use {format_flag(name)} {len(batches)} or less."
            )


def _memory(origin: FreshSupernets, config: SearchConfig, probe: Batch) -> int | None:
    """Bytes for the first evaluation, to which all others are smaller; ConfigError if that is more than the limit."""
    start = origin.start(0)
    choice = next(iter(start.choices.values()))
    removed = [start.without(choice.name, candidate) for candidate in choice.candidates]
    return panel(origin.supernet(0), config, "operations").estimate_memory(removed, origin.place(probe))


def _document(
    space: SearchSpace, config: SearchConfig, network_config: NetworkConfig, device: torch.device
) -> dict[str, Any]:
    return {
        "space": space.name,
        "search": asdict(config),
        "seeds": asdict(SearchSeeds.derived(config.seed)),
        "images": {
            "size": list(network_config.image_size),
            "channels": network_config.in_channels,
            "classes": network_config.num_classes,
        },
        "device": str(device),
        "engine": config.engines(),
        "versions": get_versions(),
    }
