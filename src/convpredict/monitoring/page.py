"""The page of monitoring: one self-contained HTML file from the manifests and reports of the last nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..config.base import Duration
from ..config.monitoring import MonitoringConfig
from ..evaluation.report.charts import interval_strip, strip_scale
from ..evaluation.report.numbers import (
    brackets,
    count,
    day,
    decimal,
    entry_text,
    is_known,
    percent,
    percent_brackets,
)
from ..evaluation.report.render import content_policy
from ..files import write_text
from . import page_charts as charts
from .alarms import CALIBRATED
from .realised import pool
from .reports import FOLDER, NightReport, judged_before, parse_instant, read_manifests, read_reports
from .weights import published_nights, weighted

PAGE = "index.html"
MOST_POINTS = 13
"""Judged nights are shown in this many stretches at most: single nights are mostly chance."""

_DRIFT_ROWS = 12
_SEGMENT_ROWS = 10
_CONFIDENCE = 0.95
View = dict[str, Any]


def write_page(folder: Path, config: MonitoringConfig, *, name: str = "") -> Path:
    """Write ``monitoring/index.html`` below the nightly folder, and return its path; equal states give equal bytes.

    Shows the last ``config.nights`` nights. Raises DataError where a manifest or report cannot be read.
    """
    page = folder / FOLDER / PAGE
    write_text(
        render_page(read_manifests(folder), read_reports(folder), nights=config.nights, name=name), page
    )
    return page


def render_page(
    manifests: Sequence[Mapping[str, Any]],
    reports: Sequence[NightReport],
    *,
    nights: int = 90,
    name: str = "",
) -> str:
    """The page as HTML, from manifests and reports in the order of their cutoffs."""
    shown = list(manifests)[-nights:]
    by_run = {report.run_id: report for report in reports}
    last = next((by_run[m["run_id"]] for m in reversed(shown) if m["run_id"] in by_run), None)
    rows = [_night_row(manifest, by_run.get(manifest["run_id"])) for manifest in shown]
    style = _asset("evaluation/report", "report.css") + "\n" + _asset("monitoring", "monitoring.css")
    script = _asset("evaluation/report", "report.js")
    first = shown[0]["cutoff"] if shown else None
    judged = weighted(list(judged_before(reports).values()), published_nights(manifests))
    judged = [entry for entry in judged if first is None or _after(entry, first)]
    context: View = {
        "name": name or (str(shown[-1]["name"]) if shown else "nights"),
        "style": Markup(style),
        "script": Markup(script),
        "policy": content_policy(style, script),
        "answer": _answer(shown, last),
        "alarms": list(last.alarms) if last else [],
        "rows": rows[::-1],
        "strip": charts.status_strip(rows),
        "volume": _volume(rows),
        "drift": _drift(shown, by_run, last),
        "realised": _realised(judged, last),
        "models": _models(shown),
        "window": nights,
    }
    return _environment().get_template("monitoring.html.j2").render(context)


def _after(entry: Mapping[str, Any], first: Any) -> bool:
    """Judged nights may be older than the first night on the page by their horizon: those still speak of it."""
    horizon = Duration(str(entry["horizon"]))
    return (
        parse_instant(entry["cutoff"]).timestamp() + horizon.microseconds / 1e6
        >= parse_instant(first).timestamp()
    )


def _night_row(manifest: Mapping[str, Any], report: NightReport | None) -> View:
    gates = [gate for gate in manifest.get("gates") or [] if gate["verdict"] in ("warn", "stop")]
    status = str(manifest["status"])
    tone = "warned" if status == "published" and gates else status
    night = str(manifest["cutoff"])[:16].replace("T", " ")
    drift = list(report.drift) if report else []
    score = next((column for column in drift if column["column"] == "score"), None)
    model = manifest.get("model") or {}
    told = "; ".join(str(gate["message"]) for gate in gates) or str(manifest.get("error") or "")
    return {
        "night": str(manifest["cutoff"]),
        "shown": night,
        "run_id": manifest["run_id"],
        "status": "published, with warnings" if tone == "warned" else status,
        "tone": tone,
        "told": told,
        "tip": f"{night}: {status}{f', {told}' if told else ''}",
        "leads": manifest.get("leads"),
        "expected": manifest.get("expected_conversions"),
        "leads_text": count(manifest.get("leads")),
        "expected_text": decimal(manifest.get("expected_conversions"), 1),
        "psi": score["psi"] if score else None,
        "psi_text": decimal(score["psi"], 3) if score else "–",
        "drifted": str(sum(column["drifted"] for column in drift)) if drift else "–",
        "alarms": str(len(report.alarms)) if report else "–",
        "model": str(model.get("version") or str(model.get("digest", ""))[:8] or "–"),
    }


def _answer(shown: Sequence[Mapping[str, Any]], last: NightReport | None) -> View:
    """The headline, three verdicts and the figures of the last night."""
    newest = shown[-1] if shown else None
    alarms = list(last.alarms) if last else []
    if newest is None:
        return {"headline": "No night has been run yet.", "verdicts": [], "figures": []}
    stopped = newest["status"] != "published"
    if stopped:
        headline = (
            f"The last night, {day(newest['cutoff'])}, was {newest['status']}: readers keep earlier scores."
        )
    elif alarms:
        number = f"{len(alarms)} alarms stand" if len(alarms) > 1 else "An alarm stands"
        headline = f"{number} after the night of {day(newest['cutoff'])}."
    else:
        headline = f"The night of {day(newest['cutoff'])} was published, and no alarm stands."
    kinds = {alarm["kind"] for alarm in alarms}
    model = newest.get("model") or {}
    horizon, pooled = next(iter(last.realised.items()), (None, None)) if last else (None, None)
    return {
        "headline": headline,
        "verdicts": [
            _night_verdict(newest),
            _drift_verdict(last, kinds),
            _realised_verdict(horizon, pooled, kinds),
        ],
        "figures": [
            {"title": "Leads scored", "value": count(newest.get("leads")), "interval": ""},
            {
                "title": "Conversions expected",
                "value": decimal(newest.get("expected_conversions"), 1),
                "interval": "sum of the probabilities",
            },
            {
                "title": f"Promised / observed within {horizon}" if horizon else "Promised / observed",
                "value": decimal(pooled["ratio"], 2) if pooled else "–",
                "interval": brackets(pooled["low"], pooled["high"], 2)
                if pooled
                else "no outcome is settled yet",
            },
            {
                "title": "Model",
                "value": f"version {model['version']}"
                if model.get("version")
                else str(model.get("digest", ""))[:8],
                "interval": f"trained until {day(model.get('trained_until'))}",
            },
        ],
    }


def _night_verdict(newest: Mapping[str, Any]) -> View:
    gates = [gate for gate in newest.get("gates") or [] if gate["verdict"] in ("warn", "stop")]
    if newest["status"] != "published":
        why = "; ".join(gate["message"] for gate in gates) or str(newest.get("error") or "")
        return _verdict("Was the last night published?", "bad", "No", why)
    if gates:
        why = "; ".join(gate["message"] for gate in gates)
        return _verdict("Was the last night published?", "open", "With warnings", why)
    return _verdict("Was the last night published?", "good", "Yes", "No gate had anything to say.")


def _drift_verdict(last: NightReport | None, kinds: set[str]) -> View:
    question = "Are leads and scores as they were?"
    if last is None or not last.drift:
        return _verdict(question, "open", "Not judged", "The model has no profile of its training data.")
    drifted = sum(column["drifted"] for column in last.drift)
    if kinds & {"scores", "columns"}:
        return _verdict(question, "bad", "No", f"{drifted} of {len(last.drift)} distributions have drifted.")
    return _verdict(
        question,
        "good",
        "Yes",
        f"None of {len(last.drift)} distributions has moved beyond chance and its own past.",
    )


def _realised_verdict(horizon: str | None, pooled: Mapping[str, Any] | None, kinds: set[str]) -> View:
    question = "Do the scores come true?"
    if pooled is None:
        return _verdict(
            question, "open", "Not known yet", "No night is old enough for its outcomes to be settled."
        )
    why = (
        f"{decimal(pooled['expected'], 0)} conversions within {horizon} were promised, "
        f"{decimal(pooled['observed'], 0)} came."
    )
    if kinds & {"quality", "level", "loss"}:
        return _verdict(question, "bad", "Not everywhere", why)
    wide = not is_known(pooled["high"]) or pooled["low"] < CALIBRATED[0] or pooled["high"] > CALIBRATED[1]
    return _verdict(question, "open" if wide else "good", "No alarm" if wide else "Yes", why)


def _verdict(question: str, tone: str, answer: str, why: str) -> View:
    return {"question": question, "tone": tone, "answer": answer, "why": why}


def _volume(rows: Sequence[View]) -> View:
    return {
        key: charts.over_nights_chart(
            title,
            [
                {
                    "night": row["night"],
                    "value": row[key],
                    "tip": f"{row['shown']}: {row[f'{key}_text']} {unit}",
                }
                for row in rows
            ],
            y_title=unit,
        )
        for key, title, unit in (
            ("leads", "Leads scored", "leads"),
            ("expected", "Conversions expected", "conversions expected"),
        )
    }


def _drift(
    shown: Sequence[Mapping[str, Any]], by_run: Mapping[str, NightReport], last: NightReport | None
) -> View | None:
    reports = [by_run[m["run_id"]] for m in shown if m["run_id"] in by_run and by_run[m["run_id"]].drift]
    if not reports or last is None or not last.drift:
        return None
    points = []
    for report in reports:
        own = next(column for column in report.drift if column["column"] == "score")
        points.append(
            {
                "night": report.cutoff,
                "value": own["psi"],
                "chance": own["chance"],
                "alarm": own["drifted"],
                "tip": f"{report.cutoff[:10]}: PSI {own['psi']:.3f}, chance gives {own['chance']:.3f}",
            }
        )
    numbers = [
        {
            "night": report.cutoff,
            "value": float(sum(column["drifted"] for column in report.drift)),
            "tip": f"{report.cutoff[:10]}: {sum(column['drifted'] for column in report.drift)} drifted",
        }
        for report in reports
    ]
    columns = sorted(
        last.drift,
        key=lambda column: (
            not column["drifted"],
            not column["judged"],
            -column["psi"],
            column["column"],
        ),
    )
    return {
        "scores": charts.over_nights_chart(
            "Drift of the scores", points, y_title="PSI of the scores", reference="chance"
        ),
        "count": charts.over_nights_chart("Columns that have drifted", numbers, y_title="drifted columns"),
        "head": ["column", "PSI", "chance gives", "its own past", "Jensen-Shannon (bits)", "drifted"],
        "rows": [_drift_row(column) for column in columns[:_DRIFT_ROWS]],
        "all": [_drift_row(column) for column in columns],
        "last": last.cutoff[:10],
    }


def _drift_row(column: Mapping[str, Any]) -> list[str]:
    figures = [decimal(column[key], 3) for key in ("psi", "chance", "natural", "jensen_shannon")]
    judged = "yes" if column["drifted"] else "no" if column["judged"] else "not judged"
    return [str(column["column"]), *figures, judged]


def _realised(judged: Sequence[Mapping[str, Any]], last: NightReport | None) -> list[View]:
    """For each horizon the charts over time, the captured converters and the segments."""
    horizons = sorted(
        {str(entry["horizon"]) for entry in judged}, key=lambda each: Duration(each).microseconds
    )
    views = []
    for horizon in horizons:
        nights = sorted(
            (e for e in judged if e["horizon"] == horizon), key=lambda entry: str(entry["cutoff"])
        )
        stretches = _stretches(nights)
        top = _top_share(nights)
        whole = pool(nights, _CONFIDENCE)
        points = [_point(own) for own in stretches]
        views.append(
            {
                "horizon": horizon,
                "nights": len(nights),
                "tested": any(change["horizon"] == horizon for change in (last.changes if last else ())),
                "stretch": max(len(own) for own in stretches),
                "ratio": charts.ratio_chart(f"Promised over observed within {horizon}", points),
                "captured": charts.captured_chart(
                    f"Converters captured within {horizon}",
                    [{**point, **point["captured"][top]} for point in points],
                    float(top),
                ),
                "top": percent(float(top)),
                "facts": _facts(whole),
                "captured_rows": [
                    [
                        f"top {percent(float(share))}",
                        decimal(own["found"], 1),
                        decimal(own["of"], 1),
                        percent(own["share"], 2),
                        percent_brackets(own["low"], own["high"], 2),
                    ]
                    for share, own in whole["captured"].items()
                ],
                "groups": [
                    {"title": attribute, "rows": _segment_rows(attribute, values, horizon, last)}
                    for attribute, values in whole["segments"].items()
                ],
                "rows": [
                    [
                        f"{point['first'][:10]} to {point['last'][:10]}",
                        decimal(point["expected"], 1),
                        decimal(point["observed"], 1),
                        decimal(point["ratio"], 2),
                        brackets(point["low"], point["high"], 2),
                        decimal(point["loss"], 5),
                        decimal(point["promised_loss"], 5),
                    ]
                    for point in points
                ],
            }
        )
    return views


def _stretches(nights: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Consecutive nights, evenly many in each stretch but the first."""
    size = -(-len(nights) // MOST_POINTS)
    begin = len(nights) % size
    bounds = ([0] if begin else []) + list(range(begin, len(nights), size))
    return [list(nights[low:high]) for low, high in zip(bounds, [*bounds[1:], len(nights)], strict=True)]


def _point(own: Sequence[Mapping[str, Any]]) -> View:
    return {**pool(own, _CONFIDENCE), "night": own[len(own) // 2]["cutoff"]}


def _top_share(nights: Sequence[Mapping[str, Any]]) -> str:
    return str(min(nights[-1]["captured"], key=lambda share: abs(float(share) - 0.1)))


def _facts(whole: Mapping[str, Any]) -> list[tuple[str, str]]:
    ratio = entry_text({"value": whole["ratio"], "low": whole["low"], "high": whole["high"]}, 2)
    return [
        ("Promised", decimal(whole["expected"], 1)),
        ("Came", decimal(whole["observed"], 1)),
        ("Promised / observed", f"{ratio['value']} {ratio['interval']}"),
        ("Log loss", f"{decimal(whole['loss'], 5)}, promised {decimal(whole['promised_loss'], 5)}"),
        ("Against the promise", f"{decimal(whole['loss_excess'], 1, signed=True)} standard deviations"),
    ]


def _segment_rows(
    attribute: str, values: Mapping[str, Mapping[str, Any]], horizon: str, last: NightReport | None
) -> list[View]:
    tests = {
        change["value"]: change
        for change in (last.changes if last else ())
        if change["attribute"] == attribute and change["horizon"] == horizon
    }
    shown = list(values.items())[:_SEGMENT_ROWS]
    ends = [own[key] for _, own in shown for key in ("ratio", "low", "high") if is_known(own[key])]
    scale = strip_scale(ends, 1.0, log=True)
    rows = []
    for value, own in shown:
        test = tests.get(value)
        off = own["low"] > 1 or (is_known(own["high"]) and own["high"] < 1)
        rows.append(
            {
                "name": value,
                "expected": decimal(own["expected"], 1),
                "observed": decimal(own["observed"], 1),
                "ratio": decimal(own["ratio"], 2) if is_known(own["ratio"]) else "none came",
                "interval": brackets(own["low"], own["high"], 2),
                "strip": interval_strip(own["ratio"], own["low"], own["high"], scale, 1.0, "model"),
                "off": off,
                "changed": bool(test and test["changed"]),
                "change": (
                    f"{test['factor']:.2f} times since about {test['began'][:10]}"
                    if test and test["changed"]
                    else "none seen"
                    if test
                    else "–"
                ),
            }
        )
    return rows


def _models(shown: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row per stretch of nights with the same model, the newest first."""
    stretches: list[list[Mapping[str, Any]]] = []
    for manifest in shown:
        model = manifest.get("model") or {}
        if not model:
            continue
        if not stretches or (stretches[-1][-1]["model"] or {}).get("digest") != model.get("digest"):
            stretches.append([])
        stretches[-1].append(manifest)
    return [
        [
            str(own[0]["model"].get("version") or "–"),
            str(own[0]["model"].get("digest", ""))[:12],
            day(own[0]["model"].get("trained_until")),
            day(own[0]["cutoff"]),
            day(own[-1]["cutoff"]),
            str(len(own)),
        ]
        for own in reversed(stretches)
    ]


@cache
def _asset(package: str, name: str) -> str:
    root = files("convpredict").joinpath(*package.split("/"))
    return (root / "templates" / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(
            lambda name: _asset("evaluation/report" if name.startswith("macros") else "monitoring", name)
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
