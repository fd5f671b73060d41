"""The distribution of tonight's scores against that of the training data and of last night."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...config.gates import Limits
from ...evaluation.distribution_shift import chance_psi, jensen_shannon, n_used_bins, psi
from ...models.profile import SCORE, Profile, ProfileCounts
from ..nightly.facts import GateResult, NightFacts
from .evidence import Evidence, held, is_off, not_judged, off

_ALPHA = 0.001


def judge_against_training(evidence: Evidence) -> GateResult:
    """PSI of the scores against the training profile, beyond chance and beyond what reference cutoffs vary."""
    gate, facts, limits = "scores_training", evidence.facts, evidence.config.scores_training
    if is_off(limits):
        return off(gate)
    profile = facts.profile
    if profile is None or not profile.reference.rows:
        return not_judged(gate, "the model has no profile of its training data; train it again to get one")
    return _judged(
        gate,
        profile.reference.scores,
        facts,
        limits,
        natural=float(profile.natural.get(SCORE, 0.0)),
        mean_before=_mean_of(profile),
        whom="the model's reference rows",
        look_at="look at the drift of the features in the monitoring page: a change of the business asks for a new "
        "model, a change of one column alone for a look at its source",
    )


def judge_against_last_night(evidence: Evidence) -> GateResult:
    """PSI of the scores against last night's, by the same model, beyond chance."""
    gate, facts, limits = "scores_last_night", evidence.facts, evidence.config.scores_last_night
    if is_off(limits):
        return off(gate)
    last = facts.last
    if last is None:
        return not_judged(gate, "the first night, nothing to compare with")
    if (model := last.get("model") or {}).get("digest") != facts.model.digest:
        version = model.get("version") or str(model.get("digest", ""))[:12]
        return not_judged(
            gate, f"the last published night was scored with another model (version {version or 'unknown'})"
        )
    if not last.get("counts"):
        return not_judged(gate, "the manifest of the last published night holds no counts of its scores")
    before = ProfileCounts.from_dict(last["counts"]).scores
    expected, leads = last.get("expected_conversions"), int(last.get("leads") or 0)
    return _judged(
        gate,
        before,
        facts,
        limits,
        natural=0.0,
        mean_before=float(expected) / leads if expected is not None and leads else None,
        whom=f"the last published night, {evidence.since_last}",
        look_at="look at what changed in the data since then: a table that was loaded only in part, a restated column",
    )


def _judged(
    gate: str,
    before: ArrayLike,
    facts: NightFacts,
    limits: Limits,
    *,
    natural: float,
    mean_before: float | None,
    whom: str,
    look_at: str,
) -> GateResult:
    now = facts.counts.scores
    counted, compared = int(np.sum(now)), int(np.sum(before))
    if not counted or not compared:
        return not_judged(gate, "no lead was scored" if not counted else "there is no score to compare with")
    index = psi(before, now)
    chance = chance_psi(compared, counted, n_used_bins(before, now), _ALPHA)
    beyond = max(0.0, index - max(chance, natural))
    details: dict[str, Any] = {
        "psi": round(index, 6),
        "jensen_shannon_bits": round(jensen_shannon(before, now), 6),
        "chance": round(chance, 6),
        "natural": round(natural, 6),
        "mean_probability_ratio": None,
    }
    found = (
        f"the scores of {counted:,} leads against {whom}: PSI {index:.3f}, of which {beyond:.3f} is beyond what "
        f"{'chance' if chance >= natural else 'one cutoff to the next'} explains ({max(chance, natural):.3f}); "
        f"Jensen-Shannon {details['jensen_shannon_bits']:.3f} bits"
    )
    mean_now = _mean_probability(facts)
    if mean_now is not None and mean_before:
        details["mean_probability_ratio"] = round(mean_now / mean_before, 6)
        found += f"; the mean probability is {mean_now / mean_before:.2f} times as high"
    return held(gate, beyond, limits, found=found, look_at=look_at, unit="PSI", details=details)


def _mean_probability(facts: NightFacts) -> float | None:
    """The mean probability within the bundle's horizon; None where nothing tells which column that is."""
    name = facts.probability_column
    return float(np.mean(facts.scores[name].to_numpy())) if name is not None and facts.n_leads else None


def _mean_of(profile: Profile) -> float | None:
    """The mean probability of the reference rows, by their quantiles."""
    limits = np.asarray(profile.quantiles)
    return float((limits[1:] + limits[:-1]).mean() / 2) if len(limits) > 1 else None
