"""The training set: observations with features, labels and parts, as a frame that any library can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.config.features import Feature
from convpredict.config.load import Project
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History

from .labels import label_column, label_observations
from .manifest import describe_training_set
from .observations import make_observations
from .splits import KEPT, split_observations
from .time_split import TimeSplit
from .training_files import read_training_set, write_training_set

Progress = Callable[[float], None]
_SHARE_BEFORE_FEATURES = 0.05


@dataclass(frozen=True)
class TrainingSet:
    """Observations with everything a model needs, and the account of where they came from.

    ``frame``
        one row per observation, sorted by lead and cutoff: lead_id, cutoff (UTC), split (``train``,
        ``calibrate``, ``test``, or ``between`` the first two), one int8 ``label_<horizon>`` per horizon,
        then the features: float32 (missing: NaN) and pandas categories (missing: NaN).
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

    def part(self, name: str) -> pd.DataFrame:
        """The rows of ``train``, ``calibrate``, ``test`` or ``between``; ``development`` is all but ``test``.

        The label interval of every development row has ended when the test part begins, so a model may be
        fitted again on all of them once everything else is chosen; the calibrate part can no longer judge
        that model. A conversion that was recorded later than it happened counts from when it happened.
        """
        if name == "development":
            return self.frame[self.frame["split"] != "test"]
        if name not in KEPT:
            known = ", ".join((*KEPT, "development"))
            raise ConfigError(f"a training set has no part '{name}'; its parts are {known}")
        return self.frame[self.frame["split"] == name]

    def X(self, part: str) -> pd.DataFrame:  # noqa: N802
        """The features of a part that a model learns from (without those that only a scorecard needs)."""
        return self.part(part)[list(self.feature_set.model_names)]

    def y(self, part: str, horizon: Duration | str | None = None) -> pd.Series[Any]:
        """The labels (0 or 1) of a part for a horizon; the model's if none is named."""
        wanted = Duration(horizon) if isinstance(horizon, str) else horizon or self.horizons[0]
        if wanted not in self.horizons:
            raise ConfigError(
                f"the training set has no label for the horizon {wanted}; it has "
                f"{', '.join(map(str, self.horizons))}: add it to labels.horizons and build it again"
            )
        return self.part(part)[label_column(wanted)]

    def lead_ids(self, part: str) -> pd.Series[Any]:
        """The lead of each row of a part: resample these, not the rows, for intervals."""
        return self.part(part)["lead_id"]

    def cutoffs(self, part: str) -> pd.Series[Any]:
        """The cutoff of each row of a part."""
        return self.part(part)["cutoff"]

    def time_split(
        self, n_splits: int = 5, *, part: str = "train", lead_groups: int = 1, seed: int = 0
    ) -> TimeSplit:
        """A scikit-learn splitter for the rows of a part, with a gap of the longest horizon."""
        return TimeSplit(
            n_splits,
            gap=max(self.horizons),
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

    def _repr_html_(self) -> str:
        heads = ("part", "observations", "leads", "first cutoff", "last cutoff", *self.manifest["labels"])
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(name, part)) + "</tr>"
            for name, part in self.manifest["parts"].items()
        )
        left_out = {**self.manifest["observations"]["excluded"], **self.manifest["observations"]["set_aside"]}
        titles = "".join(f"<th>{escape(head)}</th>" for head in heads)
        return (
            f"<p>{escape(self.manifest['name'])}: {len(self.frame):,} observations, "
            f"{len(self.feature_set)} features; left out: {escape(_listed(left_out))}</p>"
            f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
        )


def build_training_set(
    history: History,
    project: Project,
    *,
    extra_features: Sequence[Feature] = (),
    progress: Progress | None = None,
) -> TrainingSet:
    """Observe, label, split by time, learn the vocabularies from the past, and compute the features.

    Vocabularies are learnt from what was known before the calibrate part begins, which is when the last
    label of the training part is known. ``extra_features`` are built for a scorecard, and kept from the
    model. ``progress`` is called with the share done, from 0 to 1.

    Raises
    ------
    NotEnoughDataError
        A part has no observation, or only one class of the first horizon's label.
    ConfigError
        A declaration does not fit the history.
    """
    config = project.config
    horizons = config.labels.horizons
    made = make_observations(history, config.observations)
    if not made.table.num_rows:
        raise NotEnoughDataError(
            f"no lead is observed at any cutoff, so there is nothing to learn from; of {made.candidates:,} "
            f"candidates were left out: {_listed(made.excluded)}; look at observations.cutoffs and max_age"
        )
    labels = label_observations(history, made.table, horizons)
    split = split_observations(history, made.table, labels, config.split, horizons)
    if progress is not None:
        progress(_SHARE_BEFORE_FEATURES)
    feature_set = FeatureSet.fit(
        history, config.features, until=split.calibrate_from, horizon=horizons[0], extra=tuple(extra_features)
    )
    kept = pa.array(np.flatnonzero(split.role < len(KEPT)))
    table = build_features(
        history,
        made.table.take(kept),
        feature_set,
        bucket_events=config.features.bucket_events,
        progress=_later(progress) if progress is not None else None,
    )
    part = pa.DictionaryArray.from_arrays(pa.array(split.role).take(kept), pa.array(KEPT))
    columns = [("split", part), *((name, labels[name].take(kept)) for name in labels.column_names)]
    for position, (name, values) in enumerate(columns):
        table = table.add_column(2 + position, name, values)
    frame = table.to_pandas()
    return TrainingSet(
        frame, feature_set, describe_training_set(history, project, made, split, frame, feature_set)
    )


def _later(progress: Progress) -> Progress:
    def report(share: float) -> None:
        progress(_SHARE_BEFORE_FEATURES + (1 - _SHARE_BEFORE_FEATURES) * share)

    return report


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"


def _cells(name: str, part: Mapping[str, Any]) -> list[str]:
    balances = [f"{label['positives']:,} ({label['share'] or 0:.2%})" for label in part["labels"].values()]
    spans = [(part["first_cutoff"] or "-")[:10], (part["last_cutoff"] or "-")[:10]]
    return [name, f"{part['observations']:,}", f"{part['leads']:,}", *spans, *balances]
