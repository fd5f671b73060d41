"""The observations of a night scored and explained, bucket by bucket, and put together into what is published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ...config.root import Config
from ...history.history import History
from ...models.batch_scoring import ScoredRows, assemble
from ...models.bundle import Bundle
from ...models.profile import ProfileCounts
from ...models.reasons import REASON_SCHEMA
from ..forget.forgotten import Forgotten, forgotten_rows
from ..lead_reasons import explained_rows, iterate_reasons, spread_reasons
from ..scores import iterate_scored, observations_to_score, scores_table
from .buckets import Bucket, BucketStore
from .model import NightModel

LEAST_EXPLAINED = 5_000
"""How many leads are explained before the work so far is safe: a reason costs many times a score."""

BucketDone = Callable[[Bucket], None]


@dataclass(frozen=True)
class Observed:
    """The leads of a night: ``table`` (lead_row, lead_id, cutoff), who is left out by reason, how many of the
    open leads were forgotten, and what to tell of leads whose age the model did not learn."""

    table: pa.Table = field(repr=False)
    excluded: dict[str, int]
    forgotten: int
    age_doubt: str | None = None


def observe(
    history: History, bundle: Bundle, config: Config, cutoff: datetime, forgotten: Forgotten
) -> Observed:
    """Every lead that is open at the cutoff and of an age that the model learnt, without those that were forgotten."""
    looked_at = config.observations
    found, age_doubt = observations_to_score(
        history, bundle, cutoff, looked_at.max_age, looked_at.untrained_ages
    )
    gone = forgotten_rows(history, forgotten)[found.table["lead_row"].to_numpy()]
    kept = found.table.filter(pa.array(~gone)) if gone.any() else found.table
    return Observed(kept, found.excluded, int(gone.sum()), age_doubt)


def score_buckets(
    history: History,
    observations: pa.Table,
    bundle: Bundle,
    config: Config,
    store: BucketStore,
    done: BucketDone,
) -> ScoredRows:
    """The scores of all observations; finished buckets are read, the others scored and made safe one by one."""
    total = observations.num_rows
    finished = store.finished()
    first = finished[-1].end if finished else 0

    def batches() -> Iterator[tuple[pa.Table, dict[str, Any]]]:
        rest = observations.slice(first)
        bucket_events = config.features.bucket_events
        for _, scored in iterate_scored(history, rest, bundle, bucket_events=bucket_events):
            counts = scored.counts.to_dict() if scored.counts is not None else None
            yield scored.to_table(), {"counts": counts}

    if first < total:
        for bucket in store.fill(batches(), config.nightly.bucket_leads, total):
            finished.append(bucket)
            done(bucket)
    empty = assemble([], bundle)
    rows = store.read(empty.to_table().schema)
    return ScoredRows.from_table(rows.combine_chunks(), bundle, _sum_counts(finished, empty.counts))


def explain_buckets(
    history: History,
    observations: pa.Table,
    scored: ScoredRows,
    bundle: Bundle,
    config: Config,
    cutoff: datetime,
    store: BucketStore,
    done: BucketDone,
) -> tuple[pa.Table | None, int]:
    """The reasons of all observations (null where a lead is not explained; None: none are wanted), and how many are."""
    if config.reasons.leads == "none":
        return None, 0
    rows = explained_rows(scored.probabilities[bundle.horizon], config.reasons)
    chosen = observations.take(pa.array(rows))
    finished = store.finished()
    first = finished[-1].end if finished else 0

    def batches() -> Iterator[tuple[pa.Table, dict[str, Any]]]:
        rest = chosen.slice(first)
        bucket_events = config.features.bucket_events
        for _, told in iterate_reasons(
            history, rest, bundle, config.reasons, cutoff, bucket_events=bucket_events
        ):
            yield told, {}

    if first < len(rows):
        least = min(config.nightly.bucket_leads, LEAST_EXPLAINED)
        for bucket in store.fill(batches(), least, len(rows)):
            done(bucket)
    told = store.read(REASON_SCHEMA)
    return spread_reasons(told, rows, observations.num_rows), len(rows)


def published_rows(
    model: NightModel, observations: pa.Table, scored: ScoredRows, run_id: str, reasons: pa.Table | None
) -> pa.Table:
    """The table that is published, most likely lead first, with the column ``features_hash`` at its end."""
    told = (model.identity.name, model.identity.version)
    scores = scores_table(model.bundle, observations, scored, run_id, reasons=reasons, registered=told)
    p = scored.probabilities[model.bundle.horizon]
    order = np.lexsort((np.arange(len(p)), -p))
    return scores.append_column("features_hash", pa.array(scored.features_hash[order], pa.uint64()))


def _sum_counts(buckets: list[Bucket], empty: ProfileCounts | None) -> ProfileCounts | None:
    total = empty
    for bucket in buckets:
        for batch in bucket.notes["batches"]:
            if total is not None and batch["counts"] is not None:
                total = total + ProfileCounts.from_dict(batch["counts"])
    return total
