"""Observations that somebody else chose: lead ids and cutoffs, each row accepted or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from convpredict.config.base import Duration
from convpredict.errors import DataError
from convpredict.features.time_rule import NEVER
from convpredict.history.history import TIMESTAMP, History

from .lead_times import LeadTimes, arrow_column, microseconds_of, to_microseconds
from .observations import EXCLUSIONS, observation_table, reasons_against
from .outcomes import OutcomeKind

_COLUMNS = ["lead_id", "cutoff"]


@dataclass(frozen=True)
class GivenObservations:
    """What became of a list of observations: every row of it is in one of the two tables.

    ``table`` has lead_row, lead_id and cutoff, sorted by lead_row and cutoff. ``rejected`` has the row number
    (from 1, header not counted), lead_id and cutoff as given (text) and the reason: ``unknown_lead``,
    ``unreadable_cutoff``, ``duplicate``, or one of ``EXCLUSIONS``.
    """

    table: pa.Table
    rejected: pa.Table

    @property
    def excluded(self) -> dict[str, int]:
        """Number of rejected rows by reason."""
        counts = self.rejected["reason"].value_counts()
        return {entry["values"].as_py(): entry["counts"].as_py() for entry in counts}


def observations_from_file(
    history: History,
    source: Path | str | pa.Table | pd.DataFrame,
    *,
    check_eligibility: bool = True,
    max_age: Duration | None = None,
    outcome: OutcomeKind = "conversion",
) -> GivenObservations:
    """Read (lead_id, cutoff) rows from CSV (also ``.gz``), Parquet, an Arrow table or a pandas frame.

    A cutoff without an offset is read as UTC, like every instant on the command line. With
    ``check_eligibility`` the time rule decides which rows may be observed (younger than ``max_age``, not yet
    converted, unless the outcome is a ``purchase`` ...); without, every known lead is accepted at any instant.

    Raises
    ------
    DataError
        The file cannot be read, a column is missing, or lead ids are floats (which lose digits).
    """
    given = _read(source)
    lead_text, lead_row = _lead_rows(history, given["lead_id"])
    cutoff_text, cutoff = _cutoffs(given["cutoff"])
    refusal = np.full(given.num_rows, "", object)
    _refuse(refusal, lead_row < 0, "unknown_lead")
    _refuse(refusal, cutoff == NEVER, "unreadable_cutoff")
    readable = np.flatnonzero(refusal == "")
    order = readable[np.lexsort((readable, cutoff[readable], lead_row[readable]))]
    repeated = np.zeros(given.num_rows, np.bool_)
    repeated[order[1:]] = (np.diff(lead_row[order]) == 0) & (np.diff(cutoff[order]) == 0)
    _refuse(refusal, repeated, "duplicate")
    if check_eligibility:
        oldest = max_age.microseconds if max_age is not None else NEVER
        known_until = to_microseconds(history.known_until)
        reason = reasons_against(
            LeadTimes.of(history, outcome), lead_row[order], cutoff[order], oldest, known_until
        )
        for code, name in enumerate(EXCLUSIONS):
            _refuse(refusal, order[reason == code], name)
    accepted = order[refusal[order] == ""]
    refused = np.flatnonzero(refusal != "")
    rejected = pa.table(
        {
            "row": pa.array(refused + 1, pa.int64()),
            "lead_id": lead_text.take(pa.array(refused)),
            "cutoff": cutoff_text.take(pa.array(refused)),
            "reason": pa.array(refusal[refused], pa.string()),
        }
    )
    return GivenObservations(observation_table(history, lead_row[accepted], cutoff[accepted]), rejected)


def _refuse(refusal: NDArray[Any], where: NDArray[Any], reason: str) -> None:
    """Write a reason where a row has none yet; ``where`` is a mask or row numbers."""
    rows = np.flatnonzero(where) if where.dtype == np.bool_ else where
    refusal[rows[refusal[rows] == ""]] = reason


def _read(source: Path | str | pa.Table | pd.DataFrame) -> pa.Table:
    name = f"'{source}'" if isinstance(source, Path | str) else "the given table"
    try:
        if isinstance(source, pd.DataFrame):
            wanted = [column for column in _COLUMNS if column in source.columns]
            table = pa.table({column: arrow_column(source[column]) for column in wanted})
        elif isinstance(source, pa.Table):
            table = source
        elif str(source).endswith((".csv", ".csv.gz", ".txt")):
            as_text = csv.ConvertOptions(column_types={"lead_id": pa.string(), "cutoff": pa.string()})
            table = csv.read_csv(source, convert_options=as_text)
        else:
            table = parquet.read_table(source)
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"the observations in {name} cannot be read: {error}; give a CSV (.csv, .csv.gz) or Parquet file "
            "with the columns lead_id and cutoff"
        ) from error
    names = source.columns if isinstance(source, pd.DataFrame) else table.column_names
    missing = [column for column in _COLUMNS if column not in table.column_names]
    if missing:
        raise DataError(
            f"{name} has no column {' and no column '.join(missing)}, got: {', '.join(map(str, names))}; "
            "an observation is a lead_id and a cutoff, so name these two columns so"
        )
    return table.select(_COLUMNS)


def _lead_rows(history: History, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.int32]]:
    """The ids as text, and their position among the leads (-1: unknown)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        raise DataError(
            f"lead_id is of type {column.type}, which cannot hold long ids without losing digits; "
            "give the ids as text or integers"
        )
    text = column.cast(pa.string())
    known = history.leads["lead_id"].cast(pa.string())
    position = pc.index_in(text, value_set=known)
    return text, position.fill_null(-1).to_numpy().astype(np.int32)


def _cutoffs(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    """The cutoffs as text, and as microseconds (``NEVER``: not readable)."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        aware = column.cast(pa.timestamp("us"), safe=False) if pa.types.is_date(column.type) else column
        zoned = aware if getattr(aware.type, "tz", None) else pc.assume_timezone(aware, "UTC")
        instants = zoned.cast(TIMESTAMP, safe=False)
        return instants.cast(pa.string()), microseconds_of(instants)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(
            f"cutoff is of type {column.type}, which is no instant; give timestamps or ISO 8601 text like "
            "'2024-03-18' or '2024-03-18T02:00:00Z'"
        )
    parsed = pd.to_datetime(column.to_pandas(), format="ISO8601", utc=True, errors="coerce")
    return column, microseconds_of(arrow_column(parsed))
