"""The whole search: N proposals, their validation, and the result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from zcpt.architecture import Architecture
from zcpt.devices import use_standard_settings
from zcpt.errors import CallbackError, ConfigError, LostError
from zcpt.files import describe_difference
from zcpt.folders import lock_folder
from zcpt.journal import Journal
from zcpt.processes import SINGLE_PROCESS, ProcessGroup, join_default_group
from zcpt.search.callbacks import Callback, CallbackList, add_listeners
from zcpt.search.config import SearchConfig, configure
from zcpt.search.context import SearchContext
from zcpt.search.finalists import find_best_finalist, measure_finalists
from zcpt.search.plan import SearchPlan, plan_search
from zcpt.search.propose import Proposer
from zcpt.search.result import Finalist, SearchResult, ValidatedArchitecture, group_proposals
from zcpt.search.run_folder import JOURNAL, create_run_folder, update_run_folder, write_result
from zcpt.search.supernets import FreshSupernets
from zcpt.search.validate import Validator, rank_candidates
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space
from zcpt.values import Value

_log = logging.getLogger(__name__)


def search(
    space: SearchSpace | str,
    batches: object,
    config: SearchConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    preset: str | None = None,
    num_classes: int | None = None,
    finalist_value: Value | None = None,
    workers: int = 1,
    callbacks: Sequence[Callback] = (),
    listeners: Sequence[Callback] | None = None,
    **options: Any,
) -> SearchResult:
    """Search for an architecture without training the supernet (Zero-Cost-PT, arXiv 2106.06799).

    All processes of torch.distributed's default group have to call this function; they share one search.

    Args:
        space: A space or its name.
        batches: Training images: a map-style data set, a DataLoader over one, a pair of tensors (images
            [N, C, H, W], labels [N]), or ``Batches``.
        config: Settings; None takes those of the space and the preset.
        run_dir: Folder for the journal and the result; None writes nothing.
        resume: Resume the search in ``run_dir``.
        device: Device on which networks are scored; with several processes, the device of this one.
        preset: ``"paper"`` for the published procedure.
        num_classes: Number of classes, where ``batches`` has no attribute for it.
        finalist_value: What measures the best proposals where ``finalists=5`` is given; the best value wins.
        workers: Processes that measure finalists side by side.
        callbacks: Called after every decision, on rank 0 only, such as ``zcpt.monitor.TensorBoard``.
        listeners: Old name of ``callbacks``.
        options: Fields of ``SearchConfig``, such as ``proposals=10``; they override ``config`` and ``preset``.

    Raises:
        InfeasibleError: No architecture meets the budgets; nothing has been scored or written.
        ZcptError: An argument cannot be used, and nothing has been written; or no candidate of a choice got a finite
            score, or no finalist a finite value, as the journal records. An error before the first decision leaves no
            new ``run_dir``.
        StorageError: A file cannot be written; what was finished before is kept, and can be resumed.
        CallbackError: A callback raised an error, which is the cause; the same holds.
        LostError: Another process of the search has died.

    Example:
        >>> result = zcpt.search("nasbench201", (images, labels), proposals=1, batch_size=32)
        >>> zcpt.get_space("nasbench201").format(result.architecture)
        '|nor_conv_3x3~0|+|...'
    """
    callbacks = add_listeners(callbacks, listeners)
    planned: dict[str, Any] = {"device": device, "num_classes": num_classes, "workers": workers}
    with join_default_group() as processes:
        space = get_space(space) if isinstance(space, str) else space
        config = configure(space, preset, base=config, **options)
        folder = None if run_dir is None else Path(run_dir)
        plan = plan_search(
            space, batches, config, run_dir=folder, resume=resume, finalist_value=finalist_value, **planned
        )
        return run_search(plan, callbacks, processes)


@use_standard_settings()
def run_search(
    plan: SearchPlan, callbacks: Sequence[Callback] = (), processes: ProcessGroup = SINGLE_PROCESS
) -> SearchResult:
    """Run a planned search.

    Raises:
        ZcptError: See ``search``.
        LostError: Another process of the search has died.
    """
    budget_checker = plan.budget_checker  # raises InfeasibleError before the run folder is created
    callback = CallbackList(
        callbacks if processes.is_main else (), hold_replayed=plan.resume and plan.run_dir is not None
    )
    # In this order: `propagate_errors` ends with an exchange, so rank 0 holds the lock until no process writes anymore.
    with _open_run_folder(plan) if processes.is_main else nullcontext(), processes.propagate_errors():
        try:
            # After this exchange the run folder of rank 0 exists for all processes.
            _check_same_search(processes.gather(plan.document))
            context = SearchContext(
                space=plan.space,
                config=plan.config,
                batches=plan.batches,
                supernets=FreshSupernets(plan.space, plan.network_config, plan.config, plan.device),
                network_config=plan.network_config,
                budget_checker=budget_checker,
                device=plan.device,
                journal=Journal(None if plan.run_dir is None else plan.run_dir / JOURNAL),
                callback=callback,
                processes=processes,
                finalist_value=plan.finalist_value,
                workers=plan.workers,
            )
            return execute_search(context, plan.run_dir, plan.earlier.proposals)
        except LostError as error:
            raise _add_remedy(error, plan.run_dir) from error


def execute_search(
    context: SearchContext, run_dir: Path | None = None, earlier_proposals: Sequence[int] = ()
) -> SearchResult:
    """Make all proposals, validate them, and write the result to an existing run folder, if there is one.

    ``earlier_proposals`` has the number of proposals before each extension of the search.
    """
    folder = run_dir and run_dir.absolute()  # now, since a callback may change the current folder
    try:
        context.callback.on_search_start(context.space, context.config)
        proposals = group_proposals(context.space, Proposer(context).propose_all())
        result = _validate(context, proposals, run_dir, earlier_proposals)
        if folder is not None and context.processes.is_main:
            write_result(folder, context.space, result)
        context.callback.on_search_end(result)
    except BaseException:
        try:
            context.callback.on_close()
        except CallbackError as error:
            _log.warning(str(error))  # the first error is the one that matters
        raise
    context.callback.on_close()
    return result


def _validate(
    context: SearchContext,
    proposals: Mapping[Architecture, tuple[int, ...]],
    run_dir: Path | None,
    earlier_proposals: Sequence[int],
) -> SearchResult:
    candidates = list(proposals)
    context.callback.on_validation_start(candidates)
    if len(candidates) > 1:
        counts = [sum(numbers[0] < count for numbers in proposals.values()) for count in earlier_proposals]
        scores = Validator(context).score(candidates, counts)
        ranking = rank_candidates(scores, context.config)
    else:
        if context.config.proposals > 1 and context.processes.is_main:
            _log.info("all proposals are the same architecture, so there is nothing to validate")
        scores, ranking = [[]], [0]
    validated = tuple(
        ValidatedArchitecture(architecture, proposals[architecture], tuple(row))
        for architecture, row in zip(candidates, scores, strict=True)
    )
    finalists: tuple[Finalist, ...] = ()
    best = candidates[ranking[0]]
    if context.finalist_value is not None and len(candidates) > 1:
        finalists = measure_finalists(context, [candidates[index] for index in ranking])
        best = find_best_finalist(finalists, context.finalist_value).architecture
    return SearchResult(best, validated, context.config, run_dir, finalists)


def _open_run_folder(plan: SearchPlan) -> AbstractContextManager[None]:
    """Create the run folder if it is new, and lock it; do nothing if the search writes nothing."""
    for text in plan.earlier.warnings:
        _log.warning(text)
    if plan.run_dir is None:
        return nullcontext()
    if plan.resume:
        return _resume_run_folder(plan.run_dir, plan.document)
    return create_run_folder(plan.run_dir, dict(plan.document), plan.config)


@contextmanager
def _resume_run_folder(run_dir: Path, document: Mapping[str, Any]) -> Iterator[None]:
    with lock_folder(run_dir):
        update_run_folder(run_dir, document)
        yield


def _check_same_search(documents: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError unless all processes have the same settings, images and versions."""
    first = documents[0]
    for rank, document in enumerate(documents):
        for key in ("space", "search", "images", "fingerprint", "sample", "budgets", "versions", "finalist_value"):
            if document[key] != first[key]:
                raise ConfigError(
                    f"the processes have different searches: {describe_difference(key, first[key], document[key])} "
                    f"in process {rank}. Start all with the same settings, images and versions."
                )


def _add_remedy(error: LostError, run_dir: Path | None) -> LostError:
    if run_dir is None:
        return error
    text = str(error).rstrip(".")
    return LostError(
        f"{text}; finished work is on disk, and --resume {run_dir} continues with any number of processes."
    )
