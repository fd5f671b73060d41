"""What a model's inputs and scores looked like when it was made, and the same counted on later leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import BundleError

from .bundle_files import finite_number
from .profile_kernels import count_categories, count_numbers

Ints = npt.NDArray[np.int64]

SCORE = "score"
"""The score's name among the columns of ``Profile.natural``."""


@dataclass(frozen=True)
class ColumnProfile:
    """One model column: ``edges`` (ascending, a number's bin i is ``edges[i-1] <= x < edges[i]``; empty for a category)
    or ``categories``; the last bin is what is missing."""

    name: str
    type: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def n_bins(self) -> int:
        """Bins in all, that of the missing among them."""
        return (len(self.categories) if self.type == "category" else len(self.edges) + 1) + 1


@dataclass(frozen=True)
class ProfileCounts:
    """How many rows fell into each bin of a profile. Counts of disjoint rows add up."""

    rows: int
    columns: Mapping[str, Ints]
    scores: Ints

    def __add__(self, other: ProfileCounts) -> ProfileCounts:
        return ProfileCounts(
            self.rows + other.rows,
            {name: counts + other.columns[name] for name, counts in self.columns.items()},
            self.scores + other.scores,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {
            "rows": self.rows,
            "columns": {name: counts.tolist() for name, counts in self.columns.items()},
            "scores": self.scores.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ProfileCounts:
        """Restore what :meth:`to_dict` gave."""
        return cls(
            int(stored["rows"]),
            {name: np.array(counts, np.int64) for name, counts in stored["columns"].items()},
            np.array(stored["scores"], np.int64),
        )


@dataclass(frozen=True)
class Profile:
    """The bins of every model column and of the score, and what fell into them in the ``reference`` rows.

    ``columns``
        in the order of the model's columns.
    ``score_edges``
        of the probability within the first horizon; the score has no bin for the missing.
    ``reference``
        counts of the rows that the bins were learnt from.
    ``quantiles``
        101 ascending probabilities: :meth:`score` of p is the number of those after the first that lie below p.
    ``natural``
        per column and for ``"score"`` the largest :func:`stability_index` of the rows of one reference cutoff against
        all reference rows: what moves by itself, the chance of a sample of that size included. 0 where no cutoff
        had enough rows to tell.
    ``parts``
        the parts of the training set that the reference rows are from, ``("test",)`` if that sufficed; or
        ``("nights",)``: leads as the nightly run would have found them (see training.reference_nights).
    ``first_cutoff``, ``last_cutoff``
        of the reference rows (ISO 8601), empty if they had none.
    """

    columns: tuple[ColumnProfile, ...]
    score_edges: tuple[float, ...]
    reference: ProfileCounts
    quantiles: tuple[float, ...] = ()
    natural: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    first_cutoff: str = ""
    last_cutoff: str = ""

    def count(self, matrix: npt.NDArray[Any], p: npt.ArrayLike) -> ProfileCounts:
        """How many rows fall into each bin; one pass, row after row, free of the interpreter's lock.

        ``matrix`` holds the model's columns, all of them, as :func:`.batch_scoring.encode_batch` gives them
        (float32); ``p`` the probability of each row within the first horizon.
        """
        narrow = np.asarray(matrix, np.float32)
        if narrow.ndim != 2 or narrow.shape[1] < len(self.columns):
            raise ValueError(f"the profile has {len(self.columns)} columns; got an array of {narrow.shape}")
        counts = {}
        for column, (place, edges) in zip(self.columns, self._layout, strict=True):
            own = np.zeros(column.n_bins, np.int64)
            values = np.ascontiguousarray(narrow[:, place])
            if edges is None:
                count_categories(values, own)
            else:
                count_numbers(values, edges, own)
            counts[column.name] = own
        bins = np.searchsorted(np.asarray(self.score_edges, np.float64), np.asarray(p), side="right")
        scores = np.bincount(bins, minlength=len(self.score_edges) + 1).astype(np.int64)
        return ProfileCounts(len(narrow), counts, scores)

    def empty(self) -> ProfileCounts:
        """The counts of no rows: what sums start from."""
        columns = {column.name: np.zeros(column.n_bins, np.int64) for column in self.columns}
        return ProfileCounts(0, columns, np.zeros(len(self.score_edges) + 1, np.int64))

    def fits(self, counts: ProfileCounts) -> bool:
        """Whether counts have the bins of this profile: those of another model mostly do not."""
        own = {column.name: column.n_bins for column in self.columns}
        return (
            own == {name: len(each) for name, each in counts.columns.items()}
            and len(counts.scores) == len(self.score_edges) + 1
        )

    def score(self, p: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """The share of the reference leads with a lower probability, in whole percent from 0 to 100, rounded down.

        It never falls as p rises, and equal probabilities have equal scores: of ties none counts as lower. For a
        reference row it is exact; between two of them, where nothing is known, one limit stands for all.

        >>> half = ProfileCounts(0, {}, np.zeros(1, np.int64))
        >>> quantiles = tuple(k / 200 for k in range(101))
        >>> Profile((), (), half, quantiles).score([0.0, 0.1, 0.25, 0.9]).tolist()
        [0, 19, 49, 100]
        """
        limits = np.asarray(self.quantiles[1:], np.float64)
        return np.searchsorted(limits, np.asarray(p, np.float64), side="left").astype(np.int16)

    def missing_share(self, counts: ProfileCounts, name: str) -> float:
        """Which share of the counted rows lacks a column; 0 where no row was counted."""
        return float(counts.columns[name][-1]) / counts.rows if counts.rows else 0.0

    @cached_property
    def _layout(self) -> tuple[tuple[int, npt.NDArray[np.float32] | None], ...]:
        """Position of each column in the matrix, and a number's edges as the kernel reads them."""
        return tuple(
            (place, None if column.type == "category" else _narrow(column.edges))
            for place, column in enumerate(self.columns)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain text, lists and numbers, for ``profile.json``."""
        return {
            "columns": [_column_to_dict(column) for column in self.columns],
            "score_edges": list(self.score_edges),
            "reference": self.reference.to_dict(),
            "quantiles": list(self.quantiles),
            "natural": dict(self.natural),
            "parts": list(self.parts),
            "first_cutoff": self.first_cutoff,
            "last_cutoff": self.last_cutoff,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Profile:
        """Restore what :meth:`to_dict` gave. Raises BundleError for anything else."""
        try:
            profile = cls(
                tuple(_column_from_dict(entry) for entry in _list(stored["columns"])),
                _ascending(stored["score_edges"], strictly=True),
                ProfileCounts.from_dict(stored["reference"]),
                _ascending(stored["quantiles"], strictly=False),
                {_text(name): finite_number(index) for name, index in stored["natural"].items()},
                tuple(_text(part) for part in _list(stored["parts"])),
                _text(stored["first_cutoff"]),
                _text(stored["last_cutoff"]),
            )
            _check(profile)
            if profile.to_dict() != stored:
                raise ValueError("it holds something else than a profile does")
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise BundleError(
                f"the model's profile cannot be read ({type(error).__name__}: {error}); export the bundle anew"
            ) from None
        return profile


def stability_index(reference: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """Population stability index of counts by bin against those of the reference: sum of (q - p) ln(q / p).

    p and q are the shares, half a row added to every bin so that an empty one has one; 0 is the same, and of two
    samples of n and m rows from one distribution it is about ``(bins - 1) (1/n + 1/m)`` by chance. Bins that are
    empty in both are left out; without rows on one side it is 0.

    Source: Yurdakul & Naranjo (2020), Statistical properties of the population stability index, Journal of Risk
    Model Validation 14.

    >>> stability_index([50, 50], [500, 500])
    0.0
    >>> round(stability_index([500, 500], [900, 100]), 2)
    0.88
    """
    old, new = np.asarray(reference, np.float64), np.asarray(counts, np.float64)
    used = (old > 0) | (new > 0)
    old, new = old[used], new[used]
    if not old.sum() or not new.sum():
        return 0.0
    p = (old + 0.5) / (old.sum() + 0.5 * len(old))
    q = (new + 0.5) / (new.sum() + 0.5 * len(new))
    return float(((q - p) * np.log(q / p)).sum())


def stability_of(profile: Profile, counts: ProfileCounts) -> dict[str, float]:
    """:func:`stability_index` of every column and of the score against the profile's reference rows."""
    known = profile.reference
    columns = {
        column.name: stability_index(known.columns[column.name], counts.columns[column.name])
        for column in profile.columns
    }
    return {**columns, SCORE: stability_index(known.scores, counts.scores)}


def _narrow(edges: Iterable[float]) -> npt.NDArray[np.float32]:
    """The smallest float32 at or above each edge: no float32 lies between the two."""
    exact = np.asarray(list(edges), np.float64)
    with np.errstate(over="ignore"):
        narrow = exact.astype(np.float32)
    return np.where(narrow < exact, np.nextafter(narrow, np.float32(np.inf)), narrow).astype(np.float32)


def _column_to_dict(column: ColumnProfile) -> dict[str, Any]:
    rest = (
        {"categories": list(column.categories)}
        if column.type == "category"
        else {"edges": list(column.edges)}
    )
    return {"name": column.name, "type": column.type, **rest}


def _column_from_dict(entry: Mapping[str, Any]) -> ColumnProfile:
    name, kind = _text(entry["name"]), entry["type"]
    if kind == "category" and set(entry) == {"name", "type", "categories"}:
        return ColumnProfile(name, kind, categories=tuple(map(_text, _list(entry["categories"]))))
    if kind == "number" and set(entry) == {"name", "type", "edges"}:
        return ColumnProfile(name, kind, edges=_ascending(entry["edges"], strictly=True))
    raise ValueError(f"column {name[:50]!r} is neither a number with edges nor a category with its values")


def _list(stored: Any) -> list[Any]:
    if not isinstance(stored, list):
        raise TypeError("a list is expected")
    return stored


def _text(stored: Any) -> str:
    if not isinstance(stored, str):
        raise TypeError("a text is expected")
    return stored


def _ascending(stored: Any, *, strictly: bool) -> tuple[float, ...]:
    numbers = tuple(finite_number(value) for value in _list(stored))
    steps = np.diff(numbers)
    if bool((steps < 0).any() or (strictly and (steps == 0).any())):
        raise ValueError("limits of bins do not ascend")
    return numbers


def _check(profile: Profile) -> None:
    """Raise ValueError where the parts of a profile do not go together."""
    names = [column.name for column in profile.columns]
    known = profile.reference
    if len(set(names)) < len(names) or not profile.fits(known):
        raise ValueError("the counts are not those of the bins")
    sums = {int(counts.sum()) for counts in (*known.columns.values(), known.scores)}
    if any((counts < 0).any() for counts in (*known.columns.values(), known.scores)) or sums != {known.rows}:
        raise ValueError("the counts do not add up to the reference rows")
    if len(profile.quantiles) != 101 or not 0 <= profile.quantiles[0] <= profile.quantiles[-1] <= 1:
        raise ValueError("101 quantiles of the probability are expected")
    if set(profile.natural) != {*names, SCORE} or min(profile.natural.values()) < 0:
        raise ValueError("every column and the score need the index that is natural for them")
