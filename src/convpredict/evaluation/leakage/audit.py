"""The search for hindsight as a whole: over a history with its training set, or over a static table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from convpredict.config.load import Project
from convpredict.errors import DataError
from convpredict.history.history import History
from convpredict.training.training_set import TrainingSet

from .attribute_checks import Setting, check_attributes
from .columns import Column, column_of
from .duplicate_checks import attribute_signature, check_duplicates, event_signature
from .event_checks import check_events
from .feature_checks import check_collapse, check_features
from .findings import Finding, LeakageReport
from .order_checks import check_order, check_outcome_rates, check_row_order, id_numbers, is_an_id
from .restated_checks import check_dates, check_restated, ending_of
from .rewritten_checks import check_creation, check_gone
from .statistics import critical_value
from .view import LeadView

_CHECKS_A_COLUMN = 4
Progress = Callable[[float], None]


def audit_training_set(
    history: History, project: Project, training_set: TrainingSet, *, progress: Progress | None = None
) -> LeakageReport:
    """Look for hindsight in the attributes, ids, interactions and features that a model is to learn from.

    Only attributes that a feature of the model uses are looked at. Large histories are sampled by lead, the
    same leads at every run. Findings that ``leakage.waive`` names are marked as waived.

    ``progress`` is called with the share done. See ``docs/reference/leakage.md`` for each check.
    """
    report = progress or (lambda share: None)
    purchases = getattr(project.config.labels, "outcome", "conversion") == "purchase"
    view = LeadView.of_history(history, outcome=_bought(history, training_set) if purchases else None)
    columns = _lead_columns(history, training_set, view)
    setting = Setting(view, critical_value(_CHECKS_A_COLUMN * (len(columns) + 2)))
    found: list[Finding] = []
    if view.outcome.any() and not view.outcome.all():
        found += _over_leads(history, training_set, columns, setting, report, purchases=purchases)
    report(0.6)
    flagged = frozenset(name for finding in found if finding.severity == "severe" for name in finding.columns)
    found += check_features(training_set, flagged)
    report(0.8)
    if not purchases:
        found += check_collapse(history, training_set)
    report(1.0)
    examined = {
        "leads": len(view),
        "converted": int(view.outcome.sum()),
        "attributes": len(columns),
        "features": len(training_set.feature_set.model_names),
    }
    return LeakageReport.of(_settled(found), project.config.leakage.waive, examined)


def _over_leads(
    history: History,
    training_set: TrainingSet,
    columns: list[Column],
    setting: Setting,
    report: Progress,
    *,
    purchases: bool,
) -> Iterator[Finding]:
    view = setting.view
    yield from check_outcome_rates(columns, setting)
    yield from check_dates(columns, setting)
    ending = ending_of(history, view)
    if ending is not None:
        yield from check_restated(columns, ending, setting)
    report(0.2)
    yield from check_attributes(columns, setting)
    ids = id_numbers(history.leads["lead_id"].take(pa.array(view.lead_row)).to_pandas())
    if ids is not None and view.fine_stratum is not None:
        yield from check_order(ids, "lead_id", setting, view.fine_stratum)
    report(0.3)
    if not purchases:
        yield from check_creation(setting)
        yield from check_events(history, setting)
        yield from check_gone(history, setting)
    report(0.5)
    yield from _across_the_split(history, training_set, columns, setting)


def audit_table(
    X: pd.DataFrame,
    y: Any,
    *,
    waive: Mapping[str, str] | None = None,
) -> LeakageReport:
    """Look for hindsight in a static table: one row per lead, no dates, ``y`` 1 or True for converted leads.

    Without dates only strength, filled-ness, values, order and names can tell, so that honest and leaking
    columns are told apart less surely than in a history: most findings are warnings. Columns may be of any
    dtype; text like 'Select' or 'n/a' counts as missing. ``waive`` maps names of findings to reasons.

    Raises DataError if ``y`` does not fit ``X`` or holds one outcome only.

    >>> X = pd.DataFrame({"city": list("aabb") * 50, "paid": ["yes", None] * 100})
    >>> audit_table(X, [1, 0] * 100).flagged
    frozenset({'paid'})
    """
    outcome = np.asarray(pd.Series(np.asarray(y)).astype(float) == 1)
    if len(outcome) != len(X) or not outcome.any() or outcome.all():
        raise DataError(
            f"y must hold both outcomes, once for each row of X; got {len(outcome):,} values for {len(X):,} rows, "
            f"{int(outcome.sum()):,} of them positive. Without both, nothing can be compared."
        )
    view = LeadView.of_table(outcome)
    columns = [column_of(str(name), X.iloc[:, place]) for place, name in enumerate(X.columns)]
    setting = Setting(view, critical_value(_CHECKS_A_COLUMN * (len(columns) + 2)))
    ids = [column for column in columns if is_an_id(column)]
    others = [column for column in columns if not is_an_id(column) and column.filled.any()]
    found = [*check_outcome_rates(others, setting), *check_attributes(others, setting)]
    found += check_row_order(setting)
    for column in ids:
        found += check_order(np.nan_to_num(column.numbers), column.name, setting)
    examined = {"leads": len(X), "converted": int(outcome.sum()), "attributes": len(columns), "features": 0}
    return LeakageReport.of(_settled(found), waive or {}, examined)


def _settled(found: list[Finding]) -> list[Finding]:
    """Findings of one name once, and a column's general findings only where no telling one is severe."""
    general = {"tells_outcome", "strong_feature", "written_together"}
    severe = {
        name
        for finding in found
        if finding.severity == "severe" and finding.check not in general
        for name in finding.columns
    }
    kept: dict[str, Finding] = {}
    for finding in found:
        if not (finding.check in general and finding.columns[0] in severe):
            kept.setdefault(finding.name, finding)
    return list(kept.values())


def _lead_columns(history: History, training_set: TrainingSet, view: LeadView) -> list[Column]:
    """The attributes of the leads that some feature of the model uses."""
    used: set[str] = set()
    for column in training_set.feature_set.model_columns:
        declaration = column.declaration
        used |= {
            str(getattr(declaration, part)) for part in ("attribute", "key") if hasattr(declaration, part)
        }
        used |= set(getattr(declaration, "keys", ()))
    rows = pa.array(view.lead_row)
    return [
        column_of(name, _pandas(history.leads[name].take(rows)), kind)
        for name, kind in history.lead_attributes.items()
        if name in used
    ]


def _pandas(values: pa.ChunkedArray) -> Any:
    """As pandas; instants without their zone, which pandas 3.1 cannot take over without a warning."""
    if pa.types.is_timestamp(values.type):
        return pd.Series(values.cast(pa.int64()).to_numpy(zero_copy_only=False)) / 86_400_000_000
    return values.to_pandas()


def _across_the_split(
    history: History, training_set: TrainingSet, columns: list[Column], setting: Setting
) -> Iterator[Finding]:
    ids = history.leads["lead_id"].take(pa.array(setting.view.lead_row))
    learnt, judged = (_is_in(ids, training_set.lead_ids(part)) for part in ("development", "test"))
    signatures: dict[str, NDArray[np.int64]] = {}
    if history.n_interactions:
        signatures["interactions"] = event_signature(history, setting.view)
    if len(columns) >= 3:
        signatures["attributes"] = attribute_signature(columns)
    yield from check_duplicates(signatures, setting, learnt, judged)


def _is_in(ids: pa.ChunkedArray, wanted: pd.Series[Any]) -> NDArray[np.bool_]:
    values = pa.array(wanted.unique()).cast(ids.type)
    return np.asarray(pc.is_in(ids, value_set=values).to_numpy(), np.bool_)


def _bought(history: History, training_set: TrainingSet) -> NDArray[np.bool_]:
    """By lead_row: whether any observation of the customer has a positive label."""
    label = training_set.y("development")
    positive = training_set.lead_ids("development")[label == 1]
    return _is_in(history.leads["lead_id"], positive)
