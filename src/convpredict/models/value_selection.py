"""Which family, size and segments a value model gets: chosen by validation forward in time, by lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibration import Floats
from .value_families import FAMILIES, FamilyFitter, FamilyModel, Size, sizes
from .value_segments import SegmentMeans, fit_segment_means

Rows = npt.NDArray[np.intp]
Fold = tuple[Rows, Rows]
DEFAULT_SIZE = Size()
FORWARD_BLOCKS = 6
CROSS_FOLDS = 5
SMALLEST_MEAN = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A family with the size of its parts, or, for the family ``mean``, the segment columns."""

    family: str
    size: Size = DEFAULT_SIZE
    segments: tuple[int, ...] = ()

    def fit(self, fitter: FamilyFitter, rows: Rows) -> FamilyModel | SegmentMeans:
        """The model of the rows."""
        if self.family == "mean":
            return fit_segment_means(fitter.matrix[rows], fitter.y[rows], fitter.weight[rows], self.segments)
        return fitter.fit(self.family, rows, self.size)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"family": self.family, "segments": list(self.segments), **asdict(self.size)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Candidate:
        """Restore what :meth:`to_dict` gave."""
        size = Size(
            int(stored["n_trees"]),
            float(stored["linear_share"]),
            float(stored["prior_deviation"]),
            int(stored["n_columns"]),
        )
        return cls(str(stored["family"]), size, tuple(int(column) for column in stored["segments"]))


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, why, and its predictions of held-out rows (NaN: never held out)."""

    candidate: Candidate
    account: Mapping[str, Any]
    held_out: Floats


def forward_folds(times: npt.NDArray[Any], lead: npt.NDArray[Any], weight: Floats) -> list[Fold]:
    """Blocks of leads in the order of their last row: each is predicted from all earlier ones.

    All rows of a lead are on one side; blocks hold about equally many leads (by weight).
    """
    order = np.argsort(times, kind="stable")
    last = np.zeros(len(times))
    last[order] = np.arange(len(times))
    _, code = np.unique(lead, return_inverse=True)
    lead_rank = np.zeros(int(code.max()) + 1)
    np.maximum.at(lead_rank, code, last)
    position = lead_rank[code]
    ranked = np.argsort(position, kind="stable")
    share = np.cumsum(weight[ranked]) / weight.sum()
    block = np.empty(len(times), np.intp)
    block[ranked] = np.minimum((share * FORWARD_BLOCKS).astype(np.intp), FORWARD_BLOCKS - 1)
    first = np.full(len(lead_rank), FORWARD_BLOCKS, np.intp)
    np.minimum.at(first, code, block)
    block = first[code]
    return [
        (np.flatnonzero(block < k), np.flatnonzero(block == k))
        for k in range(1, FORWARD_BLOCKS)
        if (block < k).any() and (block == k).any()
    ]


def cross_folds(lead: npt.NDArray[Any], seed: int) -> list[Fold]:
    """Random folds that keep leads whole."""
    leads, code = np.unique(lead, return_inverse=True)
    n_folds = min(CROSS_FOLDS, len(leads))
    of_lead = np.random.default_rng([seed, len(leads)]).permutation(len(leads)) % n_folds
    fold = of_lead[code]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def late_rows(folds: Sequence[Fold], n_rows: int) -> npt.NDArray[np.bool_]:
    """Rows that were predicted from at least half of all rows."""
    late = np.zeros(n_rows, np.bool_)
    for train, held_out in folds:
        late[held_out] = 2 * len(train) >= n_rows
    return late


def deviance(y: Floats, mean: Floats) -> Floats:
    """Tweedie deviance of power 1.5 up to what depends on ``y`` alone; smaller is better, least for the true mean.

    Linear in ``y``, so that refunds may be negative and one large customer does not decide as in squares.

    >>> deviance(np.array([1.0, 1.0]), np.array([1.0, 4.0])).tolist()
    [8.0, 10.0]
    """
    root = np.sqrt(np.maximum(mean, SMALLEST_MEAN))
    return np.asarray(4.0 * (root + y / root), np.float64)


def choose(
    fitter: FamilyFitter,
    folds: Sequence[Fold],
    lead: npt.NDArray[Any],
    *,
    families: Sequence[str],
    segments: Sequence[tuple[int, ...]],
    candidate_sizes: Sequence[Size] | None = None,
) -> Choice:
    """The simplest family within one standard error of the best, each in its best size, over the held-out rows.

    The standard error is that of the difference of the deviances to the best family's, over leads. ``segments``
    are the sets of columns that the family ``mean`` may use, simplest first.
    """
    found: list[tuple[Candidate, Floats, Floats]] = []
    for family in FAMILIES:
        if family not in families:
            continue
        if family == "mean":
            candidates = [Candidate("mean", segments=columns) for columns in segments]
        else:
            candidates = [Candidate(family, size) for size in candidate_sizes or sizes()]
        predictions = _predict_folds(fitter, folds, family, candidates)
        losses = [_by_lead(fitter, lead, prediction) for prediction in predictions]
        best = _simplest(losses) if family == "mean" else _least(losses)
        found.append((candidates[best], predictions[best], losses[best]))
    chosen = _simplest([loss for *_, loss in found])
    total = float(fitter.weight[np.isfinite(found[chosen][1])].sum())
    account = {
        "deviance": {entry.family: float(loss.sum()) / total for entry, _, loss in found},
        "chosen": found[chosen][0].family,
        "how": "the simplest within one standard error of the least deviance, forward in time, by lead",
    }
    return Choice(found[chosen][0], account, found[chosen][1])


def predict_held_out(fitter: FamilyFitter, folds: Sequence[Fold], candidate: Candidate) -> Floats:
    """Predictions of every held-out row by a model that did not see its lead."""
    return _predict_folds(fitter, folds, candidate.family, [candidate])[0]


def _predict_folds(
    fitter: FamilyFitter, folds: Sequence[Fold], family: str, candidates: Sequence[Candidate]
) -> list[Floats]:
    predictions = [np.full(len(fitter.y), np.nan) for _ in candidates]
    for train, held_out in folds:
        if family == "mean":
            parts = [entry.fit(fitter, train).predict(fitter.matrix[held_out]) for entry in candidates]
        else:
            parts = fitter.fit_all(family, train, held_out, [entry.size for entry in candidates])
        for prediction, part in zip(predictions, parts, strict=True):
            prediction[held_out] = part
    return predictions


def _by_lead(fitter: FamilyFitter, lead: npt.NDArray[Any], prediction: Floats) -> Floats:
    """Weighted deviance of each lead with held-out rows."""
    rows = np.flatnonzero(np.isfinite(prediction))
    _, code = np.unique(lead[rows], return_inverse=True)
    loss = fitter.weight[rows] * deviance(fitter.y[rows], prediction[rows])
    return np.bincount(code, loss).astype(np.float64)


def _simplest(losses: Sequence[Floats]) -> int:
    """Position of the first whose mean loss is within one standard error of the least."""
    best = _least(losses)
    for position, loss in enumerate(losses[: best + 1]):
        difference = loss - losses[best]
        error = float(np.std(difference)) * np.sqrt(len(difference))
        if float(difference.sum()) <= error:
            return position
    return best


def _least(losses: Sequence[Floats]) -> int:
    return int(np.argmin([loss.sum() for loss in losses]))
