"""Is a LightGBM text model sound? Its own reader trusts the indices in the file; a broken one could crash it."""

from __future__ import annotations

import numpy as np

from convpredict.errors import BundleError

from .tree_paths import END, Tree, parse_trees

_HEADER = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1"}
BINARY = "binary sigmoid:1"
_DECISIONS = 12
"""Decisions are two bits and one of three kinds of missing values above them; a fourth kind is none."""


def check_trees(text: str, n_features: int, *, name: str, objective: str = BINARY) -> int:
    """Check that a text is a LightGBM model of the objective whose trees are trees over ``n_features`` columns.

    Every node must be reached exactly once, every index must point inside its array and every number must be
    finite. Returns the number of trees; raises BundleError.
    """
    head, _, rest = text.partition("\n\nTree=0\n")
    body, end, _ = rest.partition(END)
    header = dict(line.split("=", 1) for line in head.split("\n")[1:] if "=" in line)
    expected = {**_HEADER, "objective": objective, "max_feature_idx": str(n_features - 1)}
    wrong = [key for key, value in expected.items() if header.get(key) != value]
    if not text.startswith("tree\n") or not end or wrong:
        found = ", ".join(f"{key} = {header.get(key)!r} instead of {expected[key]!r}" for key in wrong)
        raise _damaged(
            name, f"it is not a whole LightGBM model of {n_features} columns ({found or 'cut off'})"
        )
    try:
        trees = parse_trees(head + "\n\nTree=0\n" + body)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise _damaged(name, f"a tree cannot be read ({error})") from None
    if not _sizes_hold(text, header.get("tree_sizes", "").split(), len(trees)):
        raise _damaged(name, "its trees do not begin where its header says")
    for number, tree in enumerate(trees):
        problem = _problem(tree, n_features)
        if problem:
            raise _damaged(name, f"tree {number} {problem}")
    return len(trees)


def _problem(tree: Tree, n_features: int) -> str | None:
    nodes, leaves = len(tree.feature), len(tree.leaf_value)
    same = (tree.threshold, tree.decision, tree.left, tree.right)
    if leaves != nodes + 1 or any(len(array) != nodes for array in same):
        return f"has {nodes} nodes and {leaves} leaves, which is no binary tree"
    if nodes and (tree.feature.min() < 0 or tree.feature.max() >= n_features):
        return f"reads a column that is not among the {n_features}"
    if nodes and not bool(np.all((tree.decision >= 0) & (tree.decision < _DECISIONS))):
        return "takes a decision of no known kind"
    if len(tree.node_count) != nodes or len(tree.leaf_count) != leaves:
        return "does not count the rows of each of its nodes and leaves"
    if not (np.isfinite(tree.node_count).all() and np.isfinite(tree.leaf_count).all()):
        return "holds a number that is not finite"
    if (tree.node_count <= 0).any() or (tree.leaf_count < 0).any():
        return "counts rows that cannot be"
    if not (np.isfinite(tree.leaf_value).all() and not np.isnan(tree.threshold).any()):
        return "holds a number that is not finite"
    children = np.sort(np.concatenate([tree.left, tree.right]))
    if not np.array_equal(children, np.concatenate([np.arange(-leaves, 0), np.arange(1, nodes)])) and nodes:
        return "does not reach each of its nodes and leaves once"
    if nodes and not _parents_come_first(tree):
        return "has a node above its own parent, so walking down it would never end"
    slots = tree.threshold[tree.decision & 1 == 1]
    bounds = tree.category_bounds
    if len(slots) and not (
        len(bounds) >= 2
        and bounds[0] == 0
        and np.all(np.diff(bounds) > 0)
        and bounds[-1] == len(tree.category_bits)
        and np.all((slots >= 0) & (slots < len(bounds) - 1) & (slots == np.floor(slots)))
    ):
        return "has a split by category whose categories are missing"
    return None


def _sizes_hold(text: str, sizes: list[str], n_trees: int) -> bool:
    if len(sizes) != n_trees or not all(size.isdecimal() for size in sizes):
        return False
    begin = text.index("\nTree=0\n") + 1
    for number, size in enumerate(sizes):
        if not text.startswith(f"Tree={number}\n", begin):
            return False
        begin += int(size)
    return text.startswith("end of trees\n", begin)


def _parents_come_first(tree: Tree) -> bool:
    node = np.arange(len(tree.feature))
    return all(bool(np.all((child < 0) | (child > node))) for child in (tree.left, tree.right))


def _damaged(name: str, what: str) -> BundleError:
    return BundleError(f"{name}: {what}; the file was altered or cut off: copy or export the bundle anew")
