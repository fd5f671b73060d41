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

SPREAD = 0x09AF
"""A power of two up to 2**15 times this, modulo 2**16, has four leading bits that no other one has (de Bruijn)."""

PLACE_OF_BIT = np.array([(SPREAD << bit & 0xFFFF) >> 12 for bit in range(GROUP)])
"""Where the value of each leaf of a group stands: the four leading bits that its bit of the mask leads to."""

_FEW_EDGES = 31
_SPREAD, _SHIFT = np.uint16(SPREAD), np.uint16(12)


@njit(cache=True, nogil=True)
def code_numbers(values: Any, edges: Any, kind: int, zero_code: int, codes: Any, column: int) -> None:
    """Write 1 + the number of edges below each value; 0 is missing, which zero or NaN are by ``kind``.

    ``edges`` ascend and are filled up with infinity to one less than a power of two; ``zero_code`` is the code
    of 0; ``codes`` has the shape (blocks, columns, BLOCK), rows in order. A few edges are all compared with the whole
    block, several rows at once, which is quicker than a search.
    """
    wide = np.zeros(BLOCK, np.float64)
    place = np.empty(BLOCK, np.int64)
    for block in range(codes.shape[0]):
        begin = block * BLOCK
        rows = min(BLOCK, len(values) - begin)
        own = codes[block, column]
        for r in range(rows):
            value = np.float64(values[begin + r])
            wide[r] = 0.0 if abs(value) <= ZERO else value
        place[:] = 0
        if len(edges) <= _FEW_EDGES:
            for edge in edges:
                for r in range(BLOCK):
                    place[r] += 1 if edge < wide[r] else 0
        else:
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
            own[r] = code


@njit(cache=True, nogil=True)
def code_categories(values: Any, code_of: Any, codes: Any, column: int) -> None:
    """Write ``code_of`` each value, a category; 0 for one beyond its end, a negative one and NaN."""
    for i in range(len(values)):
        value = values[i]
        code = 0
        if value > -1.0 and value < len(code_of):
            code = code_of[np.int64(value)]
        codes[i // BLOCK, column, i % BLOCK] = code


@njit(cache=True, nogil=True)
def code_rows(
    columns: Any,
    begin: int,
    end: int,
    feature: Any,
    kind: Any,
    edges: Any,
    edge_starts: Any,
    zero_code: Any,
    code_of: Any,
    code_starts: Any,
) -> Any:
    """The codes of the rows from ``begin`` to ``end``, shape (blocks, columns, BLOCK), uint16.

    ``columns`` has the shape (features, rows); there is one column of codes per (feature, kind).
    """
    blocks = (end - begin + BLOCK - 1) // BLOCK
    codes = np.zeros((blocks, len(feature), BLOCK), np.uint16)
    for column in range(len(feature)):
        values = columns[feature[column], begin:end]
        if kind[column] == CATEGORY:
            own_codes = code_of[code_starts[column] : code_starts[column + 1]]
            code_categories(values, own_codes, codes, column)
        else:
            own = edges[edge_starts[column] : edge_starts[column + 1]]
            code_numbers(values, own, kind[column], zero_code[column], codes, column)
    return codes


@njit(cache=True, nogil=True)
def strike_out(
    codes: Any,
    begin: int,
    end: int,
    column: Any,
    low: Any,
    span: Any,
    kept: Any,
    words: Any,
    sets: Any,
    mask: Any,
) -> None:
    """Strike out the leaves of one group that each row cannot reach, by the tests from ``begin`` to ``end``.

    A row goes left at a test iff ``(code - low) mod 2**16 <= span``: from 0, an interval takes missing values
    along, from 1 it does not, and one category is an interval of length one. Where ``words`` is not negative,
    it goes left iff its code's bit is set in ``sets``, from that word on. Who goes right keeps ``kept``.
    """
    every = np.uint16(0xFFFF)
    for r in range(BLOCK):
        mask[r] = every
    for k in range(begin, end):
        code, low_k, span_k, kept_k, word = codes[column[k]], low[k], span[k], kept[k], words[k]
        if word < 0:
            for r in range(BLOCK):
                mask[r] &= kept_k if np.uint16(code[r] - low_k) > span_k else every
        else:
            for r in range(BLOCK):
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
    total: Any,
) -> None:
    """Add the leaf value of every tree to ``total`` (rows), tree after tree.

    The leftmost leaf that no test strikes out is the one that is reached (Lucchese et al. (2015), QuickScorer,
    SIGIR): nothing branches, and 16 rows are compared at once. ``tree_groups``: first group of each tree;
    ``group_tests``: first test of each group; ``leaf_value``: GROUP values per group, in the order of
    :data:`PLACE_OF_BIT`.
    """
    mask, place = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    for block in range(codes.shape[0]):
        own = total[block * BLOCK : (block + 1) * BLOCK]
        for tree in range(len(tree_groups) - 1):
            first, end = tree_groups[tree], tree_groups[tree + 1]
            for group in range(end - 1, first - 1, -1):
                begin, stop = group_tests[group], group_tests[group + 1]
                strike_out(codes[block], begin, stop, column, low, span, kept, words, sets, mask)
                before = np.uint16((group - first) * GROUP)
                last = group == end - 1
                for r in range(BLOCK):
                    lowest = mask[r] & np.uint16(-np.int64(mask[r]))
                    here = before + (np.uint16(lowest * _SPREAD) >> _SHIFT)
                    place[r] = here if last or mask[r] != 0 else place[r]
            values = leaf_value[first * GROUP : end * GROUP]
            for r in range(len(own)):
                own[r] += values[place[r]]
