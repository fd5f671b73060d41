"""Compiled scoring of tree ensembles: rows become bin codes, nodes compare small integers, rows go in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

BLOCK = 128
"""Rows that pass all trees together: their codes stay in cache meanwhile."""

GROUP = 16
"""Leaves that share one mask of 16 bits."""

ZERO = 1e-35
"""LightGBM's kZeroThreshold: what lies within it is zero."""

MISSING_NONE, MISSING_ZERO, MISSING_NAN, CATEGORY = 0, 1, 2, 3
"""How a column is coded: by thresholds, with one of LightGBM's three kinds of missing values, or by category."""

_MODULUS = 19
"""The powers of two from 1 to 2**15 leave different remainders when divided by it."""

BIT_OF_REMAINDER = np.zeros(_MODULUS, np.int64)
BIT_OF_REMAINDER[[2**bit % _MODULUS for bit in range(GROUP)]] = np.arange(GROUP)


@njit(cache=True, nogil=True)
def code_numbers(values: Any, edges: Any, kind: int, zero_code: int, codes: Any, column: int) -> None:
    """Write 1 + the number of edges below each value; 0 is missing, which zero or NaN are by ``kind``.

    ``edges`` ascend and are filled up with infinity to one less than a power of two; ``zero_code`` is the code
    of 0; ``codes`` has the shape (blocks, columns, BLOCK), rows in order.
    """
    wide = np.empty(BLOCK, np.float64)
    place = np.empty(BLOCK, np.int64)
    for block in range(codes.shape[0]):
        begin = block * BLOCK
        rows = min(BLOCK, len(values) - begin)
        for r in range(rows):
            value = np.float64(values[begin + r])
            wide[r] = 0.0 if abs(value) <= ZERO else value
            place[r] = 0
        step = (len(edges) + 1) >> 1
        while step > 0:
            for r in range(rows):
                place[r] += step if edges[place[r] + step - 1] < wide[r] else 0
            step >>= 1
        for r in range(rows):
            code = place[r] + 1
            if wide[r] != wide[r]:
                code = zero_code if kind == MISSING_NONE else 0
            elif kind == MISSING_ZERO and wide[r] == 0.0:
                code = 0
            codes[block, column, r] = code


@njit(cache=True, nogil=True)
def code_categories(values: Any, categories: Any, codes: Any, column: int) -> None:
    """Write 1 + the place of each value among the ascending ``categories``; 0 for any other value and NaN."""
    for i in range(len(values)):
        value = np.float64(values[i])
        code = 0
        if value > -1.0 and value < 2147483648.0:
            whole = np.float64(np.int64(value))
            place = np.searchsorted(categories, whole)
            if place < len(categories) and categories[place] == whole:
                code = int(place) + 1
        codes[i // BLOCK, column, i % BLOCK] = code


@njit(cache=True, nogil=True)
def code_rows(matrix: Any, feature: Any, kind: Any, edges: Any, edge_starts: Any, zero_code: Any) -> Any:
    """The codes of all rows, shape (blocks, columns, BLOCK), uint16: one column per (feature, kind)."""
    blocks = (matrix.shape[0] + BLOCK - 1) // BLOCK
    codes = np.zeros((blocks, len(feature), BLOCK), np.uint16)
    for column in range(len(feature)):
        values = matrix[:, feature[column]]
        own = edges[edge_starts[column] : edge_starts[column + 1]]
        if kind[column] == CATEGORY:
            code_categories(values, own, codes, column)
        else:
            code_numbers(values, own, kind[column], zero_code[column], codes, column)
    return codes


@njit(cache=True, nogil=True)
def strike_out(
    codes: Any, column: Any, low: Any, span: Any, kept: Any, words: Any, sets: Any, mask: Any
) -> None:
    """Strike out the leaves of one group that each row cannot reach.

    A row goes left at a test iff ``(code - low) mod 2**16 <= span``: from 0, an interval takes missing values
    along, from 1 it does not, and one category is an interval of length one. Where ``words`` is not negative,
    it goes left iff its code's bit is set in ``sets``, from that word on. Who goes right keeps ``kept``.
    """
    every = np.uint16(0xFFFF)
    for r in range(len(mask)):
        mask[r] = every
    for k in range(len(column)):
        code, low_k, span_k, kept_k, word = codes[column[k]], low[k], span[k], kept[k], words[k]
        if word < 0:
            for r in range(len(mask)):
                mask[r] &= kept_k if np.uint16(code[r] - low_k) > span_k else every
        else:
            for r in range(len(mask)):
                bits = sets[word + (code[r] >> 5)]
                mask[r] &= every if (bits >> (code[r] & 31)) & 1 else kept_k


@njit(cache=True, nogil=True)
def add_trees(
    codes: Any,
    tree_groups: Any,
    group_tests: Any,
    column: Any,
    low: Any,
    span: Any,
    kept: Any,
    words: Any,
    sets: Any,
    leaf_value: Any,
    bit_of_remainder: Any,
    total: Any,
) -> None:
    """Add the leaf value of every tree to ``total`` (rows), tree after tree.

    The leftmost leaf that no test strikes out is the one that is reached (Lucchese et al. (2015), QuickScorer,
    SIGIR): nothing branches, and 16 rows are compared at once. ``tree_groups``: first group of each tree;
    ``group_tests``: first test of each group; ``leaf_value``: GROUP values per group, from left to right.
    """
    mask, chosen = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    place = np.empty(BLOCK, np.int64)
    for block in range(codes.shape[0]):
        own = total[block * BLOCK : (block + 1) * BLOCK]
        for tree in range(len(tree_groups) - 1):
            for group in range(tree_groups[tree + 1] - 1, tree_groups[tree] - 1, -1):
                tests = slice(group_tests[group], group_tests[group + 1])
                strike_out(
                    codes[block],
                    column[tests],
                    low[tests],
                    span[tests],
                    kept[tests],
                    words[tests],
                    sets,
                    mask,
                )
                for r in range(BLOCK):
                    if mask[r] != 0:
                        chosen[r] = mask[r]
                        place[r] = group * GROUP
            for r in range(len(own)):
                lowest = chosen[r] & np.uint16(-np.int64(chosen[r]))
                own[r] += leaf_value[place[r] + bit_of_remainder[lowest % _MODULUS]]
