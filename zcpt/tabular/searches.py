"""What searches find, looked up: one search for each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from zcpt.batches import Batches, compute_fingerprint
from zcpt.devices import resolve_device
from zcpt.journal import Journal
from zcpt.search import Callback, SearchConfig, configure, search
from zcpt.seeding import derive_seed
from zcpt.tabular._folder import RESULT, opened, surroundings, write_json
from zcpt.tabular._table import Table
from zcpt.tabular.measures import mean_interval

_FILE = "searches"


def settings(table: Table, seed: int, preset: str | None = None, **options: Any) -> SearchConfig:
    """The settings of one search; it keeps to what the table lists, where the published list leaves some out."""
    return configure(table.space, preset, **{"valid_only": table.space.has_invalid_architectures, **options}, seed=seed)


def measure_searches(
    table: Table,
    batches: Callable[[int], Batches],
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    data_set: str = "cifar10",
    metric: str = "test",
    device: str | torch.device = "cpu",
    preset: str | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> dict[str, Any]:
    """Search once for each seed, and look up what was found.

    Args:
        table: The architectures and their accuracies.
        batches: From a seed to where the mini-batches come from.
        folder: Where the run folders and the result go. A folder of the same measurement is gone on with.
        seeds: Of the searches.
        data_set: Of the table.
        metric: Of the table.
        device: Where networks are scored.
        preset: As ``zcpt.search`` takes it.
        listeners: Told of every search.
        options: Fields of ``SearchConfig`` but ``seed``.

    Returns:
        What ``result.json`` holds. Seconds are those that the journals note: of scoring.

    Raises:
        ZcptError: Something given cannot be used.
    """
    folder, device = Path(folder), resolve_device(device)
    configs = {seed: settings(table, seed, preset, **options) for seed in seeds}
    document = {
        "benchmark": "search",
        "space": table.space.name,
        "table": table.document(data_set, metric),
        "seeds": list(seeds),
        "search": {k: v for k, v in asdict(configs[seeds[0]]).items() if k != "seed"},
        "images": {**batches(seeds[0]).about, "fingerprint": _first_batch(batches(seeds[0]), configs[seeds[0]])},
        **surroundings(device),
    }
    with opened(folder, document) as journal:
        done = {record["seed"]: record for record in journal.records(_FILE)}
        for seed, config in configs.items():
            if seed not in done:
                done[seed] = _searched(table, batches(seed), config, folder / f"seed_{seed}", device, callbacks)
                journal.append(_FILE, done[seed])
        rows = [_judged(table, done[seed], data_set, metric) for seed in seeds]
        result = {"protocol": document, "searches": rows, "results": _summary(rows)}
        write_json(folder / RESULT, result)
    return result


def _first_batch(batches: Batches, config: SearchConfig) -> str:
    size = min(config.batch_size, len(batches))
    return compute_fingerprint(batches.draw(size, derive_seed(config.seed, "fingerprint")))


def _searched(
    table: Table,
    batches: Batches,
    config: SearchConfig,
    run: Path,
    device: torch.device,
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    resume = run.exists()
    result = search(
        table.space, batches, run_dir=run, resume=resume, device=device, callbacks=callbacks, **asdict(config)
    )
    found = table.space.format(result.architecture)
    proposals = {n: table.space.format(c.architecture) for c in result.candidates for n in c.proposals}
    in_order = [proposals[n] for n in sorted(proposals)]
    return {"seed": config.seed, "architecture": found, "proposals": in_order, "seconds": seconds_of(run)}


def seconds_of(run: Path) -> float:
    """How long the scoring of a search took, from the lines of its journal."""
    journal = Journal(run / "journal")
    names = [path.stem for path in sorted((run / "journal").glob("*.jsonl"))]
    return math.fsum(record["seconds"] for name in names for record in journal.records(name))


def _judged(table: Table, record: Mapping[str, Any], data_set: str, metric: str) -> dict[str, Any]:
    def looked_up(text: str) -> float | None:
        return table.lookup(table.space.parse(text), data_set, metric)

    accuracy = looked_up(record["architecture"])
    rank = None if accuracy is None else table.rank(accuracy, data_set, metric)
    return {**record, "proposals": [looked_up(t) for t in record["proposals"]], "accuracy": accuracy, "rank": rank}


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    proposals = [accuracy for row in rows for accuracy in row["proposals"] if accuracy is not None]
    return {
        "accuracy": mean_interval(known),
        "not_in_table": len(rows) - len(known),
        "proposals": mean_interval(proposals)["mean"],
        "seconds": mean_interval([row["seconds"] for row in rows])["mean"],
    }
