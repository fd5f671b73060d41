"""Simulate a history, check one, write the feature table alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import load_project
from ..errors import ConfigError, DataError
from .common import (
    StepProgress,
    keeping_forget_out,
    leave_out_forgotten,
    part_of,
    read_history,
    report_of,
    silent,
)

if TYPE_CHECKING:
    from ..history.validation import ValidationReport


def simulate_data(
    config: Path, *, data: Path | None = None, overrides: Sequence[str] = (), progress: StepProgress = silent
) -> dict[str, Any]:
    """Simulate the history of the configuration's ``simulator`` section into its data folder.

    Raises :class:`ConfigError` if the configuration has no such section.
    """
    from ..history.simulator import simulate

    project = load_project(config, data=data, overrides=overrides)
    if project.config.simulator is None:
        raise ConfigError(
            f"{project.path} has no section 'simulator', so there is nothing to simulate; add one "
            "(for example 'simulator: {leads: 20000}') or use a configuration that has it."
        )
    simulate(project.config.simulator, project.data_dir, progress=part_of(progress, "simulating"))
    history = read_history(project)
    return {
        "folder": str(project.data_dir),
        "leads": history.n_leads,
        "interactions": history.n_interactions,
        "conversions": history.conversions.num_rows,
    }


@keeping_forget_out("check", create=False)
def check_data(
    config: Path,
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    quarantine: Path | None = None,
    progress: StepProgress = silent,
) -> ValidationReport:
    """Read and validate the history that a configuration declares; broken rows go to the folder ``quarantine``.

    What a scorecard's rules name and the history does not hold is among the report's warnings. Raises BusyError while
    leads are being erased, which those rows could hold; no nightly folder is made.
    """
    from ..config.against_history import check_against_history
    from ..models.scorecard import Scorecard

    project = load_project(config, data=data, overrides=overrides)
    progress("reading", 0.0)
    history = read_history(project, quarantine=quarantine)
    check_against_history(project.config, history)
    report = report_of(history)
    if project.config.scorecard is None:
        return report
    return replace(
        report, warnings=(*report.warnings, *Scorecard(project.config.scorecard).warnings(history))
    )


@keeping_forget_out("features")
def write_feature_table(
    config: Path,
    out: Path,
    *,
    as_of: datetime | None = None,
    observations: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> dict[str, Any]:
    """Write the features of every open lead at ``as_of``, or of the observations in a file, to Parquet.

    Vocabularies are learnt from what was known before the first cutoff asked for.
    """
    from ..features.build import write_features
    from ..features.feature_set import FeatureSet
    from ..training.given_observations import observations_from_file
    from ..training.lead_times import microseconds_of, to_instant
    from ..training.observations import open_observations

    project = load_project(config, data=data, overrides=overrides)
    progress("reading", 0.0)
    history = leave_out_forgotten(project, read_history(project))
    settings = project.config
    if observations is not None:
        given = observations_from_file(
            history, observations, max_age=settings.observations.max_age, outcome=settings.labels.outcome
        )
        table, rejected = given.table, given.excluded
    else:
        made = open_observations(
            history,
            as_of or history.known_until,
            settings.observations.max_age,
            outcome=settings.labels.outcome,
        )
        table, rejected = made.table, made.excluded
    if table.num_rows == 0:
        reasons = (
            ", ".join(f"{count:,} {reason}" for reason, count in rejected.items() if count) or "none given"
        )
        raise DataError(
            f"No observation is left to compute features for (left out: {reasons}); check the instants asked for."
        )
    first = to_instant(int(microseconds_of(table["cutoff"]).min()))
    feature_set = FeatureSet.fit(history, settings.features, until=first, horizon=settings.labels.horizons[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    statistics = write_features(
        history,
        table,
        feature_set,
        out,
        bucket_events=settings.features.bucket_events,
        progress=part_of(progress, "features"),
    )
    return {
        "out": str(out),
        "rows": statistics.rows,
        "columns": statistics.columns,
        "seconds": round(statistics.seconds, 2),
        "rejected": {reason: count for reason, count in rejected.items() if count},
    }
