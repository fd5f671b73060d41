"""LightGBM text models compiled for scoring: the same logits as LightGBM's own, to the bit, several times faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.local import map_buckets, worker_count
from ..errors import BundleError
from .tree_kernels import (
    BLOCK,
    CATEGORY,
    GROUP,
    MISSING_NONE,
    PLACE_OF_BIT,
    add_trees,
    code_rows,
)
from .tree_paths import Tree, parse_trees

_CHUNK_ROWS = 32 * BLOCK
_MOST_CODES, _MOST_LEAVES = 65_535, 65_536
_CATEGORICAL, _DEFAULT_LEFT = 1, 2

Column = tuple[int, int]
"""A feature and how it is coded: LightGBM's kind of missing values, or CATEGORY."""


@dataclass(frozen=True)
class CompiledTrees:
    """One or more ensembles (seeds) over the same features, as flat arrays; see :mod:`.tree_kernels`.

    ``feature``, ``kind``, ``edge_starts``, ``zero_code`` describe the coded columns, ``edges`` their thresholds,
    ``code_of`` (from ``code_starts`` on) the codes of their categories. ``tree_groups``, ``group_tests`` and
    ``leaf_value`` describe the trees, one after the other; ``tests`` (column, low, span, kept, words) what strikes
    out leaves, ``sets`` the categories of splits by several. ``seed_trees``: first tree of each ensemble.
    """

    n_features: int
    feature: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    edge_starts: npt.NDArray[np.int64]
    zero_code: npt.NDArray[np.int64]
    code_of: npt.NDArray[np.uint16]
    code_starts: npt.NDArray[np.int64]
    tree_groups: npt.NDArray[np.int64]
    group_tests: npt.NDArray[np.int64]
    tests: tuple[npt.NDArray[Any], ...]
    sets: npt.NDArray[np.uint32]
    leaf_value: npt.NDArray[np.float64]
    seed_trees: tuple[int, ...]

    def mean_logit(self, matrix: npt.NDArray[Any], *, n_threads: int = 0) -> npt.NDArray[np.float64]:
        """Mean over the ensembles of the sum of leaf values, a row of ``matrix`` (rows, features) at a time.

        ``matrix`` holds float32 or float64 (NaN: missing; category codes as numbers), in either memory order.
        ``n_threads`` (0: all) has no effect on the result. Raises ValueError for another number of columns.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.n_features:
            raise ValueError(
                f"the trees read {self.n_features} columns; got an array of shape {matrix.shape}"
            )
        if matrix.dtype not in (np.float32, np.float64):
            matrix = matrix.astype(np.float64)
        total = np.zeros(len(matrix))
        chunks = range(0, len(matrix), _CHUNK_ROWS)
        jobs = min(worker_count(n_threads or None), len(chunks))
        by_column = matrix.flags.f_contiguous and matrix.flags.behaved

        def score(begin: int) -> None:
            rows = slice(begin, begin + _CHUNK_ROWS)
            own = total[rows]
            if by_column:
                self._add(matrix.T, begin, own)
            else:
                self._add(np.array(matrix[rows], order="F").T, 0, own)

        for _ in map_buckets(score, chunks, jobs):
            pass
        return total / len(self.seed_trees)

    def _add(self, columns: npt.NDArray[Any], begin: int, total: npt.NDArray[np.float64]) -> None:
        """Add each ensemble's sum, itself added up from zero as LightGBM does, to ``total``."""
        coded = (self.feature, self.kind, self.edges, self.edge_starts, self.zero_code)
        codes = code_rows(columns, begin, begin + len(total), *coded, self.code_of, self.code_starts)
        add: Any = add_trees
        ends = (*self.seed_trees[1:], len(self.tree_groups) - 1)
        for first, end in zip(self.seed_trees, ends, strict=True):
            own = np.zeros(len(total))
            layout = (self.tree_groups[first : end + 1], self.group_tests, *self.tests, self.sets)
            add(codes, *layout, self.leaf_value, own)
            total += own


def compile_trees(texts: Sequence[str], n_features: int) -> CompiledTrees:
    """Compile LightGBM text models (one per seed) of ``n_features`` columns.

    Raises BundleError for linear trees and random forests, whose output is no sum of leaf values, and for a
    model with more than 65,535 thresholds on one column or 65,536 leaves in one tree.

    >>> import lightgbm
    >>> X, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 3 == 0
    >>> settings = {"objective": "binary", "min_data_in_leaf": 2, "verbosity": -1}
    >>> booster = lightgbm.train(settings, lightgbm.Dataset(X, y), 5)
    >>> trees = compile_trees([booster.model_to_string()], n_features=2)
    >>> bool((trees.mean_logit(X) == booster.predict(X, raw_score=True)).all())
    True
    """
    seeds = [parse_trees(text) for text in texts]
    trees = [tree for seed in seeds for tree in seed]
    columns = _columns_of(trees)
    for (feature, _), values in columns.items():
        if len(values) >= _MOST_CODES or feature >= n_features:
            raise BundleError(
                f"the trees use {len(values):,} thresholds or categories of column {feature}, of {n_features} "
                f"columns; at most {_MOST_CODES:,} can be scored: train with a smaller max_bin"
            )
    most_leaves = max((len(tree.leaf_value) for tree in trees), default=0)
    if most_leaves > _MOST_LEAVES:
        raise BundleError(
            f"a tree has {most_leaves:,} leaves; at most {_MOST_LEAVES:,} can be scored: train with smaller num_leaves"
        )
    layout = _Layout(columns)
    for tree in trees:
        layout.append(tree)
    padded = [values[:0] if key[1] == CATEGORY else _padded(values) for key, values in columns.items()]
    code_of = [_codes_of(values if key[1] == CATEGORY else values[:0]) for key, values in columns.items()]
    return CompiledTrees(
        n_features=n_features,
        feature=np.array([feature for feature, _ in columns], np.int64),
        kind=np.array([kind for _, kind in columns], np.int64),
        edges=np.concatenate([np.zeros(0), *padded]),
        edge_starts=np.cumsum([0, *map(len, padded)], dtype=np.int64),
        zero_code=np.array([np.searchsorted(values, 0.0) + 1 for values in columns.values()], np.int64),
        code_of=np.concatenate([np.zeros(0, np.uint16), *code_of]),
        code_starts=np.cumsum([0, *map(len, code_of)], dtype=np.int64),
        tree_groups=np.array(layout.tree_groups, np.int64),
        group_tests=np.array(layout.group_tests, np.int64),
        tests=layout.tests(),
        sets=np.concatenate([np.zeros(1, np.uint32), *layout.sets]),
        leaf_value=np.concatenate([np.zeros(0), *layout.leaf_values]),
        seed_trees=tuple(np.cumsum([0, *map(len, seeds[:-1])]).tolist()),
    )


def _column_of(tree: Tree, node: int) -> Column:
    decision = int(tree.decision[node])
    return int(tree.feature[node]), CATEGORY if decision & _CATEGORICAL else (decision >> 2) & 3


def _categories(tree: Tree, node: int) -> npt.NDArray[np.int64]:
    """The categories that go left at a node."""
    slot = int(tree.threshold[node])
    words = tree.category_bits[tree.category_bounds[slot] : tree.category_bounds[slot + 1]]
    return np.flatnonzero(np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little"))


def _columns_of(trees: Sequence[Tree]) -> dict[Column, npt.NDArray[np.float64]]:
    """Every column that some node reads, with its ascending thresholds or categories."""
    found: dict[Column, set[float]] = {}
    for tree in trees:
        for node in range(len(tree.feature)):
            key = _column_of(tree, node)
            values = _categories(tree, node).tolist() if key[1] == CATEGORY else [float(tree.threshold[node])]
            found.setdefault(key, set()).update(values)
    return {key: np.array(sorted(found[key]), np.float64) for key in sorted(found)}


def _padded(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Filled up with infinity to one less than a power of two, so that halving never leaves the array."""
    missing = (1 << len(edges).bit_length()) - 1 - len(edges)
    return np.concatenate([edges, np.full(missing, np.inf)])


def _codes_of(categories: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """The code of every number up to the largest of the categories: 1 + its place among them, 0 for others."""
    codes = np.zeros(int(categories[-1]) + 1 if len(categories) else 0, np.uint16)
    codes[categories.astype(np.int64)] = np.arange(1, len(categories) + 1)
    return codes


class _Layout:
    """Trees as groups of 16 leaves, from left to right, each with the tests that can strike out some of them."""

    def __init__(self, columns: dict[Column, npt.NDArray[np.float64]]) -> None:
        self._columns = columns
        self._position = {key: index for index, key in enumerate(columns)}
        self.tree_groups, self.group_tests = [0], [0]
        self.sets: list[npt.NDArray[np.uint32]] = []
        self.leaf_values: list[npt.NDArray[np.float64]] = []
        self._tests: list[tuple[int, int, int, int, int]] = []
        self._n_words = 1

    def append(self, tree: Tree) -> None:
        """Lay out one more tree."""
        leaves, spans = _leaves_from_left(tree)
        n_groups = -(-len(leaves) // GROUP)
        values = np.zeros(n_groups * GROUP)
        position = np.arange(len(leaves))
        values[position // GROUP * GROUP + PLACE_OF_BIT[position % GROUP]] = tree.leaf_value[leaves]
        self.leaf_values.append(values)
        tests = [self._test(tree, node) for node in range(len(tree.feature))]
        for group in range(n_groups):
            for test, (begin, end) in zip(tests, spans, strict=True):
                struck = range(max(0, begin - GROUP * group), min(GROUP, end - GROUP * group))
                if struck:
                    kept = 0xFFFF & ~sum(1 << bit for bit in struck)
                    self._tests.append((*test[:3], kept, test[3]))
            self.group_tests.append(len(self._tests))
        self.tree_groups.append(self.tree_groups[-1] + n_groups)

    def tests(self) -> tuple[npt.NDArray[Any], ...]:
        """Column, low, span, kept leaves and first word of every test."""
        table = np.array(self._tests, np.int64).reshape(-1, 5)
        types = (np.int64, np.uint16, np.uint16, np.uint16, np.int64)
        return tuple(np.ascontiguousarray(table[:, i].astype(kind)) for i, kind in enumerate(types))

    def _test(self, tree: Tree, node: int) -> tuple[int, int, int, int]:
        key = _column_of(tree, node)
        column, edges = self._position[key], self._columns[key]
        if key[1] != CATEGORY:
            place = int(np.searchsorted(edges, tree.threshold[node]))
            with_missing = bool(int(tree.decision[node]) & _DEFAULT_LEFT) and key[1] != MISSING_NONE
            return (column, 0, place + 1, -1) if with_missing else (column, 1, place, -1)
        codes = np.searchsorted(edges, _categories(tree, node)) + 1
        if len(codes) == 1:
            return column, int(codes[0]), 0, -1
        bits = np.zeros(32 * (len(edges) // 32 + 1), np.uint8)
        bits[codes] = 1
        self.sets.append(np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32))
        self._n_words += len(self.sets[-1])
        return column, 0, 0, self._n_words - len(self.sets[-1])


def _leaves_from_left(tree: Tree) -> tuple[list[int], list[tuple[int, int]]]:
    """The leaves from left to right and, for each node, the places of those below its left child, [begin, end)."""
    leaves: list[int] = []
    begin, end = [0] * len(tree.feature), [0] * len(tree.feature)
    stack: list[tuple[int, bool]] = [(0 if len(tree.feature) else ~0, False)]
    while stack:
        node, left_done = stack.pop()
        if node < 0:
            leaves.append(~node)
        elif left_done:
            end[node] = len(leaves)
            stack.append((int(tree.right[node]), False))
        else:
            begin[node] = len(leaves)
            stack += [(node, True), (int(tree.left[node]), False)]
    return leaves, list(zip(begin, end, strict=True))
