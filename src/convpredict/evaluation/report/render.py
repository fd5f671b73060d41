"""From inputs to one self-contained HTML page: no file, font, script or picture is fetched from anywhere."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from . import background, sections
from .inputs import ReportInputs

_FOLDER = "templates"


def render_report(inputs: ReportInputs) -> str:
    """The report as HTML; equal inputs give equal text.

    Raises ``KeyError`` if the metrics lack the part that is to be reported, ``ValueError`` for predictions
    that are no probabilities or labels (see :func:`.comparison.evaluate`).
    """
    curve = sections.replay(inputs)
    start = curve.nearest(sections.start_capacity(inputs))
    calls = dict(inputs.calls) if inputs.calls is not None else sections.calls_of(curve, start)
    style, script = _asset("report.css"), _asset("report.js")
    context: dict[str, Any] = {
        "name": inputs.name,
        "inputs": inputs,
        "style": Markup(style),
        "script": Markup(script),
        "policy": content_policy(style, script),
        "answer": sections.answer_view(inputs, calls, sections.expected_revenue_of(curve, start)),
        "calibration": sections.calibration_view(inputs),
        "gain": sections.gain_view(inputs),
        "capacity": sections.capacity_view(inputs, curve, start),
        "comparison": sections.comparison_view(inputs),
        "stability": sections.stability_view(inputs),
        "fewest": sections.FEWEST,
        "value": background.value_view(inputs),
        "importance": background.importance_view(inputs),
        "horizons": background.horizons_view(inputs),
        "quality": background.quality_view(inputs),
        "leakage": background.leakage_view(inputs),
        "card": background.model_card_view(inputs),
        "limits": background.limits_view(inputs),
        "glossary": background.GLOSSARY,
    }
    context["capacity"]["json"] = embed_json(context["capacity"]["data"])
    return _environment().get_template("report.html.j2").render(context)


def write_report(path: Path | str, inputs: ReportInputs) -> Path:
    """Write the report to a file (UTF-8, missing folders are made) and return its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_report(inputs), encoding="utf-8", newline="\n")
    return target


def content_policy(style: str, script: str) -> str:
    """The content security policy: nothing may be loaded, and only this style and this script may run.

    >>> content_policy("", "").split("; ")[0]
    "default-src 'none'"
    """
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{hashes[0]}'",
            f"script-src 'sha256-{hashes[1]}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def embed_json(content: Any) -> Markup:
    """JSON that cannot leave the script element it stands in.

    >>> embed_json({"name": "</script>"})
    Markup('{"name":"\\\\u003c/script\\\\u003e"}')
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


@cache
def _asset(name: str) -> str:
    return (files(__package__) / _FOLDER / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: (files(__package__) / _FOLDER / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
