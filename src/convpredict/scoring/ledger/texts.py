"""What the ledger has to say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from .expectations import Expected
from .explanation import Explanation, PastScore
from .mis_scored import COLD_SHARE, HOT_SHARE
from .miss_report import COLD, HOT, MissReport

_MOST_MOVES = 8


def explanation_text(explanation: Explanation) -> str:
    """The score, whether it was reproduced, its reasons, and what moved since the night before."""
    return "\n".join(_explanation(explanation))


def _explanation(explanation: Explanation) -> Iterator[str]:
    score = explanation.score
    if explanation.note:
        yield explanation.note
    night = f"{score.run.cutoff:%Y-%m-%d %H:%M} UTC (run {score.run.run_id}, {_model(score)})"
    yield f"Lead {explanation.lead_id} on {night}"
    yield f"  {_numbers(score)}"
    yield from _verdict(score)
    if score.contributions:
        title = "" if score.is_exact else "Today's reconstruction, not what was known that night: "
        yield f"{title}for a conversion spoke"
        yield from (
            f"  + {text}" for text in score.reasons_for or ("nothing that would change the odds by 5 %",)
        )
        yield "against it"
        yield from (
            f"  - {text}" for text in score.reasons_against or ("nothing that would change the odds by 5 %",)
        )
    yield from _since(explanation)


def _model(score: PastScore) -> str:
    model = score.run.model
    return f"model {model.name} {model.version}" if model.version else f"bundle {model.digest[:12]}"


def _numbers(score: PastScore) -> str:
    told = []
    if (points := score.published.get("score")) is not None:
        told.append(f"score {points}")
    told += [
        f"{100 * score.published[name]:.2f} % within {name.removeprefix('p_convert_')}"
        for name in score.run.probability_columns
    ]
    told.append(f"rank {score.published['rank']:,} of {score.run.rows + score.run.erased:,}")
    if (value := score.published.get("expected_value")) is not None and value == value:
        told.append(f"expected value {value:,.2f}")
    return ", ".join(told)


def _verdict(score: PastScore) -> Iterator[str]:
    then = f"{score.published['features_hash']:016x}"
    if score.verdict == "reproduced exactly":
        yield f"Reproduced exactly: inputs (hash {then}) and probabilities are those of that night, to the bit."
    elif score.verdict == "data changed":
        now = ", ".join(f"{100 * p:.2f} %" for p in score.p_now.values())
        yield (
            f"NOT reproduced: the data of before this cutoff was changed since (hash of the inputs then {then}, now "
            f"{score.hash_now:016x}). From today's data the same model says {now}."
        )
    elif score.verdict == "model computes otherwise":
        yield (
            f"NOT reproduced: the inputs are the same (hash {then}), but the model computes other probabilities here; "
            "the libraries or the machine differ from those of that night."
        )
    else:
        yield "NOT reproduced: the data no longer has this lead, so there are no reasons to tell."


def _since(explanation: Explanation) -> Iterator[str]:
    before, score = explanation.before, explanation.score
    if before is None:
        yield "It is the first score of this lead in the ledger."
        return
    change = f"{100 * before.p:.2f} % to {100 * score.p:.2f} %"
    yield f"Since the night before ({before.run.cutoff:%Y-%m-%d %H:%M} UTC): {change}"
    if not before.contributions or not score.contributions:
        yield "  what moved cannot be told"
        return
    if explanation.model_changed:
        yield f"  another model scored it then ({_model(before)}), so that data and model both moved"
    if not (before.is_exact and score.is_exact):
        yield "  not both nights are reproduced, so this compares today's reconstructions"
    for move in explanation.moves[:_MOST_MOVES]:
        former, now = (round(value, 2) + 0.0 for value in (move.before, move.then))
        yield f"  {move.change:+.2f}  {move.concept} ({former:+.2f} on that night, {now:+.2f} on this)"
    if not explanation.moves:
        yield "  no concept moved by 0.05 or more"


def misses_text(report: MissReport) -> str:
    """What was judged, what was to be expected anyway, and which concepts misled."""
    return "\n".join(_misses(report))


def _misses(report: MissReport) -> Iterator[str]:
    misses = report.misses
    first, last = misses.runs[0].cutoff, misses.runs[-1].cutoff
    yield (
        f"{len(misses.runs):,} nights from {first:%Y-%m-%d} to {last:%Y-%m-%d}, {misses.leads:,} leads, "
        f"{misses.scores:,} scores whose outcome within {misses.horizon} is known."
    )
    if report.left_out:
        yield f"Nights left out: {', '.join(f'{why} {count:,}' for why, count in report.left_out.items())}."
    yield "Misses are to be expected: a lead of 10 % that does not buy is no mistake. On its first judged night each,"
    yield _expected(
        misses.buyers_among_cold, f"cold (below the first {COLD_SHARE:.0%} of their night)", "buyers"
    )
    yield _expected(
        misses.others_among_hot, f"hot (the first {HOT_SHARE:.0%} of their night)", "who did not buy"
    )
    for side, title, word in (
        (COLD, "Spoke against leads that bought", "against"),
        (HOT, "Spoke for leads that did not buy", "for"),
    ):
        told = report.concepts.get(side, [])
        if told:
            yield f"{title} (of the listed misses; in brackets: of leads of that kind that were judged rightly):"
        for row in told[:5]:
            usual = "-" if row["usual_share"] is None else f"{row['usual_share']:.0%}"
            mean = f"{row['mean_contribution']:+.2f}"
            yield f"  {row['concept']}: {word} in {row['share']:.0%} ({usual}), on average {mean}"
    if any(row["reproduced"] is False for row in report.rows):
        yield "Some reasons are today's reconstruction: the data of before those nights was changed since."
    if report.unread:
        yield f"No reasons for scores of models that cannot be read any more: {', '.join(report.unread)}."


def _expected(counts: Expected, kind: str, whom: str) -> str:
    return (
        f"  {counts.leads:,} leads were {kind}: {counts.expected:,.1f} {whom} expected (95 % of chance: "
        f"{counts.low:,} to {counts.high:,}), {counts.observed:,} found: {counts.verdict}."
    )
