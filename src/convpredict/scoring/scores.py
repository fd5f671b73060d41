"""Score every open lead at one instant with a bundle, into a list that is sorted by probability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa

from ..config.base import Duration
from ..config.reasons import ReasonsConfig
from ..engines.buckets import BUCKET_EVENTS
from ..features.batches import map_features
from ..history.history import History
from ..history.notebook_view import facts_html
from ..models.batch_scoring import BatchScorer, ScoredBatch, ScoredRows, assemble
from ..models.bundle import Bundle
from ..models.horizons import median_days
from ..models.reasons import REASON_SCHEMA
from ..training.lead_ages import leaves_out
from ..training.lead_times import microseconds_of, to_microseconds
from ..training.observations import Observations, open_observations
from .lead_reasons import LeadReasons, explain_observations, explained_rows, spread_reasons


@dataclass(frozen=True)
class Scores:
    """A scored lead list and the account of who is not on it.

    ``table``: lead_id, cutoff, run_id, model_name, model_version (its number in the registry, empty where the bundle
    does not come from there), model_digest (the bundle's), p_convert_<horizon> (float64) for every horizon from
    the shortest to the longest, never falling, score (int16, 0 to 100: the share of the leads of the model's
    reference with a lower probability; only where the bundle has a profile), with more than one horizon
    median_days_to_conversion (given that it comes within the longest; null where it cannot be told), rank (by
    the bundle's horizon, 1 is the most likely; ties by lead_id) and, where the bundle predicts values,
    expected_value with its _low and _high (P times value, value_low and value_high; of customers, with outcome
    purchase, these themselves), value, value_low and value_high (revenue given a conversion and the interval of one
    lead's, in the currency of the data; where a few customers bring most of the revenue, the mean lies above that
    interval: add up the means, expect of one lead what the interval says); where it has a scorecard,
    scorecard_points and scorecard_grade; where reasons are wanted, reasons_for, reasons_against and
    reason_contributions (see models.reasons); most likely lead first.
    ``excluded``: leads left out, by reason. ``age_doubt``: what to tell of leads whose age the model did not learn.
    """

    table: pa.Table = field(repr=False)
    probability_column: str
    excluded: dict[str, int]
    age_doubt: str | None = None

    def __repr__(self) -> str:
        return f"Scores({self.table.num_rows:,} open leads by {self.probability_column})"

    def _repr_html_(self) -> str:
        p = self.table[self.probability_column].to_numpy()
        left_out = [f"{name} {count:,}" for name, count in self.excluded.items() if count]
        facts: dict[str, object] = {
            "open leads": len(p),
            "as of": f"{self.table['cutoff'][0].as_py():%Y-%m-%d %H:%M} UTC" if len(p) else None,
            "conversions expected": f"{p.sum():,.1f} (sum of {self.probability_column})",
            "highest probability": f"{p.max():.1%}" if len(p) else None,
            "median probability": f"{np.median(p):.2%}" if len(p) else None,
            "left out": ", ".join(left_out) or None,
            "columns of .table": ", ".join(self.table.column_names),
        }
        if "expected_value" in self.table.column_names:
            facts["revenue expected"] = f"{np.sum(self.table['expected_value'].to_numpy()):,.0f}"
        return facts_html(facts)


def score_open_leads(
    history: History,
    bundle: Bundle,
    *,
    as_of: datetime | None = None,
    max_age: Duration | None = None,
    run_id: str = "",
    bucket_events: int = BUCKET_EVENTS,
    progress: Callable[[float], None] | None = None,
    reasons: ReasonsConfig | None = None,
    untrained_ages: Literal["leave_out", "score"] = "leave_out",
) -> Scores:
    """Score all leads that may be observed at ``as_of`` (default: the end of the data), bucket by bucket.

    Leads much younger or older than any row that the model learnt from are left out, or scored all the same, as
    ``untrained_ages`` says; :attr:`Scores.age_doubt` tells of them.
    ``reasons`` says how the leads are explained, in which language, and which of them (None: none).
    Raises BundleError if the history lacks what the bundle's features are computed from.
    """
    cutoff = (as_of or history.known_until).astimezone(UTC)
    bundle.feature_set.check_history(history)
    observed, age_doubt = observations_to_score(history, bundle, cutoff, max_age, untrained_ages)
    wanted = reasons if reasons is not None and reasons.leads != "none" else None
    everybody = LeadReasons(history, bundle, wanted, cutoff) if wanted and wanted.leads == "all" else None
    scorer = BatchScorer(bundle)

    def work(_: int, batch: pa.RecordBatch) -> tuple[ScoredBatch, pa.Table | None]:
        return scorer.score(batch), everybody.explain(batch) if everybody is not None else None

    requests = [(observed.table, bundle.feature_set)]
    results = map_features(history, requests, work, bucket_events=bucket_events, progress=progress)
    pieces = [result for _, _, result in results]
    scored = assemble([piece for piece, _ in pieces], bundle)
    told = None
    if everybody is not None:
        told = pa.concat_tables([REASON_SCHEMA.empty_table(), *(piece for _, piece in pieces)])
    elif wanted is not None:
        rows = explained_rows(scored.probabilities[bundle.horizon], wanted)
        chosen = observed.table.take(pa.array(rows))
        told = explain_observations(history, chosen, bundle, wanted, cutoff, bucket_events=bucket_events)
        told = spread_reasons(told, rows, scored.rows)
    table = scores_table(bundle, observed.table, scored, run_id, reasons=told)
    return Scores(table, f"p_convert_{bundle.horizon}", observed.excluded, age_doubt)


def observations_to_score(
    history: History,
    bundle: Bundle,
    cutoff: datetime,
    max_age: Duration | None,
    untrained_ages: Literal["leave_out", "score"],
) -> tuple[Observations, str | None]:
    """The open leads that a bundle scores at a cutoff, and what to tell of those whose age it did not learn."""
    ages, leave_out = bundle.ages, leaves_out(untrained_ages, bundle.outcome)
    observed = open_observations(history, cutoff, max_age, bundle.outcome, ages=ages if leave_out else None)
    if ages is None:
        return observed, None
    counts = observed.excluded
    if not leave_out:
        created_at = microseconds_of(history.leads["created_at"])[observed.table["lead_row"].to_numpy()]
        counts = ages.beyond(to_microseconds(cutoff) - created_at)
    return observed, ages.doubt(counts, scored=not leave_out)


def iterate_scored(
    history: History,
    observations: pa.Table,
    bundle: Bundle,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, ScoredBatch]]:
    """Score observations (lead_row, lead_id, cutoff, sorted) piece by piece, in their order, in threads.

    Yields the position of each piece's first row, and its scores; :func:`~.models.batch_scoring.assemble` puts pieces
    together. A row's scores depend on nothing but its history and the bundle, so any part of a list may be scored by
    itself. Memory is that of a few buckets. Raises BundleError if the history lacks what the features are computed
    from.
    """
    bundle.feature_set.check_history(history)
    scorer = BatchScorer(bundle)

    def score(_: int, batch: pa.RecordBatch) -> ScoredBatch:
        return scorer.score(batch)

    requests = [(observations, bundle.feature_set)]
    for _, first, scored in map_features(
        history, requests, score, bucket_events=bucket_events, n_jobs=n_jobs, progress=progress
    ):
        yield first, scored


def scores_table(
    bundle: Bundle,
    observed: pa.Table,
    scored: ScoredRows,
    run_id: str,
    *,
    reasons: pa.Table | None = None,
    registered: tuple[str, str] | None = None,
) -> pa.Table:
    """The published list of scored observations, most likely lead first: columns as :class:`Scores` documents.

    ``observed`` has lead_id and cutoff, ``scored`` and ``reasons`` (columns of ``REASON_SCHEMA``, null where a lead is
    not explained; None: no such columns) a row for each in the same order. ``registered``: the name and version under
    which the registry has the bundle, if it comes from there.
    """
    p = scored.probabilities[bundle.horizon]
    name, version = registered or (bundle.name, "")
    columns: dict[str, pa.Array] = {
        "lead_id": observed["lead_id"].combine_chunks(),
        "cutoff": observed["cutoff"].combine_chunks(),
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), len(p)),
        "model_name": pa.repeat(pa.scalar(name, pa.string()), len(p)),
        "model_version": pa.repeat(pa.scalar(version, pa.string()), len(p)),
        "model_digest": pa.repeat(pa.scalar(bundle.digest, pa.string()), len(p)),
    }
    for horizon, values in scored.probabilities.items():
        columns[f"p_convert_{horizon}"] = pa.array(values, pa.float64())
    if scored.score is not None:
        columns["score"] = pa.array(scored.score, pa.int16())
    if len(scored.probabilities) > 1:
        days = median_days(scored.probabilities)
        columns["median_days_to_conversion"] = pa.array(days, pa.float64(), from_pandas=True)
    order = np.lexsort((np.arange(len(p)), -p))
    rank = np.empty(len(p), np.int64)
    rank[order] = np.arange(1, len(p) + 1)
    columns["rank"] = pa.array(rank)
    amounts = (scored.value, scored.value_low, scored.value_high)
    if bundle.value is not None:
        columns |= _value_columns(bundle, p, np.column_stack([each for each in amounts if each is not None]))
    if scored.points is not None:
        columns["scorecard_points"] = pa.array(scored.points, pa.float64())
        columns["scorecard_grade"] = pa.array(scored.grades, pa.string())
    if reasons is not None:
        columns |= {name: reasons[name].combine_chunks() for name in REASON_SCHEMA.names}
    return pa.table(columns).take(pa.array(order))


def _value_columns(bundle: Bundle, p: np.ndarray, values: np.ndarray) -> dict[str, pa.Array]:
    """The expected value and its ends, then the value given a conversion and its ends, in the currency of the data."""
    names = (
        "expected_value",
        "expected_value_low",
        "expected_value_high",
        "value",
        "value_low",
        "value_high",
    )
    expected = [bundle.expected_value(p, each) for each in values.T]
    amounts = np.column_stack([*expected, values])
    return {name: pa.array(amounts[:, i], pa.float64()) for i, name in enumerate(names)}
