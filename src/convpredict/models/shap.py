"""Exact path-dependent TreeSHAP for LightGBM, fast enough for every lead of a night.

For one leaf with value v whose path tests d distinct features, let o_k in {0, 1} say whether the row
satisfies all tests of feature k on the path, and r_k be the product of the cover ratios of those tests.
Shapley's weights are the integral

    phi_k += v (o_k - r_k) * integral_0^1 prod_{j != k} (o_j t + r_j (1 - t)) dt

whose integrand is a polynomial of degree d - 1 in t, so ceil(d / 2) Gauss-Legendre nodes integrate it
exactly. At a fixed t the product over a path grows edge by edge, and dividing it by feature k's own factor is the
same for all leaves below an edge: so one walk down and up a tree, with one number per quadrature node, does for
all of its leaves and features. A tree of at most 7 leaves has at most 64 different answers, which are walked once
and looked up. Rows go through in blocks that the processor's vectors work on.

Every row is computed by itself, tree after tree: its contributions depend neither on the rows around it nor on
the number of threads, to the bit.

Sources: the value function is that of Lundberg et al., "Consistent individualized feature attribution for tree
ensembles", 2018; that a polynomial can be carried along the paths is from Yu et al., "Linear TreeShap", 2022.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from convpredict.engines.local import worker_count

from .tree_paths import parse_trees
from .tree_program import (
    BEFORE,
    CATEGORY,
    COLUMN,
    DECIDE,
    DEFAULT,
    KIND,
    LEAF,
    LEVEL,
    NUMBERS,
    PER_NODE,
    PLACE,
    SIDE,
    STEP,
    UP,
    TreeProgram,
    write_program,
)

Floats = npt.NDArray[np.float64]

LANES = 64
"""Rows of a block. The last block is filled up, so that every row takes the same way through the kernel."""

_BLOCKS_AT_ONCE = 4
_TABLE_DECISIONS = 6
"""A tree of so many decisions, 7 leaves, has 64 different answers at most: as many as a block has rows."""

_BIT = 4
_STEP_NS, _TABLE_NS, _THREADS_FROM_NS = 0.35, 20.0, 5e6
"""About what a step of a walk costs a row for each quadrature node, and a table; work that threads are worth."""

_ZERO = 1e-35
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2


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
        self.program: TreeProgram = write_program(parse_trees(text))
        self.n_features = n_features
        self._tables = _tabulate(self.program)
        is_walked = np.diff(self._tables.starts) == 0
        walked = int((np.diff(self.program.tree_starts) * self.program.n_nodes)[is_walked].sum())
        self._row_ns = _STEP_NS * walked + _TABLE_NS * int((~is_walked).sum())

    @property
    def bias(self) -> float:
        """Expected raw score: what a row's contributions start from."""
        return self.program.bias

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
        matrix = np.asarray(rows)
        if matrix.ndim != 2 or matrix.shape[1] != self.n_features:
            raise ValueError(f"rows must have shape (rows, {self.n_features}); got {matrix.shape}.")
        result = np.zeros(matrix.shape)
        workers = worker_count(n_jobs) if len(matrix) * self._row_ns > _THREADS_FROM_NS else 1
        n_blocks = -(-len(matrix) // LANES)
        step = LANES * max(1, min(_BLOCKS_AT_ONCE, -(-n_blocks // workers)))
        parts = [slice(start, start + step) for start in range(0, len(matrix), step)]
        if workers == 1 or len(parts) <= 1:
            for part in parts:
                self._explain_part(matrix[part], result[part])
        else:
            with ThreadPoolExecutor(max_workers=min(workers, len(parts))) as pool:
                list(pool.map(lambda part: self._explain_part(matrix[part], result[part]), parts))
        return result

    def _explain_part(self, rows: npt.NDArray[Any], out: Floats) -> None:
        program = self.program
        n_rows, n_used = len(rows), len(program.used)
        n_blocks = -(-n_rows // LANES)
        filled = np.zeros((n_blocks * LANES, n_used))
        filled[:n_rows] = rows[:, program.used]
        blocks = np.ascontiguousarray(filled.reshape(n_blocks, LANES, n_used).transpose(0, 2, 1))
        contributions = np.zeros_like(blocks)
        _run(
            program, program.steps, program.tree_starts, program.n_nodes, self._tables, blocks, contributions
        )
        out[:, program.used] = contributions.transpose(0, 2, 1).reshape(n_blocks * LANES, n_used)[:n_rows]


@dataclass(frozen=True)
class _Tables:
    """Answers of small trees: ``starts`` (CSR by tree), and per entry a used feature and its 64 contributions."""

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    answers: Floats


def _tabulate(program: TreeProgram) -> _Tables:
    """Put every pattern of decisions through the walk once, for trees that have few of them."""
    n_trees, n_used = len(program.n_nodes), len(program.used)
    patterns = np.zeros((1, n_used + 1, LANES))
    patterns[0, n_used] = np.arange(LANES)
    starts, columns, answers = [0], [np.zeros(0, np.int64)], [np.zeros((0, LANES))]
    none = _Tables(np.zeros(2, np.int64), columns[0], answers[0])
    for tree in range(n_trees):
        steps = program.steps[program.tree_starts[tree] : program.tree_starts[tree + 1]].copy()
        decisions = np.flatnonzero(steps[:, STEP] == DECIDE)
        if len(decisions) <= _TABLE_DECISIONS:
            used = np.unique(steps[:, COLUMN])
            steps[decisions, KIND], steps[decisions, COLUMN] = _BIT, n_used
            steps[decisions, PLACE] = np.arange(len(decisions))
            found = np.zeros_like(patterns)
            ends = np.array([0, len(steps)])
            _run(program, steps, ends, program.n_nodes[tree : tree + 1], none, patterns, found)
            columns.append(used)
            answers.append(found[0, used])
        starts.append(starts[-1] + (len(columns[-1]) if len(decisions) <= _TABLE_DECISIONS else 0))
    return _Tables(np.array(starts), np.concatenate(columns), np.concatenate(answers))


def _run(
    program: TreeProgram,
    steps: npt.NDArray[np.int64],
    tree_starts: npt.NDArray[np.int64],
    n_nodes: npt.NDArray[np.int64],
    tables: _Tables,
    blocks: Floats,
    contributions: Floats,
) -> None:
    most_nodes = int(program.n_nodes.max(initial=1))
    _explain_blocks(
        steps,
        tree_starts,
        program.numbers,
        n_nodes,
        program.thresholds,
        program.category_bounds,
        program.category_bits,
        tables.starts,
        tables.columns,
        tables.answers,
        blocks,
        contributions,
        np.ones((program.n_levels + 1, most_nodes, LANES)),
        np.zeros((program.n_levels + 1, most_nodes, LANES)),
        np.ones((program.n_levels + 1, LANES)),
        np.zeros((program.n_levels + 1, LANES)),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _explain_blocks(
    steps: Any,
    tree_starts: Any,
    numbers: Any,
    n_nodes: Any,
    thresholds: Any,
    category_bounds: Any,
    category_bits: Any,
    table_starts: Any,
    table_columns: Any,
    answers: Any,
    blocks: Any,
    contributions: Any,
    products: Any,
    sums: Any,
    met: Any,
    left: Any,
) -> None:
    """Trees one after another over all blocks (axes: block, used feature, row).

    Work space by level: ``products`` of the factors down to it and ``sums`` over the leaves below it (axes:
    level, quadrature node, row), whether a row has ``met`` all tests of the feature whose edge led to it (level
    0: always), and whether it goes ``left`` there (axes: level, row).
    """
    pattern = np.zeros(LANES)
    for tree in range(len(n_nodes)):
        nodes = n_nodes[tree]
        has_table = table_starts[tree + 1] > table_starts[tree]
        for block in range(len(blocks)):
            pattern[:] = 0.0
            weight = 1.0
            for place in range(tree_starts[tree], tree_starts[tree + 1]):
                step = steps[place]
                level, column = step[LEVEL], step[COLUMN]
                before = step[BEFORE]
                if step[STEP] == DECIDE:
                    _decide(
                        step, blocks[block, column], thresholds, category_bounds, category_bits, left[level]
                    )
                    if has_table:
                        _add_bit(left[level], weight, pattern)
                        weight *= 2.0
                    continue
                if has_table:
                    continue
                gained, here = contributions[block, column], met[level + 1]
                at, first = step[NUMBERS], before == 0
                if step[STEP] == UP:
                    _go_up(
                        numbers,
                        at,
                        nodes,
                        sums[level + 1],
                        sums[level],
                        here,
                        met[before],
                        step[SIDE],
                        gained,
                    )
                    continue
                _meet(left[level], step[SIDE], met[before], here)
                if step[STEP] == LEAF:
                    above, total = products[level], sums[level]
                    _add_leaf(numbers, at, nodes, above, total, here, met[before], first, step[SIDE], gained)
                else:
                    above, below = products[level], products[level + 1]
                    _go_down(numbers, at, nodes, above, below, here, met[before], first)
            for entry in range(table_starts[tree], table_starts[tree + 1]):
                _look_up(answers[entry], pattern, contributions[block, table_columns[entry]])


@njit(cache=True, nogil=True, error_model="numpy")
def _decide(
    step: Any, values: Any, thresholds: Any, category_bounds: Any, category_bits: Any, left: Any
) -> None:
    if step[KIND] == _BIT:
        for row in range(LANES):
            left[row] = float((int(values[row]) >> step[PLACE]) & 1)
    elif step[KIND] == CATEGORY:
        slot = int(thresholds[step[PLACE]])
        words = category_bits[category_bounds[slot] : category_bounds[slot + 1]]
        _decide_category(values, words, left)
    else:
        _decide_number(values, thresholds[step[PLACE]], step[KIND], step[DEFAULT] == 1, left)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_bit(left: Any, weight: float, pattern: Any) -> None:
    for row in range(LANES):
        pattern[row] += weight * left[row]


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(answers: Any, pattern: Any, gained: Any) -> None:
    for row in range(LANES):
        gained[row] += answers[int(pattern[row])]


@njit(cache=True, nogil=True, error_model="numpy")
def _decide_number(values: Any, threshold: float, missing: int, default: bool, left: Any) -> None:
    if missing == _MISSING_NAN:
        for row in range(LANES):
            x = values[row]
            left[row] = 1.0 if (x <= threshold) | ((x != x) & default) else 0.0
    elif missing == _MISSING_NONE:
        for row in range(LANES):
            x = values[row]
            left[row] = 1.0 if (x <= threshold) | ((x != x) & (threshold >= 0.0)) else 0.0
    else:
        for row in range(LANES):
            x = values[row]
            absent = (x != x) | (abs(x) <= _ZERO)
            left[row] = 1.0 if (absent & default) | ((x <= threshold) & (not absent)) else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _decide_category(values: Any, words: Any, left: Any) -> None:
    end = 32 * len(words)
    for row in range(LANES):
        left[row] = 0.0
        if -1.0 < values[row] < end:
            code = int(values[row])
            left[row] = float((words[code // 32] >> np.uint32(code % 32)) & np.uint32(1))


@njit(cache=True, nogil=True, error_model="numpy")
def _meet(left: Any, side: int, before: Any, here: Any) -> None:
    if side == 0:
        for row in range(LANES):
            here[row] = left[row] * before[row]
    else:
        for row in range(LANES):
            here[row] = (1.0 - left[row]) * before[row]


@njit(cache=True, nogil=True, error_model="numpy")
def _go_down(
    numbers: Any, start: int, n_nodes: int, above: Any, below: Any, here: Any, before: Any, first: bool
) -> None:
    for node in range(n_nodes):
        at = start + PER_NODE * node
        both, lost, never = numbers[at], numbers[at + 1], numbers[at + 2]
        source, target = above[node], below[node]
        if first:
            for row in range(LANES):
                target[row] = source[row] * (both if here[row] > 0.5 else lost)
        else:
            for row in range(LANES):
                factor = both if here[row] > 0.5 else (lost if before[row] > 0.5 else never)
                target[row] = source[row] * factor


@njit(cache=True, nogil=True, error_model="numpy")
def _add_leaf(
    numbers: Any,
    start: int,
    n_nodes: int,
    products: Any,
    sums: Any,
    here: Any,
    before: Any,
    first: bool,
    side: int,
    gained: Any,
) -> None:
    for node in range(n_nodes):
        at = start + PER_NODE * node
        both, lost, never = numbers[at], numbers[at + 1], numbers[at + 2]
        gain, loss = numbers[at + 3], numbers[at + 4]
        source, total = products[node], sums[node]
        if first and side == 0:
            for row in range(LANES):
                is_met = here[row] > 0.5
                leaf = source[row] * (both if is_met else lost)
                total[row] = leaf
                gained[row] += (gain if is_met else loss) * leaf
        elif first:
            for row in range(LANES):
                is_met = here[row] > 0.5
                leaf = source[row] * (both if is_met else lost)
                total[row] += leaf
                gained[row] += (gain if is_met else loss) * leaf
        else:
            keep = 0.0 if side == 0 else 1.0
            for row in range(LANES):
                is_met, was_met = here[row] > 0.5, before[row] > 0.5
                leaf = source[row] * (both if is_met else (lost if was_met else never))
                total[row] = keep * total[row] + leaf
                gained[row] += (gain if is_met else (loss if was_met else 0.0)) * leaf


@njit(cache=True, nogil=True, error_model="numpy")
def _go_up(
    numbers: Any,
    start: int,
    n_nodes: int,
    below: Any,
    sums: Any,
    here: Any,
    before: Any,
    side: int,
    gained: Any,
) -> None:
    for node in range(n_nodes):
        at = start + PER_NODE * node
        gain, loss = numbers[at + 3], numbers[at + 4]
        source, total = below[node], sums[node]
        if side == 0:
            for row in range(LANES):
                leaf = source[row]
                total[row] = leaf
                gained[row] += (gain if here[row] > 0.5 else (loss if before[row] > 0.5 else 0.0)) * leaf
        else:
            for row in range(LANES):
                leaf = source[row]
                total[row] += leaf
                gained[row] += (gain if here[row] > 0.5 else (loss if before[row] > 0.5 else 0.0)) * leaf
