"""LightGBM text models as trees of arrays, and the decision that each node takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BundleError

END = "\nend of trees\n"
"""The line that ends the trees: what follows is no tree, whatever it looks like."""

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


def parse_trees(text: str) -> tuple[Tree, ...]:
    """Read the trees of a LightGBM text model, up to the line that ends them.

    Raises :class:`BundleError` for linear trees and averaged (random forest) output, which SHAP paths do not
    cover, and ``ValueError`` for numbers that are none, are not as many as the tree says, or are no integers where
    positions belong.
    """
    header, *blocks = text.partition(END)[0].split("\nTree=")
    if "\naverage_output" in header:
        raise BundleError(
            "This LightGBM model averages its trees (random forest mode), which reasons do not cover; "
            "train with boosting 'gbdt'."
        )
    return tuple(_parse_tree(block.split("\n\n", 1)[0]) for block in blocks)


def _parse_tree(block: str) -> Tree:
    lines = [line.split("=", 1) for line in block.split("\n")[1:] if "=" in line]
    entries = dict(lines)
    if len(entries) < len(lines):
        raise ValueError("a key is repeated")
    if int(entries.get("is_linear", "0")):
        raise BundleError(
            "This LightGBM model has linear trees, which reasons do not cover; train with linear_tree=false."
        )

    def reals(key: str) -> Floats:
        return np.array(entries.get(key, "").split(), dtype=np.float64)

    def integers(key: str, end: float = 2.0**31) -> Integers:
        values = reals(key)
        if not ((values == np.floor(values)) & (np.abs(values) < end)).all():
            raise ValueError(f"{key} holds a number that is no integer of a tree")
        return values.astype(np.int64)

    n_leaves, leaf_value = int(entries["num_leaves"]), reals("leaf_value")
    bounds = integers("cat_boundaries")
    if len(leaf_value) != n_leaves or int(entries.get("num_cat", "0")) != max(len(bounds) - 1, 0):
        raise ValueError("the numbers of leaves or of splits by category are not what the tree says")
    return Tree(
        feature=integers("split_feature"),
        threshold=reals("threshold"),
        decision=integers("decision_type"),
        left=integers("left_child"),
        right=integers("right_child"),
        node_count=reals("internal_count"),
        leaf_value=leaf_value,
        leaf_count=np.ones(1) if n_leaves == 1 else reals("leaf_count"),
        category_bounds=bounds,
        category_bits=(integers("cat_threshold", 2.0**32) % 2**32).astype(np.uint32),
    )
