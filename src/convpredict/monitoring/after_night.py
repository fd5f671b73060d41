"""What the nightly run does once a night is published: monitor it and draw the page anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.root import Config
from ..history.history import History
from ..scoring.forget.forgotten import read_forgotten, without_forgotten
from ..scoring.nightly.session import Session
from .drift import shared_columns
from .night import Watch, judge_by, monitor_night
from .reports import parse_instant


def watch_of(config: Config, history: History) -> Watch:
    """What a configuration asks monitoring to look at."""
    return Watch(
        config=config.monitoring,
        segments=judge_by(history, config.monitoring.segments, config.evaluation.segments),
        outcome=config.labels.outcome,
        top_shares=config.evaluation.top_shares,
        confidence=config.evaluation.confidence,
    )


def after_night(session: Session, manifest: Mapping[str, Any]) -> None:
    """Write the report of a published night and the page; the scores are out already, whatever this raises."""
    from .page import write_page

    config = session.project.config
    cutoff = parse_instant(manifest["cutoff"])
    whole = session.read(session.folder.root / "quarantine" / str(manifest["run_id"]))
    history = without_forgotten(whole, read_forgotten(session.folder.root))
    model = session.choose_model(cutoff, session.afterwards)
    known = model.identity.digest == (manifest.get("model") or {}).get("digest")
    monitor_night(
        session.folder.root,
        manifest,
        model.bundle.profile if known else None,
        history,
        session.ledger,
        watch_of(config, history),
        shared=shared_columns(model.bundle.feature_set),
    )
    write_page(session.folder.root, config.monitoring, name=config.name)


def after_trouble(session: Session) -> None:
    """Draw the page anew after a night that was stopped or failed, so that it tells."""
    from .page import write_page

    config = session.project.config
    write_page(session.folder.root, config.monitoring, name=config.name)
