"""The training set: observations with features, labels and parts, as a frame that any library can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.config.features import Feature
from convpredict.config.load import Project
from convpredict.config.training import LabelsConfig
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History
from convpredict.history.notebook_view import paragraph_html, table_html

from .labels import label_column, label_observations
from .lead_ages import LearntAges
from .lead_times import LeadTimes, microseconds_of, to_microseconds
from .manifest import describe_training_set, iso
from .observations import make_observations
from .outcomes import (
    EVENT_COLUMNS,
    NOT_KNOWN,
    Outcomes,
    check_outcome,
    events_known_by,
    outcomes_within,
)
from .splits import DEVELOPMENT, KEPT, Split, split_observations
from .time_split import TimeSplit
from .training_files import read_training_set, write_training_set

Progress = Callable[[float], None]
_SHARE_BEFORE_FEATURES = 0.05


@dataclass(frozen=True)
class TrainingSet:
    """Observations with everything a model needs, and the account of where they came from.

    ``frame``
        one row per observation, sorted by lead and cutoff: lead_id, cutoff (UTC), split (``train``,
        ``calibrate``, ``test``, ``between`` the first two, ``recent`` before the test part), one int8
        ``label_<horizon>`` per horizon (-1: not known yet), event_after_us and event_known_after_us (see
        :meth:`outcomes`), revenue and revenue_followed_us where a value horizon is declared, then the
        features: float32 (missing: NaN) and pandas categories (missing: NaN). A row before the test part
        holds nothing that was learnt later than the test part begins.
    ``feature_set``
        the declarations and frozen vocabularies that the features follow from.
    ``manifest``
        a JSON-able mapping: rows by reason of exclusion, spans and class balance per part, digests of data,
        configuration and feature set, versions. See ``docs/reference/training_set.md``.
    """

    frame: pd.DataFrame = field(repr=False)
    feature_set: FeatureSet
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def horizons(self) -> tuple[Duration, ...]:
        """The horizons that have labels; the first one is the model's."""
        return tuple(Duration(text) for text in self.manifest["horizons"])

    @property
    def calibrate_from(self) -> datetime:
        """C: the labels of the train part were known when the calibrate part begins."""
        return datetime.fromisoformat(self.manifest["split"]["calibrate_from"])

    @property
    def learnt_ages(self) -> LearntAges | None:
        """The ages of leads in the rows before the test part; None in sets that were written without."""
        stored = self.manifest.get("learnt_ages")
        return LearntAges.from_dict(stored) if stored else None

    @property
    def test_from(self) -> datetime:
        """T: no row before the test part holds anything that was learnt from this instant on."""
        return datetime.fromisoformat(self.manifest["split"]["test_from"])

    def known_by(self, part: str) -> datetime:
        """Up to when outcomes are known to a part: C for train, the end of the data for test, T for all others."""
        self._check_part(part)
        if part == "train":
            return self.calibrate_from
        if part == "test":
            return datetime.fromisoformat(self.manifest["known_until"])
        return self.test_from

    def part(self, name: str) -> pd.DataFrame:
        """The rows of ``train``, ``between``, ``calibrate``, ``test``, ``recent`` or ``development``.

        ``development`` is train, between and calibrate: the label interval of each of its rows has ended when
        the test part begins, so a model may be fitted again on all of them once everything else is chosen; the
        calibrate part can no longer judge that model. ``recent`` rows lie before the test part too, but their
        label is not yet known when it begins: :meth:`outcomes` tells what is. A conversion that was recorded
        later than it happened counts from when it happened where a label is known.
        """
        self._check_part(name)
        if name == "development":
            return self.frame[self.frame["split"].isin(DEVELOPMENT)]
        return self.frame[self.frame["split"] == name]

    def X(self, part: str) -> pd.DataFrame:  # noqa: N802
        """The features of a part that a model learns from (without those that only a scorecard needs)."""
        return self.part(part)[list(self.feature_set.model_names)]

    def y(self, part: str, horizon: Duration | str | None = None) -> pd.Series[Any]:
        """The labels (0 or 1) of a part for a horizon; the model's if none is named.

        Raises ConfigError where the label of a row is not known yet, as in the part ``recent``, or for a further
        horizon that has not ended: the rows known early would be positives only. See :meth:`outcomes`.
        """
        wanted = self._horizon(horizon)
        rows = self.part(part)
        known = self._outcomes(rows, part, wanted).label
        n_unknown = int(np.isnan(known).sum())
        if n_unknown:
            raise ConfigError(
                f"the {wanted} label of {n_unknown:,} of the {len(rows):,} rows of the part '{part}' is not yet "
                f"known at {iso(self.known_by(part))}, and those known early are the positives; use "
                f"outcomes('{part}', '{wanted}'), which tells how far each row was followed"
            )
        return pd.Series(known.astype(np.int8), rows.index, name=label_column(wanted))

    def outcomes(self, part: str, horizon: Duration | str | None = None) -> Outcomes:
        """What was known of a part's rows (aligned with ``part(name)``) at :meth:`known_by` of that part."""
        return self._outcomes(self.part(part), part, self._horizon(horizon))

    def _outcomes(self, rows: pd.DataFrame, part: str, horizon: Duration) -> Outcomes:
        end = np.datetime64(self.known_by(part).replace(tzinfo=None), "us")
        cutoff = rows["cutoff"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        event, known = (rows[name].to_numpy() for name in EVENT_COLUMNS)
        return outcomes_within(event, known, (end - cutoff).astype(np.int64), horizon.microseconds)

    def _horizon(self, horizon: Duration | str | None) -> Duration:
        wanted = Duration(horizon) if isinstance(horizon, str) else horizon or self.horizons[0]
        if wanted not in self.horizons:
            raise ConfigError(
                f"the training set has no label for the horizon {wanted}; it has "
                f"{', '.join(map(str, self.horizons))}: add it to labels.horizons and build it again"
            )
        return wanted

    def _check_part(self, name: str) -> None:
        if name != "development" and name not in KEPT:
            known = ", ".join((*KEPT, "development"))
            raise ConfigError(f"a training set has no part '{name}'; its parts are {known}")

    def lead_ids(self, part: str) -> pd.Series[Any]:
        """The lead of each row of a part: resample these, not the rows, for intervals."""
        return self.part(part)["lead_id"]

    def cutoffs(self, part: str) -> pd.Series[Any]:
        """The cutoff of each row of a part."""
        return self.part(part)["cutoff"]

    def time_split(
        self,
        n_splits: int = 5,
        *,
        part: str = "train",
        horizon: Duration | str | None = None,
        lead_groups: int = 1,
        seed: int = 0,
    ) -> TimeSplit:
        """A scikit-learn splitter for the rows of a part, with a gap of the horizon (default: the model's)."""
        return TimeSplit(
            n_splits,
            gap=self._horizon(horizon),
            cutoffs=self.cutoffs(part).reset_index(drop=True),
            leads=self.lead_ids(part).to_numpy(),
            lead_groups=lead_groups,
            seed=seed,
        )

    def save(self, folder: Path | str) -> None:
        """Write a Parquet file, the feature set and the manifest into a folder, all or nothing.

        A training set that is already there is replaced. Raises DataError if the folder holds anything else.
        """
        write_training_set(Path(folder), self.frame, self.feature_set, self.manifest)

    @classmethod
    def load(cls, folder: Path | str) -> TrainingSet:
        """Read what :meth:`save` wrote; raises DataError if it is incomplete or does not belong together."""
        return cls(*read_training_set(Path(folder)))

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name} {part['observations']:,}" for name, part in self.manifest["parts"].items()
        )
        return f"TrainingSet({len(self.frame):,} observations, {len(self.feature_set)} features; {counts})"

    def _repr_html_(self) -> str:
        heads = ("part", "observations", "leads", "first cutoff", "last cutoff", *self.manifest["labels"])
        rows = [_cells(name, part) for name, part in self.manifest["parts"].items()]
        left_out = {**self.manifest["observations"]["excluded"], **self.manifest["observations"]["set_aside"]}
        told = f"{len(self.frame):,} observations, {len(self.feature_set)} features; left out: {_listed(left_out)}"
        return paragraph_html(f"{self.manifest['name']}: {told}") + table_html(heads, rows)


def build_training_set(
    history: History,
    project: Project,
    *,
    extra_features: Sequence[Feature] = (),
    judged: bool = True,
    progress: Progress | None = None,
) -> TrainingSet:
    """Observe, label, split by time, learn the vocabularies from the past, and compute the features.

    Vocabularies are learnt from what was known before the calibrate part begins, which is when the last
    label of the training part is known. ``extra_features`` are built for a scorecard, and kept from the
    model. ``judged=False`` leaves out the test part: the rows before the end of the data are all for learning.
    ``progress`` is called with the share done, from 0 to 1.

    Raises
    ------
    NotEnoughDataError
        A part has no observation, or only one class of the first horizon's label.
    ConfigError
        A declaration does not fit the history.
    """
    config = project.config
    horizon, outcome = config.labels.horizons[0], config.labels.outcome
    check_outcome(history, outcome)
    made = make_observations(history, config.observations, outcome)
    if not made.table.num_rows:
        raise NotEnoughDataError(
            f"no lead is observed at any cutoff, so there is nothing to learn from; of {made.candidates:,} "
            f"candidates were left out: {_listed(made.excluded)}; look at observations.cutoffs and max_age"
        )
    labels = label_observations(history, made.table, [horizon], outcome)
    split = split_observations(history, made.table, labels, config.split, horizon, judged=judged)
    if progress is not None:
        progress(_SHARE_BEFORE_FEATURES)
    feature_set = FeatureSet.fit(
        history, config.features, until=split.calibrate_from, horizon=horizon, extra=tuple(extra_features)
    )
    kept = np.flatnonzero(split.role < len(KEPT))
    observed = made.table.take(pa.array(kept))
    table = build_features(
        history,
        observed,
        feature_set,
        bucket_events=config.features.bucket_events,
        progress=_later(progress) if progress is not None else None,
    )
    part = pa.DictionaryArray.from_arrays(pa.array(split.role[kept]), pa.array(KEPT))
    columns = {"split": part, **_outcome_columns(history, config.labels, observed, split.role[kept], split)}
    for position, (name, values) in enumerate(columns.items()):
        table = table.add_column(2 + position, name, pa.array(values))
    frame = table.to_pandas()
    age = (
        microseconds_of(observed["cutoff"])
        - LeadTimes.of(history).created_at[observed["lead_row"].to_numpy()]
    )
    ages = LearntAges.of_rows(age[split.role[kept] != KEPT.index("test")], config.observations)
    described = describe_training_set(
        history, project, made, split, frame, feature_set, tuple(columns)[1:], ages
    )
    return TrainingSet(frame, feature_set, described)


def _outcome_columns(
    history: History, labels: LabelsConfig, observed: pa.Table, role: NDArray[np.int8], split: Split
) -> dict[str, NDArray[Any]]:
    """Labels, event times and revenue of observations, as known when the test part begins, or at the end for it."""
    lead_row, cutoff = observed["lead_row"].to_numpy(), microseconds_of(observed["cutoff"])
    is_test = role == KEPT.index("test")
    known_by = np.where(is_test, to_microseconds(history.known_until), to_microseconds(split.test_from))
    spans = tuple(horizon.microseconds for horizon in labels.horizons)
    events = events_known_by(history, labels.outcome, lead_row, cutoff, known_by, spans)
    columns: dict[str, NDArray[Any]] = {}
    for horizon in labels.horizons:
        event, known_after = (events[name] for name in EVENT_COLUMNS)
        known = outcomes_within(event, known_after, known_by - cutoff, horizon.microseconds).label
        columns[label_column(horizon)] = np.where(np.isnan(known), NOT_KNOWN, known).astype(np.int8)
    columns.update(events)
    if labels.value_horizon is not None and history.revenue.num_rows:
        from .revenue_outcomes import revenue_columns

        columns.update(revenue_columns(history, lead_row, cutoff, known_by, labels))
    return columns


def _later(progress: Progress) -> Progress:
    def report(share: float) -> None:
        progress(_SHARE_BEFORE_FEATURES + (1 - _SHARE_BEFORE_FEATURES) * share)

    return report


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"


def _cells(name: str, part: Mapping[str, Any]) -> list[str]:
    balances = [
        f"{label['positives']:,} ({label['share']:.2%})"
        if label["share"] is not None
        else f"{label['positives']:,} of {label['known']:,} known"
        for label in part["labels"].values()
    ]
    spans = [(part["first_cutoff"] or "-")[:10], (part["last_cutoff"] or "-")[:10]]
    return [name, f"{part['observations']:,}", f"{part['leads']:,}", *spans, *balances]
