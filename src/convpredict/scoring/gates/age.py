"""How old the model is."""

from __future__ import annotations

from ...config.gates import Limits
from ..nightly.facts import GateResult
from .evidence import Evidence, held, instant_text, is_off, not_judged, number_of, off

GATE = "model_age"


def judge_model_age(evidence: Evidence) -> GateResult:
    """Days from the model's registration to the cutoff; where it is not registered, or was later, from the end of
    what it learnt from."""
    facts, ages = evidence.facts, evidence.config.model_age
    if is_off(ages):
        return off(GATE)
    model = facts.model
    since, counted_from, what = model.registered_at, "registered_at", "was registered,"
    if since is None or since > facts.cutoff:
        since, counted_from = model.trained_until, "trained_until"
        what = "was trained on what was known until"
    if since is None:
        return not_judged(GATE, "nothing tells when the model was registered or what it was trained on")
    if since > facts.cutoff:
        return not_judged(
            GATE, f"the model knew later data than the cutoff (until {instant_text(since)}): a back-fill"
        )
    days = (facts.cutoff - since).total_seconds() / 86_400
    limits = Limits(
        warn=ages.warn.days if ages.warn is not None else None,
        stop=ages.stop.days if ages.stop is not None else None,
    )
    name = f"version {model.version}" if model.version else model.digest[:12]
    return held(
        GATE,
        days,
        limits,
        found=f"the model ({name}) is {number_of(round(days), 'day')} old, counted from when it {what} "
        f"{instant_text(since)}",
        look_at="train a challenger and have it promoted, or raise nightly.gates.model_age",
        unit="days",
        details={"since": since.isoformat(), "counted_from": counted_from},
    )
