"""A scikit-learn splitter that validates forward in time, and by lead where wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.errors import NotEnoughDataError

from .lead_times import to_instant


class TimeSplit:
    """Cross-validation forward in time: train on what was known, validate on what came next.

    The rows are cut into consecutive blocks by cutoff. Fold i validates on block i and trains on every
    row whose label was known when that block begins, cutoff + ``gap`` <= begin of the block (an expanding
    window). Rows with one cutoff stay together.

    ``lead_groups`` > 1 also keeps leads apart: the leads are divided at random into that many groups, and
    each block is validated group by group, with a model that saw no row of that group. (Just dropping the
    leads of the validation block from the training rows would drop the leads that stay open for long,
    which are mostly negatives, and so distort the probabilities.)

    Parameters
    ----------
    n_splits
        Number of validation blocks; ``get_n_splits`` is this times ``lead_groups``.
    gap
        Usually the horizon of the label: ``Duration("30d")`` or ``"30d"``.
    cutoffs
        The cutoff of each row (anything that pandas reads as instants; naive ones are UTC). Without it,
        pass the cutoffs as ``groups`` to ``split`` or to ``cross_validate``.
    leads
        The lead of each row; needed with ``lead_groups`` > 1.
    seed
        Of the division into groups of leads.

    Raises
    ------
    NotEnoughDataError
        By ``split``, where a fold would have no row to train on or to validate.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.model_selection import cross_val_score
    >>> cutoffs = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
    >>> X, y = np.zeros((60, 1)), np.arange(60) % 2
    >>> folds = TimeSplit(3, gap="7d", cutoffs=cutoffs)
    >>> [(len(train), len(validate)) for train, validate in folds.split(X)]
    [(14, 13), (27, 13), (40, 14)]
    >>> cross_val_score(DummyClassifier(), X, y, cv=folds, scoring="roc_auc").tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        gap: Duration | str,
        cutoffs: Any = None,
        leads: Any = None,
        lead_groups: int = 1,
        seed: int = 0,
    ) -> None:
        self.n_splits = n_splits
        self.gap = gap
        self.cutoffs = cutoffs
        self.leads = leads
        self.lead_groups = lead_groups
        self.seed = seed

    def __repr__(self) -> str:
        return f"TimeSplit({self.n_splits}, gap='{self.gap}', lead_groups={self.lead_groups})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of (train, validate) pairs."""
        return self.n_splits * self.lead_groups

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield row positions to train on and to validate on, earlier blocks first."""
        if self.n_splits < 1 or self.lead_groups < 1:
            raise ValueError(
                f"n_splits and lead_groups must be at least 1, got {self.n_splits} and {self.lead_groups}"
            )
        n_rows = int(X.shape[0]) if hasattr(X, "shape") else len(X)
        cutoff = self._cutoffs(n_rows, groups)
        gap = (self.gap if isinstance(self.gap, Duration) else Duration(self.gap)).microseconds
        group = self._lead_groups(n_rows)
        begins = self._begins(cutoff, gap)
        for begin, end in zip(begins, [*begins[1:], None], strict=True):
            known = (cutoff + gap <= begin) & (cutoff < begin)
            block = (cutoff >= begin) if end is None else (cutoff >= begin) & (cutoff < end)
            for number in range(self.lead_groups):
                apart = self.lead_groups > 1
                train = np.flatnonzero(known & (group != number) if apart else known)
                validate = np.flatnonzero(block & (group == number) if apart else block)
                if not len(train) or not len(validate):
                    raise self._too_small(
                        f"the block from {to_instant(begin).isoformat()} has no rows", cutoff
                    )
                yield train, validate

    def _begins(self, cutoff: NDArray[np.int64], gap: int) -> list[int]:
        """Where the validation blocks begin (µs): equal numbers of the rows that leave room for the gap."""
        later = np.sort(cutoff[cutoff >= cutoff.min() + gap]) if len(cutoff) else cutoff
        if not len(later):
            raise self._too_small("all cutoffs lie within one gap", cutoff)
        begins = [
            int(later[len(later) * block // (self.n_splits + 1)]) for block in range(1, self.n_splits + 1)
        ]
        if len(set(begins)) < self.n_splits:
            raise self._too_small("there are fewer distinct cutoffs than blocks", cutoff)
        return begins

    def _cutoffs(self, n_rows: int, groups: Any) -> NDArray[np.int64]:
        given = self.cutoffs if self.cutoffs is not None else groups
        if given is None:
            raise ValueError(
                "TimeSplit needs the cutoff of each row to know what came before what: "
                "give TimeSplit(cutoffs=...), or pass them as groups"
            )
        instants = pd.DatetimeIndex(pd.to_datetime(given, utc=True)).as_unit("us")
        if len(instants) != n_rows or instants.isna().any():
            raise ValueError(
                f"TimeSplit needs one cutoff per row, got {np.count_nonzero(instants.notna())} for {n_rows} "
                "rows; take the cutoffs from the same rows as X"
            )
        microseconds: NDArray[np.int64] = instants.asi8
        return microseconds

    def _lead_groups(self, n_rows: int) -> NDArray[np.int64]:
        if self.lead_groups == 1:
            return np.zeros(n_rows, np.int64)
        if self.leads is None or len(self.leads) != n_rows:
            got = "none" if self.leads is None else str(len(self.leads))
            raise ValueError(
                f"TimeSplit(lead_groups={self.lead_groups}) needs the lead of each of the {n_rows} rows to "
                f"keep leads apart, got {got}; give TimeSplit(leads=...)"
            )
        codes = pd.factorize(pd.Series(self.leads), sort=True)[0]
        shuffled = np.random.default_rng(self.seed).permutation(int(codes.max()) + 1)
        return shuffled[codes] % self.lead_groups

    def _too_small(self, problem: str, cutoff: NDArray[np.int64]) -> NotEnoughDataError:
        span = f"from {to_instant(cutoff.min())} to {to_instant(cutoff.max())}" if len(cutoff) else "none"
        return NotEnoughDataError(
            f"{self!r} cannot make its folds: {problem}; {len(np.unique(cutoff))} distinct cutoffs, {span}. "
            "Use fewer splits or lead groups, a shorter gap, or more data"
        )
