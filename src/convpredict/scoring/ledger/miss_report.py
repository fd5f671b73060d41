"""The worst misses with their reasons of the time, and the concepts that misled, for people and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...config.reasons import ReasonsConfig
from ...config.training import LabelsConfig
from ...errors import ConvpredictError
from ...history.history import History
from ...models.bundle import Bundle
from ...training.lead_times import to_instant, to_microseconds
from .expectations import concept_table
from .explanation import check_bundle
from .index import LedgerRun
from .mis_scored import Chosen, Misses, converted_after, log_loss
from .reproduce import observations_of, reproduce

Side = Literal["cold_bought", "hot_did_not"]
COLD: Side = "cold_bought"
HOT: Side = "hot_did_not"


@dataclass(frozen=True)
class MissReport:
    """``rows``: one per lead, worst first, those who bought though cold before the others; see :func:`report_misses`.

    ``concepts`` by side: see :func:`.mis_scored.concept_table`. ``left_out``: nights that were not judged, by reason.
    ``unread``: versions of models that could not be read any more, so that their misses have no reasons.
    """

    misses: Misses = field(repr=False)
    rows: tuple[dict[str, Any], ...]
    concepts: dict[Side, list[dict[str, Any]]]
    left_out: dict[str, int]
    unread: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        runs = self.misses.runs
        return {
            "horizon": str(self.misses.horizon),
            "nights": len(runs),
            "first_night": runs[0].cutoff.isoformat() if runs else None,
            "last_night": runs[-1].cutoff.isoformat() if runs else None,
            "left_out": self.left_out,
            "leads": self.misses.leads,
            "scores": self.misses.scores,
            "unknown": self.misses.unknown,
            "expected": {
                COLD: vars(self.misses.buyers_among_cold)
                | {"verdict": self.misses.buyers_among_cold.verdict},
                HOT: vars(self.misses.others_among_hot) | {"verdict": self.misses.others_among_hot.verdict},
            },
            "misses": [{**row, "cutoff": row["cutoff"].isoformat()} for row in self.rows],
            "concepts": self.concepts,
            "unread_models": list(self.unread),
        }

    def to_table(self) -> pa.Table:
        """The rows with the reasons as text, for a CSV file."""
        listed = ("reasons_for", "reasons_against")
        flat = [{**row, **{name: " | ".join(row[name] or ()) for name in listed}} for row in self.rows]
        return pa.Table.from_pylist(flat, schema=ROW_SCHEMA)


ROW_SCHEMA = pa.schema(
    [
        ("miss", pa.string()),
        ("lead_id", pa.string()),
        ("run_id", pa.string()),
        ("cutoff", pa.timestamp("us", tz="UTC")),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("p", pa.float64()),
        ("rank", pa.int64()),
        ("leads", pa.int64()),
        ("log_loss", pa.float64()),
        ("converted_after_days", pa.float64()),
        ("value", pa.float64()),
        ("reproduced", pa.bool_()),
        ("reasons_for", pa.string()),
        ("reasons_against", pa.string()),
    ]
)


def report_misses(
    history: History,
    misses: Misses,
    bundle_of: Callable[[LedgerRun], Bundle],
    reasons: ReasonsConfig,
    labels: LabelsConfig,
    left_out: dict[str, int],
) -> MissReport:
    """Reproduce the misses with the models of their nights and tell their reasons, and which concepts misled.

    Columns of ``rows``: miss (``cold_bought`` or ``hot_did_not``), lead_id, run_id, cutoff, model_version,
    model_digest, p, rank, leads (of that night), log_loss, converted_after_days (None: never so far; of a hot lead it
    is beyond the horizon), value (what a buyer brought within the value horizon, as far as known; of a hot lead what
    was expected of it; None where no revenue is declared), reproduced (the reasons are those of that night, to the
    bit), reasons_for and reasons_against (None where the model cannot be read any more).
    """
    parts = {COLD: misses.cold, HOT: misses.hot}
    compared = {COLD: misses.cold_right, HOT: misses.hot_right}
    explained = _Explained(history, misses, bundle_of)
    rows: list[dict[str, Any]] = []
    concepts: dict[Side, list[dict[str, Any]]] = {}
    for side, chosen in parts.items():
        told = explained.tell(chosen, reasons)
        is_cold = side == COLD
        values = (
            revenue_of(history, chosen, misses.instants(chosen), labels) if is_cold else chosen.expected_value
        )
        rows += _rows(history, misses, chosen, side, told, values, labels)
        wrong, right = explained.contributions(chosen), explained.contributions(compared[side])
        names = list(dict.fromkeys((*wrong, *right)))
        concepts[side] = concept_table(
            names,
            _stacked(wrong, names, explained.known(chosen)),
            _stacked(right, names, explained.known(compared[side])),
            spoke_for=side == HOT,
            strongest=reasons.top,
        )
    return MissReport(misses, tuple(rows), concepts, left_out, tuple(sorted(explained.unread)))


class _Explained:
    """Reproduces scores model by model, each model read once."""

    def __init__(self, history: History, misses: Misses, bundle_of: Callable[[LedgerRun], Bundle]) -> None:
        self._history, self._misses, self._bundle_of = history, misses, bundle_of
        self._bundles: dict[str, Bundle | None] = {}
        self.unread: set[str] = set()

    def tell(self, chosen: Chosen, reasons: ReasonsConfig) -> list[dict[str, Any]]:
        """For each entry whether it was reproduced, and its reasons."""
        told: list[dict[str, Any]] = [
            {"reproduced": None, "reasons_for": None, "reasons_against": None} for _ in range(len(chosen))
        ]
        for rows, bundle in self._by_model(chosen):
            part = chosen.take(rows)
            found = reproduce(self._history, bundle, self._observed(part), reasons)
            if found.reasons is None:
                continue
            same = found.features_hash == part.features_hash
            for row, is_same, entry in zip(rows, same, found.reasons.to_pylist(), strict=True):
                told[row] = {
                    "reproduced": bool(is_same),
                    "reasons_for": entry["reasons_for"],
                    "reasons_against": entry["reasons_against"],
                }
        return told

    def contributions(self, chosen: Chosen) -> dict[str, npt.NDArray[np.float64]]:
        """The contributions of every concept to the entries that can be reproduced, by concept."""
        found: dict[str, npt.NDArray[np.float64]] = {}
        place = np.cumsum(self.known(chosen)) - 1
        total = int(self.known(chosen).sum())
        for rows, bundle in self._by_model(chosen):
            concepts = reproduce(self._history, bundle, self._observed(chosen.take(rows))).concepts
            for i, name in enumerate(concepts.names):
                found.setdefault(name, np.zeros(total))[place[rows]] = concepts.values[:, i]
        return found

    def known(self, chosen: Chosen) -> npt.NDArray[np.bool_]:
        """Which entries have a model that can be read."""
        known = np.zeros(len(chosen), np.bool_)
        for rows, _ in self._by_model(chosen):
            known[rows] = True
        return known

    def _by_model(self, chosen: Chosen) -> list[tuple[npt.NDArray[np.intp], Bundle]]:
        """The entries of each model, sorted as observations are."""
        digests = np.array([run.model.digest for run in self._misses.runs], dtype=object)
        instants = self._misses.instants(chosen)
        groups = []
        for digest in sorted(set(digests[chosen.run]) if len(chosen) else set()):
            rows = np.flatnonzero(digests[chosen.run] == digest)
            rows = rows[np.lexsort((instants[rows], chosen.lead_row[rows]))]
            bundle = self._read(self._misses.runs[int(chosen.run[rows[0]])])
            if bundle is not None:
                groups.append((rows, bundle))
        return groups

    def _read(self, run: LedgerRun) -> Bundle | None:
        digest = run.model.digest
        if digest not in self._bundles:
            try:
                bundle = self._bundle_of(run)
                check_bundle(run, bundle)
                self._bundles[digest] = bundle
            except ConvpredictError:
                self._bundles[digest] = None
                self.unread.add(f"{run.model.name} {run.model.version or digest[:12]}")
        return self._bundles[digest]

    def _observed(self, chosen: Chosen) -> pa.Table:
        return observations_of(self._history, chosen.lead_row, self._misses.instants(chosen))


def _rows(
    history: History,
    misses: Misses,
    chosen: Chosen,
    side: Side,
    told: list[dict[str, Any]],
    values: npt.NDArray[np.float64],
    labels: LabelsConfig,
) -> list[dict[str, Any]]:
    instants = misses.instants(chosen)
    loss = log_loss(chosen, side == COLD)
    later = converted_after(history, chosen, instants, labels.outcome)
    ids = history.leads["lead_id"].take(pa.array(chosen.lead_row)).to_pylist()
    rows = []
    for i in range(len(chosen)):
        run = misses.runs[int(chosen.run[i])]
        rows.append(
            {
                "miss": side,
                "lead_id": str(ids[i]),
                "run_id": run.run_id,
                "cutoff": to_instant(int(instants[i])),
                "model_version": run.model.version,
                "model_digest": run.model.digest,
                "p": float(chosen.p[i]),
                "rank": int(chosen.rank[i]),
                "leads": run.rows + run.erased,
                "log_loss": float(loss[i]),
                "converted_after_days": None if np.isnan(later[i]) else float(later[i]),
                "value": None if np.isnan(values[i]) else float(values[i]),
                **told[i],
            }
        )
    return rows


def revenue_of(
    history: History, chosen: Chosen, instants: npt.NDArray[np.int64], labels: LabelsConfig
) -> npt.NDArray[np.float64]:
    """Revenue within the value horizon of each entry, as far as it is known; NaN where none is declared."""
    from ...training.revenue_outcomes import revenue_columns

    if labels.value_horizon is None or not history.revenue.num_rows or not len(chosen):
        return np.full(len(chosen), np.nan)
    known_by = np.full(len(chosen), to_microseconds(history.known_until))
    found = revenue_columns(history, chosen.lead_row.astype(np.int32), instants, known_by, labels)
    return np.asarray(found["revenue"], np.float64)


def value_weight(
    history: History, runs: Sequence[LedgerRun], labels: LabelsConfig
) -> Callable[[Chosen, bool], npt.NDArray[np.float64]]:
    """Ranks misses by money: what buyers brought that the score did not foresee, ``(1 - p) x revenue``; of the others
    what was expected of them in vain."""
    cutoffs = np.array([to_microseconds(run.cutoff) for run in runs], np.int64)

    def weigh(chosen: Chosen, bought: bool) -> npt.NDArray[np.float64]:
        if not bought:
            return chosen.expected_value
        return (1 - chosen.p) * revenue_of(history, chosen, cutoffs[chosen.run], labels)

    return weigh


def _stacked(
    columns: dict[str, npt.NDArray[np.float64]], names: list[str], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    rows = int(known.sum())
    values = [columns.get(name, np.zeros(rows)) for name in names]
    return np.column_stack(values) if values else np.zeros((rows, 0))
