"""Exact path-dependent TreeSHAP for LightGBM, fast enough for every lead of a night.

For one leaf with value v whose path tests d distinct features, let o_k in {0, 1} say whether the row
satisfies all tests of feature k on the path, and r_k be the product of the cover ratios of those tests.
Shapley's weights are the integral

    phi_k += v (o_k - r_k) * integral_0^1 prod_{j != k} (o_j t + r_j (1 - t)) dt

whose integrand is a polynomial of degree d - 1 in t, so ceil(d / 2) Gauss-Legendre nodes integrate it
exactly. The result depends on the row through the d bits o alone: a leaf has at most 2 ** d different
answers. Leaves are therefore worked off one at a time over a block of rows: code the rows' bits, and either
look the answer up in the leaf's table of patterns (many rows, short path) or integrate for each row (few
rows, long path).

Source of the value function: Lundberg et al., "Consistent individualized feature attribution for tree
ensembles", 2018.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .tree_paths import LeafPaths, leaf_paths, parse_trees

Floats = npt.NDArray[np.float64]

_BLOCK_ROWS = 8192
_TABLE_BITS = 12
_MAX_NODES = 32


def _quadrature() -> tuple[Floats, Floats]:
    nodes, weights = np.zeros((_MAX_NODES + 1, _MAX_NODES)), np.zeros((_MAX_NODES + 1, _MAX_NODES))
    for count in range(1, _MAX_NODES + 1):
        x, w = np.polynomial.legendre.leggauss(count)
        nodes[count, :count], weights[count, :count] = (x + 1) / 2, w / 2
    return nodes, weights


_NODES, _WEIGHTS = _quadrature()


class TreeExplainer:
    """Exact SHAP values of a LightGBM text model.

    Parameters
    ----------
    text
        The model as LightGBM saves it (``Booster.model_to_string()``).
    n_features
        Number of columns of the rows to explain.

    Raises
    ------
    BundleError
        If the model has linear trees or averages its trees.
    """

    def __init__(self, text: str, n_features: int) -> None:
        self.paths: LeafPaths = leaf_paths(parse_trees(text), n_features)

    @property
    def bias(self) -> float:
        """Expected raw score: what a row's contributions start from."""
        return self.paths.bias

    def explain(self, rows: npt.ArrayLike, *, n_jobs: int | None = None) -> Floats:
        """Contribution of every feature to the raw score (logit) of every row.

        Parameters
        ----------
        rows
            Shape (rows, features), as given to LightGBM; NaN is missing, categories are codes.
        n_jobs
            Threads; None uses all cores. The result does not depend on it.

        Returns
        -------
        ndarray
            Shape (rows, features), float64; ``bias + contributions.sum(axis=1)`` is the raw score.
        """
        matrix = np.asarray(rows, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.paths.n_features:
            raise ValueError(f"rows must have shape (rows, {self.paths.n_features}); got {matrix.shape}.")
        result = np.zeros(matrix.shape)
        with ThreadPoolExecutor(max_workers=n_jobs or os.cpu_count()) as pool:
            for _ in pool.map(
                lambda start: self._explain_block(
                    matrix[start : start + _BLOCK_ROWS], result[start : start + _BLOCK_ROWS]
                ),
                range(0, len(matrix), _BLOCK_ROWS),
            ):
                pass
        return result

    def _explain_block(self, rows: Floats, out: Floats) -> None:
        paths = self.paths
        contributions = np.zeros((len(paths.used), len(rows)))
        _explain_kernel(
            paths.starts,
            paths.value,
            paths.feature,
            paths.ratio,
            paths.lookup,
            paths.low,
            paths.high,
            paths.missing,
            paths.code(rows),
            _NODES,
            _WEIGHTS,
            contributions,
        )
        out[:, paths.used] = contributions.T


@njit(cache=True, nogil=True)
def _explain_kernel(
    starts: Any,
    value: Any,
    feature: Any,
    ratio: Any,
    lookup: Any,
    low: Any,
    high: Any,
    missing: Any,
    codes: Any,
    nodes: Any,
    weights: Any,
    contributions: Any,
) -> None:
    n_rows = codes.shape[1]
    short = np.zeros(n_rows, dtype=np.uint16)
    long = np.zeros(n_rows, dtype=np.int64)
    for leaf in range(len(value)):
        first, last = starts[leaf], starts[leaf + 1]
        depth = last - first
        if depth == 0:
            continue
        n_nodes = (depth + 1) // 2
        if depth <= _TABLE_BITS and (1 << depth) <= 2 * n_rows:
            short[:] = 0
            for element in range(depth):
                place = first + element
                _add_bits(
                    codes[feature[place]],
                    low[place],
                    high[place],
                    missing[place],
                    lookup[place],
                    element,
                    short,
                )
            table = _pattern_table(ratio[first:last], value[leaf], nodes[n_nodes], weights[n_nodes], n_nodes)
            for element in range(depth):
                _add_answers(table[element], short, contributions[feature[first + element]])
        else:
            long[:] = 0
            for element in range(depth):
                place = first + element
                _add_bits(
                    codes[feature[place]],
                    low[place],
                    high[place],
                    missing[place],
                    lookup[place],
                    element,
                    long,
                )
            _add_deep(
                long,
                ratio[first:last],
                value[leaf],
                nodes[n_nodes],
                weights[n_nodes],
                n_nodes,
                feature[first:last],
                contributions,
            )


@njit(cache=True, nogil=True)
def _add_bits(codes: Any, low: Any, high: Any, missing: Any, lookup: Any, element: int, pattern: Any) -> None:
    if low > 0:
        for row in range(len(codes)):
            code = codes[row]
            inside = np.int64((code >= low) & (code <= high)) | (np.int64(code == 0) & missing)
            pattern[row] = np.int64(pattern[row]) | (inside << element)
    else:
        for row in range(len(codes)):
            pattern[row] = np.int64(pattern[row]) | (np.int64(lookup[codes[row]]) << element)


@njit(cache=True, nogil=True)
def _add_answers(answers: Any, pattern: Any, target: Any) -> None:
    for row in range(len(target)):
        target[row] += answers[pattern[row]]


@njit(cache=True, nogil=True)
def _pattern_table(ratio: Any, value: float, nodes: Any, weights: Any, n_nodes: int) -> Any:
    """Contributions of each element (first axis) for each pattern of satisfied elements (second axis)."""
    depth = len(ratio)
    table = np.zeros((depth, 1 << depth))
    product = np.empty(1 << depth)
    for node in range(n_nodes):
        t = nodes[node]
        product[0] = weights[node] * value
        for element in range(depth):
            unmet = ratio[element] * (1.0 - t)
            half = 1 << element
            for pattern in range(half):
                product[half + pattern] = product[pattern] * (t + unmet)
                product[pattern] *= unmet
        for element in range(depth):
            unmet = ratio[element] * (1.0 - t)
            met_factor = (1.0 - ratio[element]) / (t + unmet)
            unmet_factor = -ratio[element] / unmet if unmet > 0.0 else 0.0
            answers = table[element]
            half = 1 << element
            for start in range(0, 1 << depth, 2 * half):
                for pattern in range(start, start + half):
                    answers[pattern] += unmet_factor * product[pattern]
                for pattern in range(start + half, start + 2 * half):
                    answers[pattern] += met_factor * product[pattern]
    return table


@njit(cache=True, nogil=True)
def _add_deep(
    pattern: Any,
    ratio: Any,
    value: float,
    nodes: Any,
    weights: Any,
    n_nodes: int,
    feature: Any,
    contributions: Any,
) -> None:
    """Integrate once for every distinct pattern of a path that is too long for a table."""
    depth, n_rows = len(ratio), len(pattern)
    size = 1
    while size < 2 * n_rows:
        size *= 2
    slots = np.full(size, -1, dtype=np.int64)
    answers = np.empty((n_rows, depth))
    keys = np.empty(n_rows, dtype=np.int64)
    found = 0
    for row in range(n_rows):
        slot = ((pattern[row] * 0x9E3779B1) >> 7) & (size - 1)
        while slots[slot] >= 0 and keys[slots[slot]] != pattern[row]:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = found
            keys[found] = pattern[row]
            _integrate(pattern[row], ratio, value, nodes, weights, n_nodes, answers[found])
            found += 1
        answer = answers[slots[slot]]
        for element in range(depth):
            contributions[feature[element], row] += answer[element]


@njit(cache=True, nogil=True)
def _integrate(
    pattern: int, ratio: Any, value: float, nodes: Any, weights: Any, n_nodes: int, answer: Any
) -> None:
    depth = len(ratio)
    answer[:] = 0.0
    for node in range(n_nodes):
        t = nodes[node]
        product = weights[node] * value
        for element in range(depth):
            product *= ((pattern >> element) & 1) * t + ratio[element] * (1.0 - t)
        for element in range(depth):
            satisfied = float((pattern >> element) & 1)
            factor = satisfied * t + ratio[element] * (1.0 - t)
            if factor > 0.0:
                answer[element] += (satisfied - ratio[element]) * product / factor
