"""Scores of the past computed again from the history, by the same code as on their night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ...config.base import Duration
from ...config.reasons import ReasonsConfig
from ...engines.buckets import BUCKET_EVENTS
from ...features.batches import iterate_features
from ...history.history import TIMESTAMP, History
from ...models.batch_scoring import BatchScorer, ScoredRows, assemble
from ...models.bundle import Bundle
from ...models.contributions import Contributions, Explainer, concept_contributions
from ...models.reasons import REASON_SCHEMA, explain_leads
from ...training.as_of import history_as_of
from ...training.lead_times import microseconds_of, to_instant
from ..lead_reasons import conversion_rates


@dataclass(frozen=True)
class Reproduced:
    """Observations scored again, an entry per observation in each part, in their order.

    ``features`` is the feature table; ``scored`` all that the model says; ``concepts`` the contribution of every
    concept to the calibrated logit; ``reasons`` has the columns of ``REASON_SCHEMA`` (None: not asked for).
    """

    observations: pa.Table
    features: pd.DataFrame = field(repr=False)
    scored: ScoredRows = field(repr=False)
    concepts: Contributions = field(repr=False)
    reasons: pa.Table | None = field(repr=False, default=None)

    @property
    def features_hash(self) -> npt.NDArray[np.uint64]:
        """What stands for each row's model inputs in the ledger."""
        return self.scored.features_hash

    @property
    def probabilities(self) -> Mapping[Duration, npt.NDArray[np.float64]]:
        """The probabilities by horizon."""
        return self.scored.probabilities


def reproduce(
    history: History,
    bundle: Bundle,
    observations: pa.Table,
    reasons: ReasonsConfig | None = None,
    *,
    bucket_events: int = BUCKET_EVENTS,
) -> Reproduced:
    """Build the features of observations from the history, score and explain them as their night did.

    ``observations``: lead_row, lead_id and cutoff, sorted by lead_row and cutoff; the cutoffs may differ. They should
    be few: the whole feature table is kept. ``reasons`` says in which language and how many; None: no reasons.
    Raises BundleError if the history lacks what the bundle's features are computed from.
    """
    bundle.feature_set.check_history(history)
    scorer, columns = BatchScorer(bundle), bundle.feature_set.model_columns
    pieces, frames = [], []
    for batch in iterate_features(history, observations, bundle.feature_set, bucket_events=bucket_events):
        pieces.append(scorer.score(batch))
        frames.append(batch.to_pandas().copy())
    features = pd.concat(frames, ignore_index=True) if frames else _no_features(bundle)
    explainer = Explainer(bundle)
    concepts, _ = concept_contributions(explainer.contributions(features, n_jobs=1), columns)
    told = None
    if reasons is not None:
        told = _reasons(history, bundle, explainer, observations, features, reasons)
    return Reproduced(observations, features, assemble(pieces, bundle), concepts, told)


def _reasons(
    history: History,
    bundle: Bundle,
    explainer: Explainer,
    observations: pa.Table,
    features: pd.DataFrame,
    config: ReasonsConfig,
) -> pa.Table:
    """The reasons of rows of several cutoffs: what they are compared with is what was known at each of them."""
    instants = microseconds_of(observations["cutoff"])
    told: list[pa.Table] = []
    order: list[npt.NDArray[np.intp]] = []
    for instant in np.unique(instants):
        rows = np.flatnonzero(instants == instant)
        cutoff = to_instant(int(instant))
        then = history_as_of(history, cutoff)
        told.append(
            explain_leads(
                explainer,
                features.iloc[rows],
                columns=bundle.feature_set.model_columns,
                locale=config.locale,
                top=config.top,
                names=config.names.get(config.locale),
                averages=conversion_rates(then, bundle.feature_set, cutoff),
                n_jobs=1,
            )
        )
        order.append(rows)
    together = pa.concat_tables([REASON_SCHEMA.empty_table(), *told])
    place = np.argsort(np.concatenate([np.zeros(0, np.intp), *order]), kind="stable")
    return together.take(pa.array(place)).combine_chunks()


def observations_of(
    history: History, lead_row: npt.NDArray[np.int64], cutoff_us: npt.NDArray[np.int64]
) -> pa.Table:
    """Observations of leads by their row, at cutoffs in µs, in the order given."""
    rows = pa.array(lead_row, pa.int32())
    return pa.table(
        {
            "lead_row": rows,
            "lead_id": history.leads["lead_id"].combine_chunks().take(rows),
            "cutoff": pa.array(cutoff_us, pa.int64()).cast(TIMESTAMP),
        }
    )


def _no_features(bundle: Bundle) -> pd.DataFrame:
    empty: dict[str, pd.Series] = {}
    for column in bundle.feature_set.model_columns:
        is_category = column.type == "category"
        kind = pd.CategoricalDtype(list(column.categories)) if is_category else np.dtype(np.float32)
        empty[column.name] = pd.Series([], dtype=kind)
    return pd.DataFrame(empty)
