"""Means of segments, shrunken towards the mean of all by their credibility: what small data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import BundleError

from .bundle_files import finite_number
from .calibration import Floats
from .encoding import Encoder, Matrix


@dataclass(frozen=True)
class SegmentMeans:
    """A mean for each cell of the segment columns; cells that were never seen have the mean of all.

    ``columns`` are positions in the matrix, ``means`` the shrunken mean of each cell, a cell being the codes of
    the columns (-1: missing).
    """

    columns: tuple[int, ...]
    overall: float
    means: Mapping[tuple[int, ...], float]

    def predict(self, matrix: Matrix) -> Floats:
        """The mean of each row's cell."""
        if not self.columns:
            return np.full(len(matrix), self.overall)
        cells = _codes(matrix, self.columns)
        return np.array([self.means.get(tuple(cell), self.overall) for cell in cells.tolist()], np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        cells = [[list(cell), mean] for cell, mean in sorted(self.means.items())]
        return {"columns": list(self.columns), "overall": self.overall, "cells": cells}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], encoder: Encoder) -> SegmentMeans:
        """Restore what :meth:`to_dict` gave of a model with these columns. Raises BundleError for anything else."""
        try:
            cells = {tuple(map(int, cell)): finite_number(mean) for cell, mean in stored["cells"]}
            columns = tuple(map(int, stored["columns"]))
            overall = finite_number(stored["overall"])
            if not set(columns) <= set(encoder.categorical) or {len(cell) for cell in cells} - {len(columns)}:
                raise ValueError("segments of other columns")
        except (KeyError, TypeError, ValueError):
            raise BundleError("the segment means cannot be read; export the bundle anew") from None
        return cls(columns, overall, cells)


def fit_segment_means(matrix: Matrix, y: Floats, weight: Floats, columns: Sequence[int]) -> SegmentMeans:
    """Bühlmann and Straub's credibility: each cell's mean counts by W / (W + within / between variance).

    W is the cell's weight, the variances are the unbiased estimates of the weighted model; where the cells'
    means differ by no more than chance would have them differ, all get the mean of all.

    Source: Bühlmann & Straub (1970); Bühlmann & Gisler (2005), A course in credibility theory, 4.8.

    >>> matrix = np.array([[0.0]] * 50 + [[1.0]] * 50)
    >>> y = np.tile([0.0, 2.0], 50) + 8.0 * matrix[:, 0]
    >>> fit = fit_segment_means(matrix, y, np.ones(100), [0])
    >>> fit.predict(np.array([[0.0], [1.0], [2.0]])).round(2).tolist()
    [1.0, 9.0, 5.0]
    """
    overall = float(np.average(y, weights=weight))
    if not columns:
        return SegmentMeans((), overall, {})
    cells, code = np.unique(_codes(matrix, columns), axis=0, return_inverse=True)
    code = code.ravel()
    mass = np.bincount(code, weight)
    mean = np.bincount(code, weight * y) / np.where(mass > 0, mass, 1.0)
    total, n_cells = float(mass.sum()), int((mass > 0).sum())
    within = float(weight @ (y - mean[code]) ** 2) / max(total - n_cells, 1.0)
    scale = total - float(mass @ mass) / total
    spread = float(mass @ (mean - overall) ** 2) - (n_cells - 1) * within
    between = spread / scale if scale > 0 else 0.0
    if between <= 0:
        return SegmentMeans(tuple(columns), overall, {})
    credibility = mass / (mass + within / between)
    centre = float(credibility @ mean / credibility.sum())
    shrunken = credibility * mean + (1 - credibility) * centre
    means = {tuple(map(int, cell)): float(value) for cell, value in zip(cells, shrunken, strict=True)}
    return SegmentMeans(tuple(columns), centre, means)


def segment_candidates(encoder: Encoder, matrix: npt.NDArray[Any]) -> list[int]:
    """Category columns that could make segments: those with at least two categories among the rows."""
    sizes = {i: len(encoder.columns[i].categories) for i in encoder.categorical}
    return [i for i, size in sizes.items() if len(np.unique(matrix[:, i][matrix[:, i] < size])) > 1]


def _codes(matrix: Matrix, columns: Sequence[int]) -> npt.NDArray[np.int64]:
    picked = matrix[:, list(columns)].astype(np.float64)
    return np.where(np.isnan(picked), -1, picked).astype(np.int64)
