"""Learn a scorecard of whole points, and say what it loses against the full model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.load import load_project
from .common import StepProgress, part_of, read_outcomes, silent


@dataclass(frozen=True)
class ScorecardRun:
    """A learnt card as YAML, its metrics beside the full model and the hand-set card, and sentences."""

    yaml: str
    metrics: dict[str, Any]
    sentences: tuple[str, ...]

    @property
    def section(self) -> str:
        """The card as YAML under its key, ready for a configuration."""
        return "scorecard:\n" + "".join(f"  {line}\n" for line in self.yaml.splitlines())

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"yaml": self.yaml, "metrics": self.metrics, "sentences": list(self.sentences)}


def learn_points(
    config: Path,
    *,
    out: Path | None = None,
    most_rules: int = 12,
    call_share: float = 0.05,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> ScorecardRun:
    """Learn a card before the test part, judge it there beside the full model and the hand-set card.

    With ``out`` the section ``scorecard`` is written there as YAML, ready for a configuration.

    Raises
    ------
    NotEnoughDataError
        Too few conversions to learn from.
    """
    from ..evaluation.cards import compare_cards, state_cards
    from ..files import write_text
    from ..models.fitting import fit_conversion_model, fit_scorecard
    from ..models.scorecard import Scorecard
    from ..models.scorecard_learning import candidate_features, learn_scorecard
    from ..training.training_set import build_training_set

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    progress("reading", 0.0)
    history = read_outcomes(project)
    hand_set = Scorecard(settings.scorecard) if settings.scorecard is not None else None
    extra = hand_set.declarations() if hand_set is not None else ()
    training_set = build_training_set(
        history,
        project,
        extra_features=(*candidate_features(history), *extra),
        progress=part_of(progress, "building features"),
    )
    progress("learning points", 0.0)
    learnt = learn_scorecard(
        training_set, most_rules=most_rules, call_share=call_share, seed=settings.model.seed
    )
    progress("learning the full model", 0.0)
    model = fit_conversion_model(training_set, settings.model)
    fitted = fit_scorecard(training_set, hand_set) if hand_set is not None else None
    progress("judging", 0.0)
    metrics = compare_cards(training_set, model, learnt.scorecard, fitted, settings.evaluation)
    metrics["choice"] = {
        "half_life": None if learnt.half_life is None else str(learnt.half_life),
        "rules": len(learnt.scorecard.config.rules) if learnt.scorecard.config is not None else 0,
        "reason": learnt.reason,
        "validation_log_loss": learnt.validation,
        "call_share": learnt.call_share,
    }
    run = ScorecardRun(learnt.scorecard.to_yaml(), metrics, tuple(state_cards(metrics)))
    if out is not None:
        write_text(run.section, out)
    return run
