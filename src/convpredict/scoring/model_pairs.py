"""Two models scored on the same mature observations that neither was trained on, in one pass over the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..config.base import Duration
from ..config.root import Config
from ..config.training import LabelsConfig
from ..errors import PromotionError
from ..evaluation.horizon_comparison import HorizonPair
from ..evaluation.value_comparison import ValuePair
from ..features.batches import map_features
from ..features.feature_set import FeatureSet
from ..features.labels import slug
from ..history.history import History
from ..models.batch_scoring import BatchScorer, assemble
from ..models.bundle import Bundle
from ..training.labels import label_column, label_observations
from ..training.lead_times import microseconds_of, to_microseconds
from ..training.observations import make_observations
from ..training.revenue_outcomes import revenue_columns
from .scores import scores_table

Floats = npt.NDArray[np.float64]
MOST_SEGMENTS = 3


@dataclass(frozen=True)
class PairedScores:
    """One row per observation: ``label`` (0 or 1), both models' probabilities, ``lead_ids``, ``cutoff``, and by
    segment attribute the value that was visible at the cutoff (null: none). ``further``: the same observations by
    further horizon that both models predict, where its outcome is known. ``value``: those whose value window the data
    covers (None: the value was not asked for)."""

    label: Floats = field(repr=False)
    p_challenger: Floats = field(repr=False)
    p_champion: Floats = field(repr=False)
    lead_ids: pa.Array = field(repr=False)
    cutoff: pa.Array = field(repr=False)
    segments: dict[str, pa.ChunkedArray] = field(repr=False)
    further: Mapping[str, HorizonPair] = field(repr=False)
    value: ValuePair | None = field(default=None, repr=False)


def check_comparable(challenger: Bundle, champion: Bundle) -> None:
    """Raise PromotionError where two models predict something different, so that no observation can tell the better."""
    for what, one, other in (
        ("outcome", challenger.outcome, champion.outcome),
        ("first horizon", str(challenger.horizon), str(champion.horizon)),
    ):
        if one != other:
            raise PromotionError(
                f"the challenger's {what} is {one}, the champion's {other}: they predict different things, so that "
                "nothing tells which one is better, and the champion stays. If the project now wants the other "
                "prediction, say so: --force REASON; else train with the champion's labels"
            )


def lost_columns(challenger: Bundle, champion: Bundle) -> list[str]:
    """The columns of the published list that readers would no longer get from the challenger."""
    kept = set(_published_columns(challenger))
    return [name for name in _published_columns(champion) if name not in kept]


def _published_columns(bundle: Bundle) -> list[str]:
    nobody = pa.table(
        {"lead_id": pa.array([], pa.string()), "cutoff": pa.array([], pa.timestamp("us", "UTC"))}
    )
    return list(scores_table(bundle, nobody, assemble((), bundle), "").schema.names)


def score_pair(
    history: History,
    challenger: Bundle,
    champion: Bundle,
    config: Config,
    since: datetime,
    *,
    value_horizon: Duration | None = None,
    progress: Callable[[float], None] | None = None,
) -> PairedScores:
    """Score the observations of the configuration from ``since`` on whose outcome is known, by both models.

    Each model reads its own feature set; both are built in one pass, and observations whose outcome is known for any
    horizon that both predict are scored. ``since`` is the later of the two instants until
    which the models were trained: a label covers what comes after its cutoff, so neither knew any of these. With
    ``value_horizon`` both models' expected values are given too, where the data covers the first horizon and, from
    its end on, the value horizon: a shorter time would leave out the value of those who convert late.

    Raises PromotionError where the models predict something different, BundleError where the history lacks what one
    of them reads.
    """
    check_comparable(challenger, champion)
    for bundle in (challenger, champion):
        bundle.feature_set.check_history(history)
    made = make_observations(history, config.observations, challenger.outcome).table
    observed = made.filter(
        pc.greater_equal(made["cutoff"], pa.scalar(since, made.schema.field("cutoff").type))
    )
    horizons = [challenger.horizon, *(each for each in challenger.further if each in champion.further)]
    labels = label_observations(history, observed, horizons, challenger.outcome)
    label = np.column_stack([_with_gaps(labels[label_column(horizon)]) for horizon in horizons])
    known = ~np.isnan(label)
    used = known.any(axis=1)
    observed, label, known = observed.filter(pa.array(used)), label[used], known[used]
    columns = _segment_columns((challenger.feature_set, champion.feature_set), config.evaluation.segments)
    valued = value_horizon is not None and challenger.value is not None and champion.value is not None
    p = np.empty((2, observed.num_rows, len(horizons) + valued))
    bundles = (challenger, champion)
    scorers = (BatchScorer(challenger), BatchScorer(champion))
    parts: dict[str, dict[int, pa.Array]] = {title: {} for title in columns}

    def score(number: int, batch: pa.RecordBatch) -> tuple[Floats, dict[str, pa.Array]]:
        told = {
            title: batch[name].cast(pa.string()) for title, (who, name) in columns.items() if who == number
        }
        if len(horizons) == 1 and not valued:
            return scorers[number].probability(batch)[:, None], told
        scored = scorers[number].score(batch)
        values = [scored.probabilities[horizon] for horizon in horizons]
        if valued and scored.value is not None:
            values.append(bundles[number].expected_value(values[0], scored.value))
        return np.column_stack(values), told

    requests = [(observed, challenger.feature_set), (observed, champion.feature_set)]
    bucket_events = config.features.bucket_events
    for number, first, (values, told) in map_features(
        history, requests, score, bucket_events=bucket_events, progress=progress
    ):
        p[number, first : first + len(values)] = values
        for title, column in told.items():
            parts[title][first] = column
    first = pa.array(known[:, 0])
    segments = {
        title: pa.chunked_array([found[start] for start in sorted(found)], pa.string()).filter(first)
        for title, found in parts.items()
    }
    lead_ids, cutoff = (observed[name].combine_chunks() for name in ("lead_id", "cutoff"))

    def pair(position: int) -> HorizonPair:
        rows = known[:, position]
        new, present = p[:, rows, position]
        return HorizonPair(label[rows, position], new, present, lead_ids.filter(pa.array(rows)))

    main = pair(0)
    further = {str(horizon): pair(position) for position, horizon in enumerate(horizons) if position}
    value = None
    if valued and value_horizon is not None:
        rows, revenue = _followed(history, observed, label[:, 0], challenger, value_horizon)
        whole = pa.array(rows)
        value = ValuePair(
            label[rows, 0],
            revenue[rows],
            p[0, rows, -1],
            p[1, rows, -1],
            lead_ids.filter(whole),
            cutoff.filter(whole),
        )
    return PairedScores(
        main.label,
        main.p_challenger,
        main.p_champion,
        main.lead_ids,
        cutoff.filter(first),
        segments,
        dict(sorted(further.items(), key=lambda each: -len(each[1].label))),
        value,
    )


def _followed(
    history: History, observed: pa.Table, label: Floats, bundle: Bundle, value_horizon: Duration
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which observations have a known outcome and a value window that has ended, and the revenue of each."""
    cutoff, known_until = microseconds_of(observed["cutoff"]), to_microseconds(history.known_until)
    labels = LabelsConfig(horizons=(bundle.horizon,), value_horizon=value_horizon, outcome=bundle.outcome)
    wait = value_horizon.microseconds
    if bundle.outcome == "conversion":
        wait += bundle.horizon.microseconds
    known_by = np.full(len(cutoff), known_until)
    found = revenue_columns(history, observed["lead_row"].to_numpy(), cutoff, known_by, labels)["revenue"]
    counts = label == 1 if bundle.outcome == "conversion" else ~np.isnan(found)
    revenue = np.where(counts, np.nan_to_num(found), 0.0)
    return ~np.isnan(label) & (cutoff + wait <= known_until), revenue


def _with_gaps(column: pa.ChunkedArray) -> Floats:
    """A label as a float, NaN where it is not known."""
    return np.asarray(column.cast(pa.float64()).to_numpy())


def _segment_columns(
    feature_sets: Sequence[FeatureSet], wanted: Sequence[str] | None
) -> dict[str, tuple[int, str]]:
    """By attribute, whose feature tells it: those wanted, or the first three categories of the two models."""
    prefix = "attribute_"
    found: dict[str, tuple[int, str]] = {}
    for number, feature_set in enumerate(feature_sets):
        for column in feature_set.columns:
            if column.type == "category" and column.name.startswith(prefix):
                found.setdefault(column.name.removeprefix(prefix), (number, column.name))
    if wanted is not None:
        return {name: found[slug(name)] for name in wanted if slug(name) in found}
    return dict(list(found.items())[:MOST_SEGMENTS])
