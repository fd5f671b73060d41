"""LightGBM text models as leaf paths over bins: what a leaf demands of each feature, ready for the SHAP
kernel.

Every threshold a model uses on a feature cuts that feature's axis into *bins* on which every node of the
model decides alike. A row is coded once into bins; a leaf's demands on a feature are then one lookup table
over its bins, whatever mixture of numeric, categorical and missing-value tests led to the leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BundleError

_ZERO = 1e-35
"""LightGBM's kZeroThreshold: values within it count as zero where zero means missing."""

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """One tree of a LightGBM text model, arrays as in the file; a negative child c is leaf ~c."""

    feature: Integers
    threshold: Floats
    decision: Integers
    left: Integers
    right: Integers
    node_count: Floats
    leaf_value: Floats
    leaf_count: Floats
    category_bounds: Integers
    category_bits: npt.NDArray[np.uint32]

    @property
    def expected_value(self) -> float:
        """Mean leaf value, weighted by the training rows in each leaf."""
        total = self.leaf_count.sum()
        return (
            float(self.leaf_value @ self.leaf_count / total) if total > 0 else float(self.leaf_value.mean())
        )

    def goes_left(self, node: int, values: Floats) -> npt.NDArray[np.bool_]:
        """The node's decision for each value, exactly as LightGBM takes it."""
        decision = int(self.decision[node])
        missing = (decision >> 2) & 3
        is_nan = np.isnan(values)
        if decision & _CATEGORICAL:
            slot = int(self.threshold[node])
            words = self.category_bits[self.category_bounds[slot] : self.category_bounds[slot + 1]]
            code = np.where(
                is_nan | (values < 0), -1, np.minimum(np.nan_to_num(values, nan=0.0), 2**31)
            ).astype(np.int64)
            inside = (code >= 0) & (code < 32 * len(words))
            safe = np.where(inside, code, 0)
            found: npt.NDArray[np.bool_] = inside & (
                (words[safe // 32] >> (safe % 32).astype(np.uint32)) & 1 == 1
            )
            return found
        filled = np.where(is_nan, 0.0, values) if missing != 2 else values
        absent = (
            is_nan
            if missing == 2
            else np.abs(filled) <= _ZERO
            if missing == _MISSING_ZERO
            else np.zeros_like(is_nan)
        )
        with np.errstate(invalid="ignore"):
            return np.where(absent, bool(decision & _DEFAULT_LEFT), filled <= self.threshold[node])


@dataclass(frozen=True)
class LeafPaths:
    """All leaves of all trees. Element e of a leaf's path is one distinct feature that the path tests.

    ``starts``: first element of each leaf (CSR, length leaves + 1); ``value``: leaf values; ``feature`` and
    ``ratio`` (share of the training rows that would follow the path if only this feature were unknown) per
    element;
    ``lookup``: one row of bytes per element, ``lookup[e, bin]`` = does a value in that bin satisfy the
    element's tests;
    ``low`` and ``high``: the same as an inclusive range of bins where the tests are a range (``low`` 0: they
    are not),
    ``missing``: whether bin 0 satisfies them too.
    """

    starts: Integers
    value: Floats
    feature: Integers
    ratio: Floats
    lookup: npt.NDArray[np.uint8]
    low: npt.NDArray[np.uint16]
    high: npt.NDArray[np.uint16]
    missing: npt.NDArray[np.uint16]
    bias: float
    used: Integers
    bins: tuple[Floats, ...]
    categorical: npt.NDArray[np.bool_]
    n_features: int

    def code(self, rows: Floats) -> npt.NDArray[np.uint16]:
        """Bin of every row (first axis: used feature, second: row). Bin 0 is NaN."""
        coded = np.zeros((len(self.used), len(rows)), dtype=np.uint16)
        for position, feature in enumerate(self.used):
            column = rows[:, feature]
            edges = self.bins[position]
            if self.categorical[position]:
                column = np.where(column < 0, -1.0, np.floor(column))
                found = np.searchsorted(edges, column)
                inside = (found < len(edges)) & (edges[np.minimum(found, len(edges) - 1)] == column)
                coded[position] = np.where(inside, found + 2, 1)
            else:
                coded[position] = np.searchsorted(edges, column, side="left") + 1
            coded[position][np.isnan(column)] = 0
        return coded


def parse_trees(text: str) -> tuple[Tree, ...]:
    """Read the trees of a LightGBM text model.

    Raises :class:`BundleError` for linear trees and averaged (random forest) output, which SHAP paths do not
    cover.
    """
    header, *blocks = text.split("\nTree=")
    if "\naverage_output" in header:
        raise BundleError(
            "This LightGBM model averages its trees (random forest mode), which reasons do not cover; "
            "train with boosting 'gbdt'."
        )
    return tuple(_parse_tree(block.split("\n\n", 1)[0]) for block in blocks)


def _parse_tree(block: str) -> Tree:
    entries = dict(line.split("=", 1) for line in block.split("\n")[1:] if "=" in line)
    if int(entries.get("is_linear", "0")):
        raise BundleError(
            "This LightGBM model has linear trees, which reasons do not cover; train with linear_tree=false."
        )

    def numbers(key: str, kind: type = np.int64) -> npt.NDArray[np.generic]:
        return np.array(entries.get(key, "").split(), dtype=np.float64).astype(kind)

    single = int(entries["num_leaves"]) == 1
    return Tree(
        feature=numbers("split_feature"),  # type: ignore[arg-type]
        threshold=numbers("threshold", np.float64),  # type: ignore[arg-type]
        decision=numbers("decision_type"),  # type: ignore[arg-type]
        left=numbers("left_child"),  # type: ignore[arg-type]
        right=numbers("right_child"),  # type: ignore[arg-type]
        node_count=numbers("internal_count", np.float64),  # type: ignore[arg-type]
        leaf_value=numbers("leaf_value", np.float64),  # type: ignore[arg-type]
        leaf_count=np.ones(1) if single else numbers("leaf_count", np.float64),  # type: ignore[arg-type]
        category_bounds=numbers("cat_boundaries"),  # type: ignore[arg-type]
        category_bits=numbers("cat_threshold", np.uint32),  # type: ignore[arg-type]
    )


def leaf_paths(trees: Sequence[Tree], n_features: int) -> LeafPaths:
    """Turn trees into leaf paths over the bins of the features they use."""
    used, bins, categorical = _bins(trees)
    position = {int(feature): index for index, feature in enumerate(used)}
    representatives = [
        np.concatenate([[np.nan, -1.0], edges])
        if is_category
        else np.concatenate([[np.nan], edges, [np.inf]])
        for edges, is_category in zip(bins, categorical, strict=True)
    ]
    width = max((len(values) for values in representatives), default=1)
    starts, value, feature, ratio, lookup = [0], [], [], [], []
    for tree in trees:
        masks = _node_masks(tree, position, representatives, width)
        for leaf, path in _walk(tree):
            elements: dict[int, tuple[float, npt.NDArray[np.bool_]]] = {}
            for node, is_left, share in path:
                key = position[int(tree.feature[node])]
                mask = masks[node] if is_left else ~masks[node]
                known_share, known_mask = elements.get(key, (1.0, np.ones(width, dtype=bool)))
                elements[key] = (known_share * share, known_mask & mask)
            for key, (share, mask) in elements.items():
                feature.append(key)
                ratio.append(share)
                lookup.append(mask.astype(np.uint8))
            starts.append(len(feature))
            value.append(tree.leaf_value[leaf])
    table = np.array(lookup, dtype=np.uint8).reshape(len(feature), width)
    low, high = _ranges(table)
    return LeafPaths(
        starts=np.array(starts, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        feature=np.array(feature, dtype=np.int64),
        ratio=np.array(ratio, dtype=np.float64),
        lookup=table,
        low=low,
        high=high,
        missing=table[:, 0].astype(np.uint16),
        bias=float(sum(tree.expected_value for tree in trees)),
        used=used,
        bins=tuple(bins),
        categorical=categorical,
        n_features=n_features,
    )


def _ranges(table: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """First and last satisfied bin of every element; (0, 0) where those from 1 on are not contiguous."""
    if not len(table) or table.shape[1] < 2:
        return np.zeros(len(table), np.uint16), np.zeros(len(table), np.uint16)
    known = table[:, 1:]
    low = known.argmax(axis=1) + 1
    high = known.shape[1] - known[:, ::-1].argmax(axis=1)
    contiguous = known.any(axis=1) & (known.sum(axis=1, dtype=np.int64) == high - low + 1)
    return np.where(contiguous, low, 0).astype(np.uint16), np.where(contiguous, high, 0).astype(np.uint16)


def _bins(trees: Sequence[Tree]) -> tuple[Integers, list[Floats], npt.NDArray[np.bool_]]:
    thresholds: dict[int, set[float]] = {}
    categories: dict[int, set[int]] = {}
    for tree in trees:
        for node in range(len(tree.feature)):
            feature = int(tree.feature[node])
            if tree.decision[node] & _CATEGORICAL:
                slot = int(tree.threshold[node])
                words = tree.category_bits[tree.category_bounds[slot] : tree.category_bounds[slot + 1]]
                bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
                categories.setdefault(feature, set()).update(np.flatnonzero(bits).tolist())
            else:
                edges = thresholds.setdefault(feature, set())
                edges.add(float(tree.threshold[node]))
                if (int(tree.decision[node]) >> 2) & 3 == _MISSING_ZERO:
                    edges.update((float(np.nextafter(-_ZERO, -np.inf)), _ZERO))
    used = np.array(sorted(thresholds.keys() | categories.keys()), dtype=np.int64)
    is_category = np.array([int(feature) in categories for feature in used], dtype=bool)
    edges_of = [
        np.array(sorted(categories.get(int(f), thresholds.get(int(f), set()))), dtype=np.float64)
        for f in used
    ]
    return used, edges_of, is_category


def _node_masks(
    tree: Tree, position: dict[int, int], representatives: list[Floats], width: int
) -> npt.NDArray[np.bool_]:
    masks = np.zeros((len(tree.feature), width), dtype=bool)
    for node in range(len(tree.feature)):
        values = representatives[position[int(tree.feature[node])]]
        masks[node, : len(values)] = tree.goes_left(node, values)
    return masks


def _walk(tree: Tree) -> list[tuple[int, list[tuple[int, bool, float]]]]:
    """Every leaf with its path: (node, went left, share of the node's training rows that did)."""
    if not len(tree.feature):
        return [(0, [])]
    found: list[tuple[int, list[tuple[int, bool, float]]]] = []
    stack: list[tuple[int, list[tuple[int, bool, float]]]] = [(0, [])]
    while stack:
        node, path = stack.pop()
        if node < 0:
            found.append((~node, path))
            continue
        for child, is_left in ((int(tree.right[node]), False), (int(tree.left[node]), True)):
            count = tree.leaf_count[~child] if child < 0 else tree.node_count[child]
            stack.append((child, [*path, (node, is_left, float(count / tree.node_count[node]))]))
    return found
