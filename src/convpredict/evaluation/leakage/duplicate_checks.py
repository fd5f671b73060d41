"""The same person twice, under two ids, on both sides of the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.history.history import History

from .attribute_checks import Setting
from .columns import Column
from .findings import Finding
from .statistics import associate, critical_value
from .view import LeadView

DUPLICATES_SEVERE = 10.0
DUPLICATES_LEAST_SHARE = 0.01
_LARGEST_GROUP = 4
_LEAST_PAIRS = 20

_REASON = "A model that has seen one of the two recognises the other: the test part then measures memory."
_REMEDY = (
    "Merge them: declare the table 'aliases' (lead_id, canonical_id), or remove the copies from the export."
)


def check_duplicates(
    signatures: dict[str, NDArray[np.int64]],
    setting: Setting,
    learnt: NDArray[np.bool_],
    judged: NDArray[np.bool_],
) -> Iterator[Finding]:
    """Whether leads that look the same (equal signature, below 0: none) share their outcome across the split.

    Rare coincidences (groups of up to four) count; leads that merely resemble each other hardly agree more
    than chance, copies always do. ``learnt`` and ``judged`` mark the leads of the two sides.
    """
    z = critical_value(len(signatures))
    for name, signature in signatures.items():
        pairs = _pairs(signature, learnt | judged)
        across = learnt[pairs[:, 0]] & judged[pairs[:, 1]] | judged[pairs[:, 0]] & learnt[pairs[:, 1]]
        if int(across.sum()) < max(_LEAST_PAIRS, DUPLICATES_LEAST_SHARE * int(judged.sum())):
            continue
        first, second = setting.view.outcome[pairs[:, 0]], setting.view.outcome[pairs[:, 1]]
        agreement = associate(first, second, np.zeros(len(pairs), np.intp), z)
        if agreement.low < DUPLICATES_SEVERE:
            continue
        share = int(across.sum()) / max(int(judged.sum()), 1)
        yield Finding(
            "duplicates",
            (name,),
            "severe",
            f"{int(across.sum()):,} pairs of leads with the same {name} lie on both sides of the split ({share:.1%} of "
            f"the leads of the test part); the outcome agrees for {(first == second).mean():.1%} of all such pairs "
            f"(odds ratio {agreement.odds_ratio:.3g}, at least {agreement.low:.3g}).",
            _REASON,
            _REMEDY,
            {
                "pairs": len(pairs),
                "pairs_across": int(across.sum()),
                "agreement": float((first == second).mean()),
                "odds_ratio": agreement.odds_ratio,
            },
        )
        return


def _pairs(signature: NDArray[np.int64], used: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Neighbours of equal signature in small groups, shape (pairs, 2)."""
    _, code, size = np.unique(signature, return_inverse=True, return_counts=True)
    lead = np.flatnonzero((signature >= 0) & (size[code] > 1) & (size[code] <= _LARGEST_GROUP) & used)
    ordered = lead[np.argsort(code[lead], kind="stable")]
    same = code[ordered[:-1]] == code[ordered[1:]]
    return np.column_stack([ordered[:-1][same], ordered[1:][same]])


def attribute_signature(columns: Sequence[Column]) -> NDArray[np.int64]:
    """A number that leads with equal values in all columns share; -1 where fewer than three are filled."""
    filled = np.sum([column.filled for column in columns], axis=0)
    frame = pd.DataFrame(
        {
            str(place): column.codes if column.kind == "category" else column.numbers
            for place, column in enumerate(columns)
        }
    )
    signature = frame.groupby(list(frame), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    return np.where(filled >= 3, signature, -1)


def event_signature(history: History, view: LeadView) -> NDArray[np.int64]:
    """A number that leads share whose interactions have the same kinds at the same distances in time.

    -1 for leads with fewer than three interactions, or with all of them at one instant.
    """
    place = np.full(history.n_leads, -1, np.intp)
    place[view.lead_row] = np.arange(len(view))
    table = history.query(
        "WITH own AS (SELECT lead_row, kind, occurred_at - min(occurred_at) OVER (PARTITION BY lead_row) AS since "
        "FROM interactions) "
        "SELECT lead_row, md5(string_agg(since::VARCHAR || coalesce(kind, ''), ',' ORDER BY since, kind)) AS mark "
        "FROM own GROUP BY lead_row HAVING count(*) >= 3 AND max(since) > 0 ORDER BY lead_row"
    )
    row = place[table["lead_row"].to_numpy()]
    codes = pd.factorize(table["mark"].to_pandas())[0]
    signature = np.full(len(view), -1, np.int64)
    signature[row[row >= 0]] = codes[row >= 0]
    return signature
