"""Register a training run, compare challenger and champion, promote, roll back, list what is registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import BundleError, ConfigError, ConvpredictError, PromotionError
from .common import StepProgress, part_of, read_outcomes, silent

if TYPE_CHECKING:
    from ..config.base import Duration
    from ..config.root import Config
    from ..evaluation.promotion import PromotionVerdict
    from ..tracking.champions import By, Change
    from ..tracking.registry import RegisteredModel
    from ..tracking.versions import Version


@dataclass(frozen=True)
class PromotionRun:
    """A version that became champion: ``former`` is the one before (None: there was none), ``summary`` for machines."""

    name: str
    version: str
    former: str | None
    by: str
    lines: tuple[str, ...]
    summary: dict[str, Any] = field(repr=False)

    @property
    def text(self) -> str:
        """What changed, and the figures that it rests on."""
        over = f"in place of version {self.former}" if self.former else "the first one"
        return "\n".join(
            [f"Version {self.version} of '{self.name}' is champion now, {over} ({self.by}).", *self.lines]
        )


@dataclass(frozen=True)
class RollbackRun:
    """A former champion that is champion again."""

    name: str
    change: Change

    @property
    def text(self) -> str:
        """What changed, and which former champions were passed over."""
        former = (
            f"version {self.change.former} is withdrawn, and no rule promotes it any more."
            if self.change.former is not None
            else "nothing was champion, as the alias had been deleted."
        )
        gone = self.change.figures.get("deleted", ())
        passed = f" Passed over, as they were deleted: version {', '.join(gone)}." if gone else ""
        return f"Version {self.change.version} of '{self.name}' is champion again; {former}{passed}"

    @property
    def summary(self) -> dict[str, Any]:
        """For machines."""
        return {"name": self.name, **self.change.to_dict()}


@dataclass(frozen=True)
class ModelList:
    """The versions of a project, the newest first, and all changes of champion, the oldest first."""

    name: str
    versions: tuple[Version, ...]
    changes: tuple[Change, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """For machines: of every version its aliases, data window, digests and verdicts."""
        return {
            "name": self.name,
            "versions": [describe_version(version) for version in self.versions],
            "changes": [change.to_dict() for change in self.changes],
        }


def describe_version(version: Version) -> dict[str, Any]:
    """A version in plain values: number, aliases, whether it is verified or withdrawn, data window, verdicts."""
    from ..tracking import versions as tags

    told = version.tags
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "verified": version.verified,
        "withdrawn": tags.WITHDRAWN in told,
        "registered_at": version.registered_at.isoformat(),
        "run_id": version.run_id,
        "trained_until": told.get(tags.TRAINED_UNTIL),
        "known_until": told.get(tags.KNOWN_UNTIL),
        "first_cutoff": told.get(tags.FIRST_CUTOFF),
        "last_cutoff": told.get(tags.LAST_CUTOFF),
        "digest": told.get(tags.DIGEST),
        "manifest": told.get(tags.MANIFEST),
        "config_digest": told.get(tags.CONFIG),
        "verdicts": version.verdicts,
    }


def list_models(config: Path, *, overrides: Sequence[str] = ()) -> ModelList:
    """What is registered for a project. Raises RegistryError if the registry cannot be reached."""
    from ..tracking.registry import list_versions, read_changes

    project = load_project(config, overrides=overrides)
    name, tracking = project.config.name, project.config.tracking
    return ModelList(name, tuple(list_versions(name, tracking)), tuple(read_changes(name, tracking)))


def promote(
    config: Path,
    *,
    version: str | None = None,
    force: str | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
    now: datetime | None = None,
) -> PromotionRun:
    """Make the challenger (or a version) champion if the rule of the configuration holds, or by ``force`` and a reason.

    Challenger and champion score the same observations, from the later of the two instants until which they were
    trained, whose outcomes are known. Without a champion the challenger is held to its own test part. The change is
    recorded with its figures. With ``force`` the comparison is made all the same, as far as it can be, and recorded.
    ``now`` is the present instant, if it is not the clock's: a back-fill takes who was champion then.

    Raises
    ------
    PromotionError
        The rule does not hold, with all figures (``details`` has them for machines); the champion stays.
    RegistryError
        There is no challenger, or somebody else changed the champion meanwhile.
    BundleError
        The files of one of the two are not those that were registered.
    """
    from ..tracking.registry import CHALLENGER, champion_version, get_model, set_champion

    if force is not None and not force.strip():
        raise ConfigError("--force needs a reason: it is kept with the change, for whoever asks later")
    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    name, tracking = settings.name, settings.tracking
    challenger = get_model(name, version or CHALLENGER, tracking)
    champion = champion_version(name, tracking)
    if champion == challenger.version:
        raise PromotionError(
            f"version {champion} of '{name}' is champion already, so there is nothing to promote; train a new "
            "challenger ('convpredict train'), or name another version (--version)"
        )
    if force is None:
        _check_not_withdrawn(challenger, champion)
    try:
        verdict: PromotionVerdict | None = _judge(project, challenger, champion, progress)
    except ConvpredictError as error:
        if force is None:
            raise
        verdict, failure = None, f"They could not be compared: {error}"
    lines = _lines(verdict, champion) if verdict is not None else (failure,)
    by: By = "force" if force is not None else "first" if champion is None else "rule"
    summary = _summary(challenger, champion, verdict)
    if force is None and (verdict is None or not verdict.holds):
        raise PromotionError(
            _not_promoted(challenger, champion, verdict, lines), {**summary, "promoted": False}
        )
    challenger.load()  # refused here rather than by the next night
    set_champion(
        name,
        challenger.version,
        tracking,
        by=by,
        expected=champion,
        reason=force,
        figures=_short_figures(verdict),
        details=summary,
        now=now,
    )
    reason = (f"Forced, because: {force}",) if force is not None else ()
    return PromotionRun(
        name,
        challenger.version,
        champion,
        by,
        (*reason, *lines),
        {**summary, "promoted": True, "by": by, "reason": force},
    )


def rollback(
    config: Path,
    *,
    reason: str | None = None,
    overrides: Sequence[str] = (),
    now: datetime | None = None,
) -> RollbackRun:
    """Make the former champion champion again; repeated, it walks back further.

    ``now`` is the present instant, if it is not the clock's. Raises RegistryError if there is none to go back to,
    BundleError if its files are damaged or cannot be read.
    """
    from ..tracking.registry import rollback as roll_back

    project = load_project(config, overrides=overrides)
    name = project.config.name
    return RollbackRun(name, roll_back(name, project.config.tracking, reason=reason, now=now))


def _judge(
    project: Project, challenger: RegisteredModel, champion: str | None, progress: StepProgress
) -> PromotionVerdict:
    from ..evaluation.horizon_comparison import compare_horizons
    from ..evaluation.model_comparison import compare_models
    from ..evaluation.promotion import judge, judge_alone
    from ..evaluation.value_comparison import compare_values
    from ..scoring.model_pairs import lost_columns, score_pair
    from ..tracking.registry import get_model

    settings = project.config
    if champion is None:
        return judge_alone(challenger.verdicts, settings.promotion)
    other = get_model(settings.name, champion, settings.tracking)
    if challenger.trained_until is None or other.trained_until is None:
        raise BundleError("a version does not tell until when it was trained; register it anew")
    since = max(challenger.trained_until, other.trained_until)
    progress("reading", 0.0)
    history = read_outcomes(project)
    new, present = challenger.load(), other.load()
    both_values = new.value is not None and present.value is not None
    horizon, why_not = _value_horizon(settings, challenger, other) if both_values else (None, None)
    pair = score_pair(
        history, new, present, settings, since, value_horizon=horizon, progress=part_of(progress, "scoring")
    )
    if not 0 < pair.label.sum() < len(pair.label):
        raise PromotionError(
            _nothing_to_judge(len(pair.label), int(pair.label.sum()), since, history.known_until)
        )
    figures = compare_models(
        pair.label,
        pair.p_challenger,
        pair.p_champion,
        pair.lead_ids,
        settings.evaluation,
        cutoff=pair.cutoff,
        segments=pair.segments,
        progress=part_of(progress, "comparing"),
    )
    figures["since"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
    figures["further"] = compare_horizons(pair.further, settings.evaluation)
    figures["lost_columns"] = lost_columns(new, present)
    if why_not is not None:
        figures["value"] = {"not_compared": why_not}
    if pair.value is not None:
        compared = compare_values(pair.value, settings.evaluation, horizon_days=new.horizon.days)
        figures["value"] = {"value_horizon": str(horizon), **compared}
    return judge(figures, settings.promotion)


def _value_horizon(
    settings: Config, challenger: RegisteredModel, champion: RegisteredModel
) -> tuple[Duration | None, str | None]:
    """The value horizon that both models were trained with, or why their values cannot be compared.

    A version that does not tell (registered before this was noted) is taken to have the configuration's.
    """
    configured = settings.labels.value_horizon
    spans = [model.value_horizon or configured for model in (challenger, champion)]
    if spans[0] != spans[1]:
        shown = " and ".join(str(span) if span else "not known" for span in spans)
        return None, f"labels.value_horizon was another one for each ({shown}, challenger and champion)"
    if spans[0] is None:
        return (
            None,
            "labels.value_horizon is not set, and neither version tells which one it was trained with",
        )
    if settings.history.revenue is None:
        return None, "history.revenue is not declared, so nothing tells what conversions brought"
    return spans[0], None


def _check_not_withdrawn(challenger: RegisteredModel, champion: str | None) -> None:
    from ..tracking.versions import WITHDRAWN

    if WITHDRAWN in challenger.tags:
        raise PromotionError(
            f"version {challenger.version} of '{challenger.name}' was champion and was rolled back, so no rule "
            f"promotes it again, and {_stays(champion)}; train a new challenger, or say why it should come back: "
            "--force REASON"
        )


def _not_promoted(
    challenger: RegisteredModel,
    champion: str | None,
    verdict: PromotionVerdict | None,
    lines: tuple[str, ...],
) -> str:
    told = "\n".join(f"  {line}" for line in lines)
    return (
        f"version {challenger.version} of '{challenger.name}' is not promoted, and {_stays(champion)}: the rule "
        f"does not hold.\n{told}\n{_remedy(verdict)}"
    )


def _stays(champion: str | None) -> str:
    return f"version {champion} stays champion" if champion else "there is still no champion"


def _remedy(verdict: PromotionVerdict | None) -> str:
    failed = (
        {check.name for check in verdict.checks if check.holds is False} if verdict is not None else set()
    )
    if "columns" in failed:
        return (
            "Train a challenger with the labels and the scorecard that the champion was trained with, or, where nobody "
            "reads those columns any more, say so: --force REASON"
        )
    if "converting_leads" in failed:
        return (
            "Too few leads have converted since both were trained. Wait until more outcomes are known, train the "
            "challenger with an earlier split.test_from (the models are compared from there on), lower "
            "promotion.min_converting_leads, or say why it should be champion all the same: --force REASON"
        )
    return (
        "Train another challenger, change the rule ('promotion' in the configuration), or say why it should be "
        "champion all the same: --force REASON"
    )


def _lines(verdict: PromotionVerdict, champion: str | None) -> tuple[str, ...]:
    """The observations, what they could not have shown, and every requirement with its figures."""
    from ..evaluation.promotion import told_apart

    marks = {True: "holds", False: "DOES NOT HOLD", None: "has no say"}
    checks = [f"{marks[check.holds]}: {check.sentence}" for check in verdict.checks]
    if champion is None:
        return (
            "There was no champion to compare with: this is judged by its own test part, and by the scorecard.",
            *checks,
        )
    counts = verdict.figures["counts"]
    told = (
        f"Compared with version {champion} on {counts['rows']:,} observations of {counts['leads']:,} leads from "
        f"{verdict.figures['since']} on, of which {counts['converting_leads']:,} converted; differences are challenger "
        "minus champion."
    )
    return (told, told_apart(verdict.figures), *checks)


def _nothing_to_judge(rows: int, positives: int, since: datetime, known_until: datetime) -> str:
    return (
        f"there is nothing to compare the challenger by: from {since:%Y-%m-%d} on, until when both were trained, "
        f"{rows:,} observations have a known outcome, {positives:,} of them a conversion (the data is complete until "
        f"{known_until:%Y-%m-%d}). Wait until more outcomes are known, train the challenger with an earlier "
        "split.test_from, or say why it should be champion all the same: --force REASON"
    )


def _summary(
    challenger: RegisteredModel, champion: str | None, verdict: PromotionVerdict | None
) -> dict[str, Any]:
    return {
        "name": challenger.name,
        "challenger": challenger.version,
        "champion": champion,
        "holds": verdict.holds if verdict is not None else None,
        "checks": [check.to_dict() for check in verdict.checks] if verdict is not None else [],
        "figures": dict(verdict.figures) if verdict is not None else {},
    }


def _short_figures(verdict: PromotionVerdict | None) -> Mapping[str, Any]:
    """What fits into the record of a change: the differences, the calibration, and how much they rest on."""
    if verdict is None:
        return {}
    figures = verdict.figures
    counts = figures.get("counts", figures)
    side = figures.get("challenger", figures.get("model", {}))
    return {
        "checks": {check.name: check.holds for check in verdict.checks},
        "since": figures.get("since"),
        "converting_leads": counts["converting_leads"],
        "calibration_ratio": side.get("calibration_ratio"),
        "difference": {
            key: entry for key, entry in figures["difference"].items() if key != "calibration_ratio"
        },
        "further": {name: entry["log_loss"] for name, entry in figures.get("further", {}).items()},
        "lost_columns": figures.get("lost_columns", []),
        **({"value": _short_value(figures["value"])} if "value" in figures else {}),
    }


def _short_value(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The differences in value and what they rest on, or why there are none."""
    if "not_compared" in found:
        return {"not_compared": found["not_compared"]}
    counts = found["counts"]
    return {
        "rows": counts["rows"],
        "leads_with_revenue": counts["converting_leads"],
        "difference": found.get("difference", {}),
    }
