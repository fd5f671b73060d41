"""Refresh what monitoring knows, and train again where the rule asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import BundleError, DataError, NotEnoughDataError, PromotionError, RegistryError
from .common import StepProgress, keeping_forget_out, new_run_id, nightly_folder, read_outcomes, silent

if TYPE_CHECKING:
    from ..config.base import Duration
    from ..models.bundle import Bundle
    from ..monitoring.reports import NightReport
    from ..tracking.versions import Version
    from .promoting import PromotionRun
    from .training import TrainingRun

NOT_PROMOTED = 10
"""The exit code of ``retrain-if`` where a challenger was trained and the champion stays."""


@dataclass(frozen=True)
class MonitoringRun:
    """The state of monitoring: the page, the reports, and the manifests of all nights, by cutoff.

    ``written``: run ids of the nights whose report was missing and is there now.
    """

    page: Path
    nights: int
    reports: tuple[NightReport, ...] = field(repr=False)
    manifests: tuple[Mapping[str, Any], ...] = field(repr=False)
    written: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[Mapping[str, Any], ...]:
        """What stands after the last night."""
        return tuple(self.reports[-1].alarms) if self.reports else ()

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        last = self.reports[-1] if self.reports else None
        return {
            "page": str(self.page),
            "nights": len(self.manifests),
            "written": list(self.written),
            "last": None if last is None else {"run_id": last.run_id, "cutoff": last.cutoff},
            "realised": None if last is None else last.realised,
            "drifted": [] if last is None else [each["column"] for each in last.drift if each["drifted"]],
            "alarms": list(self.alarms),
        }


@dataclass(frozen=True)
class RetrainRun:
    """What ``retrain-if`` did: the reasons that hold, the training run's folder, and what became of the challenger.

    ``outcome``: ``nothing to do``, ``paused``, ``would train`` (a dry run), ``promoted``, ``not promoted``.
    """

    outcome: str
    reasons: tuple[str, ...]
    folder: Path | None = None
    message: str = ""

    @property
    def exit_code(self) -> int:
        """0, or 10 where a challenger was trained and not promoted."""
        return NOT_PROMOTED if self.outcome == "not promoted" else 0

    @property
    def text(self) -> str:
        """Reasons, then what was done."""
        reasons = "".join(f"  {reason}\n" for reason in self.reasons)
        head = f"Reasons to train again:\n{reasons}" if self.reasons else "No reason to train again.\n"
        return f"{head}{self.message}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "folder": None if self.folder is None else str(self.folder),
            "message": self.message,
            "exit_code": self.exit_code,
        }


@keeping_forget_out("monitor")
def monitor(
    config: Path,
    *,
    rebuild: bool = False,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> MonitoringRun:
    """Write the reports that published nights lack, and the page; ``rebuild``: all reports anew, from the ledger.

    The history is read only where a report is to be written.

    Raises
    ------
    NotEnoughDataError
        No night was published yet.
    """
    from ..monitoring.page import write_page
    from ..monitoring.reports import FOLDER, drop_unusable, read_manifests, read_reports

    project = load_project(config, data=data, overrides=overrides)
    folder = nightly_folder(project)
    published = [each for each in read_manifests(folder) if each["status"] == "published"]
    if not published:
        raise NotEnoughDataError(
            f"'{folder}' holds no published night, so there is nothing to watch; run 'convpredict nightly' first"
        )
    reports = folder / FOLDER
    missing = [each for each in published if rebuild or not (reports / f"{each['run_id']}.json").is_file()]
    if rebuild:
        drop_unusable(folder, [str(each["run_id"]) for each in published])
    if missing:
        _write_reports(project, folder, missing, progress)
    page = write_page(folder, project.config.monitoring, name=project.config.name)
    return MonitoringRun(
        page,
        project.config.monitoring.nights,
        tuple(read_reports(folder)),
        tuple(read_manifests(folder)),
        tuple(str(each["run_id"]) for each in missing),
    )


def retrain_if(
    config: Path,
    *,
    dry_run: bool = False,
    out: Path | None = None,
    now: datetime | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> RetrainRun:
    """Train a challenger if the rule of the configuration gives a reason, and promote it if the promotion gate lets it.

    The model that is judged is the registry's champion. One that has not scored the last published night is judged by
    its age alone: what that night shows is another model's. Where nights are scored with a bundle and the registry has
    no champion, theirs is judged. Reports that nights lack are written first, if the rule asks for what they tell.

    ``now`` (default: the clock) is what ages count to. What was tried is kept, so that a challenger that was not
    promoted is not trained anew every night (``monitoring.retrain.pause``).

    Raises
    ------
    NotEnoughDataError
        No night was published yet, or there is too little to train on.
    RegistryError
        The registry cannot be asked for the champion, or has none, although it had one on the last published night.
    """
    from ..monitoring.reports import FOLDER, STATE, read_manifests
    from ..monitoring.retraining import age_reasons, needs_report, retrain_reasons
    from .promoting import promote
    from .training import train

    project = load_project(config, data=data, overrides=overrides)
    folder, settings = nightly_folder(project), project.config.monitoring
    present = (now or datetime.now(UTC)).astimezone(UTC)
    published = [each for each in read_manifests(folder) if each["status"] == "published"]
    if not published:
        raise NotEnoughDataError(
            f"'{folder}' holds no published night, so nothing tells whether to train again; run 'convpredict nightly' "
            "first, or 'convpredict train'"
        )
    last = published[-1]
    given: dict[str, Any] = {"data": data, "overrides": overrides, "progress": progress}
    champion, note = _champion(project, last)
    if champion is None or _scored(champion, last):
        report = folder / FOLDER / f"{last['run_id']}.json"
        if needs_report(settings.retrain) and not report.is_file():
            monitor(config, **given)
        reasons = tuple(retrain_reasons(folder, last, settings, present))
    else:
        note = _not_scored_yet(champion, published)
        made = {"registered_at": champion.registered_at, "trained_until": champion.trained_until}
        reasons = tuple(age_reasons(made, settings.retrain, present))
    if not reasons:
        return RetrainRun("nothing to do", (), message=note)
    state = folder / FOLDER / STATE
    paused = why_paused(state, last, settings.retrain.pause, present)
    if paused is not None:
        return RetrainRun("paused", reasons, message=f"{note} {paused}".strip())
    if dry_run:
        return RetrainRun("would train", reasons, message=f"{note} Nothing was trained (--dry-run).".strip())
    target = out if out is not None else Path("runs") / new_run_id(project.config.name)
    return challenge(
        state,
        present,
        reasons,
        lambda: train(config, out=target, **given),
        lambda version: promote(config, version=version, **given),
    )


def challenge(
    state: Path,
    now: datetime,
    reasons: tuple[str, ...],
    make: Callable[[], TrainingRun],
    promote: Callable[[str | None], PromotionRun],
) -> RetrainRun:
    """Train, try to promote what was registered, and keep in the file ``state`` what became of it.

    That it is tried is written first: whatever ends it (an error, a signal, too little memory) leaves ``failed``
    there, which pauses further trainings as a challenger that was not promoted does.
    """
    from ..files import write_json

    tried = {"tried_at": now.isoformat(), "reasons": list(reasons)}
    write_json({**tried, "outcome": "failed"}, state)
    trained = make()
    tried |= {"folder": str(trained.folder)}
    write_json({**tried, "outcome": "failed", "version": trained.version}, state)
    try:
        promoted = promote(trained.version)
    except PromotionError as error:
        write_json({**tried, "outcome": "not promoted", "version": trained.version}, state)
        return RetrainRun("not promoted", reasons, trained.folder, f"Trained in {trained.folder}. {error}")
    write_json({**tried, "outcome": "promoted", "version": promoted.version}, state)
    return RetrainRun("promoted", reasons, trained.folder, f"Trained in {trained.folder}. {promoted.text}")


def why_paused(state: Path, manifest: Mapping[str, Any], pause: Duration, now: datetime) -> str | None:
    """Why no further training is due although there is a reason; None: it is.

    ``manifest`` is that of the last published night: a challenger that was promoted may not have scored one yet.
    """
    import json
    from datetime import timedelta

    try:
        last = json.loads(state.read_text(encoding="utf-8"))
        until = datetime.fromisoformat(last["tried_at"]) + timedelta(microseconds=pause.microseconds)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not until - timedelta(microseconds=pause.microseconds) <= now < until:
        return None
    if last.get("outcome") == "failed":
        version = last.get("version")
        what = f"the promotion of version {version}" if version else "a training"
        return (
            f"For such reasons {what} was begun and came to no end; no further training before "
            f"{until:%Y-%m-%d %H:%M} UTC (monitoring.retrain.pause). Once the cause is mended, run 'convpredict "
            f"{'promote' if version else 'train'}', or delete '{state}' to let the rule try at once."
        )
    if last.get("outcome") == "not promoted":
        return (
            "A challenger was trained for such reasons and not promoted; no further one before "
            f"{until:%Y-%m-%d %H:%M} UTC (monitoring.retrain.pause)."
        )
    if str((manifest.get("model") or {}).get("version")) != str(last.get("version")):
        return f"Version {last.get('version')} was promoted for such reasons and has not scored a night yet."
    return None


def _champion(project: Project, last: Mapping[str, Any]) -> tuple[Version | None, str]:
    """The registry's champion; None where nights are scored with a bundle and there is none, with what to say of it."""
    from ..tracking.store import is_there, tracking_uri, waiting_briefly
    from ..tracking.versions import CHAMPION, open_registry

    config = project.config
    from_registry = bool((last.get("model") or {}).get("version"))
    if not from_registry and not is_there(tracking_uri(config.tracking)):
        return None, ""
    try:
        with waiting_briefly():
            registry = open_registry(config.name, config.tracking)
            if not from_registry and CHAMPION not in registry.aliases():
                return None, ""
            return registry.version(CHAMPION), ""
    except RegistryError as error:
        if from_registry:
            raise
        return None, f"The model of the last night was judged, as nothing tells of a champion: {error}."


def _scored(champion: Version, manifest: Mapping[str, Any]) -> bool:
    """Whether a night was scored by the champion; one with a bundle folder was, if it was the same bundle."""
    from ..tracking.versions import DIGEST

    model = manifest.get("model") or {}
    same = model.get("version") in ("", None, champion.version)
    return same and model.get("digest") == champion.tags.get(DIGEST)


def _not_scored_yet(champion: Version, published: Sequence[Mapping[str, Any]]) -> str:
    since = " since it is champion again" if any(_scored(champion, night) for night in published) else " yet"
    return f"Version {champion.version}, the champion, has not scored a night{since}: only its own age is judged."


def _write_reports(
    project: Project, folder: Path, missing: Sequence[Mapping[str, Any]], progress: StepProgress
) -> None:
    from ..monitoring.after_night import watch_of
    from ..monitoring.drift import shared_columns
    from ..monitoring.night import monitor_night
    from ..scoring.ledger.ledger import Ledger

    progress("reading", 0.0)
    history = read_outcomes(project)
    models: dict[str, Bundle | None] = {}
    watch = watch_of(project.config, history)
    for number, manifest in enumerate(missing):
        version = str((manifest.get("model") or {}).get("version", ""))
        if version not in models:
            models[version] = _bundle(project, manifest)
        bundle = models[version]
        monitor_night(
            folder,
            manifest,
            bundle.profile if bundle is not None else None,
            history,
            Ledger(folder / "ledger"),
            watch,
            shared=shared_columns(bundle.feature_set) if bundle is not None else (),
        )
        progress("judging", (number + 1) / len(missing))


def _bundle(project: Project, manifest: Mapping[str, Any]) -> Bundle | None:
    """The bundle of a night's model, from the registry; None where it is not there, or another one by now."""
    from ..tracking.registry import get_model
    from ..tracking.store import waiting_briefly

    model = manifest.get("model") or {}
    if not model.get("version"):
        return None
    try:
        with waiting_briefly():
            bundle = get_model(project.config.name, model["version"], project.config.tracking).load()
    except (RegistryError, BundleError, DataError):
        return None
    return bundle if bundle.digest == model.get("digest") else None
