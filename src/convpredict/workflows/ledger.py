"""Ask the ledger: why a lead had its score on a night, and which scores missed most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import BundleError, ConfigError, DataError, RegistryError
from .common import (
    StepProgress,
    keeping_forget_out,
    leave_out_forgotten,
    part_of,
    read_history,
    read_outcomes,
    silent,
)

if TYPE_CHECKING:
    from ..config.reasons import Locale
    from ..models.bundle import Bundle
    from ..scoring.ledger.explanation import Explanation
    from ..scoring.ledger.index import LedgerRun
    from ..scoring.ledger.ledger import Ledger
    from ..scoring.ledger.miss_report import MissReport
    from ..training.lead_ages import LearntAges


@dataclass(frozen=True)
class ExplainedScore:
    """The answer to why a lead had its score; ``text`` is for people, :meth:`to_dict` for machines."""

    explanation: Explanation = field(repr=False)

    @property
    def text(self) -> str:
        """A few lines."""
        from ..scoring.ledger.texts import explanation_text

        return explanation_text(self.explanation)

    def to_dict(self) -> dict[str, Any]:
        """All of it, to the bit."""
        return self.explanation.to_dict()


@dataclass(frozen=True)
class MissesFound:
    """The worst misses of the past nights; ``out`` is the CSV file that holds them, if one was asked for."""

    report: MissReport = field(repr=False)
    out: Path | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """What was judged, what was to be expected, and which concepts misled."""
        from ..scoring.ledger.texts import misses_text

        noted = f"\n{self.note}" if self.note else ""
        written = f"\nWritten to {self.out}" if self.out is not None else ""
        return misses_text(self.report) + noted + written

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        out = None if self.out is None else str(self.out)
        return self.report.to_dict() | {"out": out, "note": self.note or None}


def explain(
    config: Path,
    lead: str,
    *,
    as_of: datetime | None = None,
    locale: Locale | None = None,
    bundle: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> ExplainedScore:
    """Why a lead had the score that the latest published night up to ``as_of`` (default: the latest) gave it.

    The score is reproduced from today's data, as far as it was known then, with the model version of that night from
    the registry (or with ``bundle``, a bundle folder). ``locale``: the language of the reasons.

    Raises
    ------
    DataError
        No published night up to then scored the lead; says why, as far as today's data tells. Or a file of the ledger
        is damaged.
    BundleError, RegistryError
        The model of that night cannot be read, or ``bundle`` is another one.
    """
    from ..scoring.forget.forgotten import read_forgotten
    from ..scoring.ledger.explanation import explain as explain_rows
    from ..scoring.ledger.explanation import why_not_scored

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    ledger, runs = _published(project)
    known = {run.run_id: run for run in runs if as_of is None or run.cutoff <= as_of}
    if not known:
        raise DataError(_no_night(runs, as_of))
    progress("reading", 0.0)
    rows = ledger.read(run_ids=list(known), lead_ids=[lead])
    latest = list(known.values())[-1]
    note = None
    history = leave_out_forgotten(project, read_history(project))
    if latest.run_id not in rows["run_id"].to_pylist():
        outcome, night = settings.labels.outcome, f"{latest.cutoff:%Y-%m-%d %H:%M} UTC"
        ages = _ages_scored(project, latest, bundle)
        why = why_not_scored(history, lead, latest, settings.observations.max_age, outcome, ages)
        if lead in read_forgotten(ledger.folder.parent):
            why = "the lead was forgotten, and all of its scores erased"
        if rows.num_rows == 0:
            raise DataError(f"no published night up to {night} scored lead '{lead}'; on that night: {why}")
        note = f"Lead '{lead}' was not on the list of {night}: {why}. This is its last score."
        if latest.cutoff in rows["cutoff"].to_pylist():
            note = (
                f"Lead '{lead}' is not on the list in force of {night} (run {latest.run_id}), which replaced the one "
                f"shown here: {why}."
            )
    reasons = settings.reasons.model_copy(update={"locale": locale} if locale is not None else {})
    progress("reproducing", 0.0)
    found = explain_rows(history, _in_order(rows, known), known, _bundles(project, bundle), reasons, note)
    if found.score.verdict in ("data changed", "model computes otherwise"):
        ledger.check_run(found.score.run.run_id)
    if found.score.verdict == "data changed" and (why := _forgotten_since(ledger, [found.score.run])):
        found = replace(found, note=f"{found.note + ' ' if found.note else ''}{why}")
    return ExplainedScore(found)


@keeping_forget_out("mis-scored")
def find_mis_scored(
    config: Path,
    *,
    nights: int | None = None,
    top: int = 20,
    by: str = "loss",
    out: Path | None = None,
    bundle: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> MissesFound:
    """The ``top`` worst misses of either kind among the latest ``nights`` whose outcomes are known, with their reasons.

    ``by`` ranks them by log ``loss`` or by ``value``. Nights whose model knew later outcomes are left out. ``out`` is a
    CSV file to write. Raises DataError where no night can be judged yet.
    """
    from ..scoring.ledger.mis_scored import find_misses, judgeable
    from ..scoring.ledger.miss_report import report_misses, value_weight

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    labels, horizon = settings.labels, settings.labels.horizons[0]
    if by not in ("loss", "value"):
        raise ConfigError(f"misses are ranked by 'loss' or by 'value'; got '{by}'")
    if by == "value" and (labels.value_horizon is None or settings.history.revenue is None):
        raise ConfigError(
            "ranking misses by value needs history.revenue and labels.value_horizon; declare them, or rank by loss"
        )
    ledger, runs = _published(project)
    progress("reading", 0.0)
    history = read_outcomes(project)
    chosen, left_out = judgeable(runs, history, horizon, nights)
    if not chosen:
        told = ", ".join(f"{why}: {count}" for why, count in left_out.items()) or "no night is published yet"
        raise DataError(
            f"there is no night whose {horizon} horizon has ended by {history.known_until:%Y-%m-%d}, the end of the "
            f"data ({told}); come back once outcomes are known, or give newer data"
        )
    misses = find_misses(
        history,
        ledger,
        chosen,
        horizon,
        outcome=labels.outcome,
        top=top,
        weigh=value_weight(history, chosen, labels) if by == "value" else None,
        progress=part_of(progress, "judging"),
    )
    progress("reproducing", 0.0)
    report = report_misses(history, misses, _bundles(project, bundle), settings.reasons, labels, left_out)
    if out is not None:
        from pyarrow import csv

        from ..files import write_file

        write_file(out, lambda file: csv.write_csv(report.to_table(), file))
    changed = any(row["reproduced"] is False for row in report.rows)
    return MissesFound(report, out, _forgotten_since(ledger, chosen) if changed else "")


def _ages_scored(project: Project, run: LedgerRun, folder: Path | None) -> LearntAges | None:
    """The ages that the model of a night is held to; None: it is held to none, or cannot be read any more."""
    from ..training.lead_ages import leaves_out

    settings = project.config
    if not leaves_out(settings.observations.untrained_ages, settings.labels.outcome):
        return None
    try:
        return _bundles(project, folder)(run).ages
    except (BundleError, RegistryError):
        return None


def _published(project: Project) -> tuple[Ledger, list[LedgerRun]]:
    """The ledger, and its runs that were published everywhere, by cutoff."""
    from ..scoring.ledger.ledger import Ledger
    from ..scoring.nightly.state import NightFolder

    folder = NightFolder(project.path.parent / project.config.nightly.folder, project.config.name)
    ledger = Ledger(folder.root / "ledger")
    return ledger, [run for run in ledger.runs() if folder.is_published(run.run_id)]


def _forgotten_since(ledger: Ledger, runs: Sequence[LedgerRun]) -> str:
    """What to say of changed data if leads were forgotten after one of some nights had ended; else nothing."""
    from ..scoring.forget.forgotten import FILE, read_forgotten
    from ..scoring.nightly.state import instant, read_json

    root = ledger.folder.parent
    if not len(read_forgotten(root)):
        return ""
    listed = (root / FILE).stat().st_mtime
    ends = [read_json(root / "runs" / f"{run.run_id}.json").get("finished_at") for run in runs]
    if not any(end and instant(end).timestamp() < listed for end in ends):
        return ""
    return (
        "Leads were forgotten since ('convpredict forget'), and no rate and load counts them any more: inputs that "
        "look across leads may be others for that reason alone."
    )


def _in_order(rows: Any, runs: dict[str, LedgerRun]) -> Any:
    """Rows of one lead in the order in which they were published, repetitions of a cutoff too."""
    numbers = [runs[run_id].number for run_id in rows["run_id"].to_pylist()]
    order = sorted(range(rows.num_rows), key=lambda i: (rows["cutoff"][i].as_py(), numbers[i]))
    return rows.take(order)


def _bundles(project: Project, folder: Path | None) -> Callable[[LedgerRun], Bundle]:
    """The model of a run: its version in the registry, or the bundle that is named; each is read once."""
    from ..models.bundle import load_bundle

    named = load_bundle(folder) if folder is not None else None
    read: dict[str, Bundle] = {}

    def find(run: LedgerRun) -> Bundle:
        if named is not None and (named.digest == run.model.digest or not run.model.version):
            return named
        if not run.model.version:
            raise BundleError(
                f"the run '{run.run_id}' was scored with a bundle folder (digest {run.model.digest[:12]}), not with a "
                "registered version; name that folder with --bundle"
            )
        if run.model.version not in read:
            from ..tracking.registry import get_model

            read[run.model.version] = get_model(
                run.model.name, run.model.version, project.config.tracking
            ).load()
        return read[run.model.version]

    return find


def _no_night(runs: list[LedgerRun], as_of: datetime | None) -> str:
    if not runs:
        return "no night is published yet, so no lead has a score to explain; run 'convpredict nightly' first"
    return (
        f"no night was published up to {as_of:%Y-%m-%d %H:%M} UTC; the first one is of "
        f"{runs[0].cutoff:%Y-%m-%d %H:%M} UTC: name that instant or a later one"
    )
