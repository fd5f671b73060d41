"""Trees as a linear program for the SHAP kernel: what to do at each node and edge, and the numbers it takes.

A tree is walked once for a block of rows, depth first; both children of every node are visited, as a feature's
contribution depends on the leaves that a row does not reach, too. What differs between rows is only which of
three numbers an edge multiplies with, so the program is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .tree_paths import Tree

Floats = npt.NDArray[np.float64]

DECIDE, LEAF, DOWN, UP = 0, 1, 2, 3
"""Steps: take a node's decision; add a leaf; go down an edge; come back up with what its subtree adds up to."""

STEP, LEVEL, SIDE, NUMBERS, BEFORE, COLUMN, KIND, DEFAULT, PLACE = range(9)
"""Fields of a step.

``LEVEL``: how deep its node is; ``SIDE``: 0 left, 1 right; ``NUMBERS``: where the edge's numbers begin;
``BEFORE``: the level at which the path's last edge on the same feature arrived (0: there is none); ``COLUMN``:
position among the used features; ``KIND``: of a decision, LightGBM's missing type or CATEGORY; ``DEFAULT``:
whether missing goes left; ``PLACE``: where the threshold stands.
"""

CATEGORY = 3
PER_NODE = 5
"""Numbers of an edge at each quadrature node: three factors on the way down, two weights on the way up."""

_CATEGORICAL_BIT, _DEFAULT_LEFT_BIT = 1, 2


@dataclass(frozen=True)
class TreeProgram:
    """All trees of a model.

    ``steps``: int64, one row of fields each, ``tree_starts[i]`` the first of tree i; ``numbers``: see
    :func:`_edge_numbers`; ``n_nodes``: quadrature nodes of each tree; ``thresholds``: of decisions, for
    categories the slot in ``category_bounds`` (CSR into the words of ``category_bits``); ``used``: the features
    that occur, ascending; ``n_levels``: most edges on a path.
    """

    steps: npt.NDArray[np.int64]
    tree_starts: npt.NDArray[np.int64]
    numbers: Floats
    n_nodes: npt.NDArray[np.int64]
    thresholds: Floats
    category_bounds: npt.NDArray[np.int64]
    category_bits: npt.NDArray[np.uint32]
    used: npt.NDArray[np.int64]
    n_levels: int
    bias: float


@dataclass
class _Writer:
    position: dict[int, int]
    steps: list[tuple[int, ...]] = field(default_factory=list)
    numbers: list[Floats] = field(default_factory=list)
    n_numbers: int = 0
    thresholds: list[float] = field(default_factory=list)
    n_levels: int = 0

    def add_tree(self, tree: Tree, slots_before: int) -> int:
        """Write the steps of a tree; returns how many quadrature nodes make it exact."""
        n_nodes = max(1, (_most_features(tree) + 1) // 2)
        if len(tree.feature):
            nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
            self._add_node(tree, 0, 0, {}, ((nodes + 1) / 2, weights / 2), slots_before)
        return n_nodes

    def _add_node(
        self,
        tree: Tree,
        node: int,
        level: int,
        path: dict[int, tuple[int, float]],
        quadrature: tuple[Floats, Floats],
        slots_before: int,
    ) -> None:
        """``path``: of each feature above, the level its last edge arrived at and the product of cover ratios."""
        self.n_levels = max(self.n_levels, level + 1)
        feature, decision = int(tree.feature[node]), int(tree.decision[node])
        is_category = decision & _CATEGORICAL_BIT
        before, ratio_before = path.get(feature, (0, 1.0))
        column = self.position[feature]
        kind = CATEGORY if is_category else (decision >> 2) & 3
        default = int(bool(decision & _DEFAULT_LEFT_BIT))
        self.steps.append((DECIDE, level, 0, 0, before, column, kind, default, len(self.thresholds)))
        self.thresholds.append(float(tree.threshold[node]) + (slots_before if is_category else 0))
        for side, child in enumerate((int(tree.left[node]), int(tree.right[node]))):
            count = tree.leaf_count[~child] if child < 0 else tree.node_count[child]
            share = float(count / tree.node_count[node])
            value = float(tree.leaf_value[~child]) if child < 0 else 1.0
            block = _edge_numbers(quadrature, share, ratio_before, value)
            fields = (level, side, self.n_numbers, before, column, 0, 0, 0)
            self.numbers.append(block)
            self.n_numbers += len(block)
            if child < 0:
                self.steps.append((LEAF, *fields))
                continue
            self.steps.append((DOWN, *fields))
            below = {**path, feature: (level + 1, ratio_before * share)}
            self._add_node(tree, child, level + 1, below, quadrature, slots_before)
            self.steps.append((UP, *fields))


def write_program(trees: Sequence[Tree]) -> TreeProgram:
    """The program of a model's trees, in their order."""
    used = np.unique(np.concatenate([tree.feature for tree in trees] or [np.zeros(0, np.int64)]))
    writer = _Writer({int(feature): position for position, feature in enumerate(used)})
    starts, n_nodes, bounds, bits, n_slots, n_words = [0], [], [np.zeros(1, np.int64)], [], 0, 0
    for tree in trees:
        n_nodes.append(writer.add_tree(tree, n_slots))
        starts.append(len(writer.steps))
        if len(tree.category_bounds) > 1:
            bounds.append(tree.category_bounds[1:] + n_words)
            bits.append(tree.category_bits)
            n_slots += len(tree.category_bounds) - 1
            n_words += len(tree.category_bits)
    return TreeProgram(
        steps=np.array(writer.steps, dtype=np.int64).reshape(-1, PLACE + 1),
        tree_starts=np.array(starts, dtype=np.int64),
        numbers=np.concatenate([*writer.numbers, np.zeros(0)]),
        n_nodes=np.array(n_nodes, dtype=np.int64),
        thresholds=np.array(writer.thresholds, dtype=np.float64),
        category_bounds=np.concatenate(bounds).astype(np.int64),
        category_bits=np.concatenate([*bits, np.zeros(0, np.uint32)]).astype(np.uint32),
        used=used.astype(np.int64),
        n_levels=writer.n_levels,
        bias=float(sum(tree.expected_value for tree in trees)),
    )


def _edge_numbers(quadrature: tuple[Floats, Floats], share: float, before: float, value: float) -> Floats:
    """The numbers of an edge, five at each quadrature node t of weight w.

    Let r be the product of the cover ratios of all tests of the edge's feature down to it, ``before`` the product
    without the edge (``share``), f(o, r) = o t + r (1 - t), and c(o, r) = w (o - r) / f(o, r). A row that
    satisfies the earlier tests multiplies with f(1, r) / f(1, before) if it satisfies the edge's, too, else with
    f(0, r) / f(1, before); a row that does not, with ``share``. No divisor is ever 0. On the way up the feature
    gains c(1, r) or c(0, r), less the c(1, before) that the earlier edge counts for the same leaves.
    Factors of an edge to a leaf hold its ``value``.
    """
    t, w = quadrature
    r = before * share
    met, unmet, met_before = t + r * (1 - t), r * (1 - t), t + before * (1 - t)
    counted = w * (1 - before) / met_before
    numbers = np.empty((len(t), PER_NODE))
    numbers[:, 0] = met / met_before * value
    numbers[:, 1] = unmet / met_before * value
    numbers[:, 2] = share * value
    numbers[:, 3] = w * (1 - r) / met - counted
    numbers[:, 4] = -w / (1 - t) - counted
    return numbers.ravel()


def _most_features(tree: Tree) -> int:
    """Most distinct features on a path of the tree."""
    most = 0
    stack: list[tuple[int, frozenset[int]]] = [(0, frozenset())] if len(tree.feature) else []
    while stack:
        node, above = stack.pop()
        known = above | {int(tree.feature[node])}
        most = max(most, len(known))
        stack += [(int(c), known) for c in (tree.left[node], tree.right[node]) if c >= 0]
    return most
