"""What the nights of one call share, and how each of them is told to the log, the hooks and the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Literal

from ...config.load import Project
from ...config.nightly import NightlyConfig
from ...history.history import History
from ..hooks import call_hooks, hook_payload
from ..ledger.ledger import Ledger
from ..prometheus import write_prometheus, write_prometheus_again
from ..run_log import Level, RunLog
from .model import ModelChooser
from .state import NightFolder

Outcome = Literal["published", "already published", "stopped", "failed", "discarded"]
AfterNight = Callable[["Session", Mapping[str, Any]], None]
"""What is done once a night is published: monitoring. What it raises does not undo the publication."""


@dataclass(frozen=True)
class NightRun:
    """How one night ended; ``manifest`` is that of the night, empty where there is none.

    ``message`` is what the operator is told: of a stop the reasons, of a failure the error. ``exit_code`` is the one
    of this night alone.
    """

    run_id: str
    cutoff: datetime
    outcome: Outcome
    manifest: Mapping[str, Any] = field(repr=False, default_factory=dict)
    message: str = ""
    exit_code: int = 0

    @property
    def text(self) -> str:
        """What happened, for people."""
        if self.outcome in ("already published", "discarded"):
            return self.message
        if self.outcome != "published":
            return f"{self.outcome.upper()}: {self.message}"
        return "\n".join(
            [*self._account(), *(f"! {warning}" for warning in self.manifest.get("warnings", []))]
        )

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about a published night, beside what its gates say."""
        return list(self.manifest.get("warnings", [])) if self.outcome == "published" else []

    def _account(self) -> list[str]:
        """What was published where, and what the gates doubt."""
        waived = self.manifest.get("waived") or {}
        gates = self.manifest.get("gates", [])
        passed = [gate for gate in gates if gate["verdict"] == "stop" and gate["gate"] in waived]
        return [
            f"{self.run_id}: {self.manifest['leads']:,} open leads scored as of {self.cutoff:%Y-%m-%d %H:%M} UTC, "
            f"{self.manifest['expected_conversions']:.1f} conversions expected, by {_model(self.manifest)}",
            *(_place(target) for target in self.manifest.get("targets", [])),
            *(f"! [{gate['gate']}] {gate['message']} (waived: {waived[gate['gate']]})" for gate in passed),
            *(f"! {gate['message']}" for gate in gates if gate["verdict"] == "warn"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """For machines: without the manifest's bulk."""
        model = self.manifest.get("model") or {}
        return {
            "run_id": self.run_id,
            "cutoff": self.cutoff.isoformat(),
            "outcome": self.outcome,
            "model": {key: model.get(key) for key in ("name", "version", "digest")} if model else None,
            "leads": self.manifest.get("leads"),
            "gates": self.manifest.get("gates", []),
            "targets": self.manifest.get("targets", []),
            "message": self.message,
            "exit_code": self.exit_code,
        }


def text_of(nights: Sequence[NightRun]) -> str:
    """What happened in all nights of a call, for people; a warning that several of them share is told once."""
    shared = Counter(warning for night in nights for warning in night.warnings)
    told: set[str] = set()
    lines: list[str] = []
    for night in nights:
        if not night.warnings:
            lines.append(night.text)
            continue
        lines += night._account()
        for warning in night.warnings:
            if warning not in told:
                lines.append(f"! {warning}" + (f" ({shared[warning]} nights)" if shared[warning] > 1 else ""))
            told.add(warning)
    return "\n".join(lines)


@dataclass(frozen=True)
class Session:
    """The project, its nightly folder, and the parts that every night works with.

    ``read`` gives the history, read once for all nights when the first one asks, with the folder for rows that break
    the contract. ``waived``: gates that may stop no night of this call, with the reason. ``afterwards``: these nights
    are filled in later than they were; ``named``: the caller named the cutoff. ``after_trouble`` is called for a night
    that was not published. ``clock`` tells the time for manifests, and for nothing that is published. ``interrupted``
    is set by the handler of a signal: a library that is interrupted may raise an error of its own instead of
    KeyboardInterrupt.
    """

    project: Project
    folder: NightFolder
    choose_model: ModelChooser
    read: Callable[[Path], History]
    log: RunLog
    waived: Mapping[str, str] = field(default_factory=dict)
    again: str | None = None
    afterwards: bool = False
    named: bool = False
    after_night: AfterNight | None = None
    after_trouble: Callable[[Session], None] | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    interrupted: Event = field(default_factory=Event)

    @property
    def settings(self) -> NightlyConfig:
        """The section ``nightly`` of the configuration."""
        return self.project.config.nightly

    @property
    def base_folder(self) -> Path:
        """The folder that relative paths of the section ``nightly`` start from."""
        return self.project.path.parent

    @property
    def ledger(self) -> Ledger:
        """The project's ledger."""
        return Ledger(self.folder.root / "ledger")

    def check_interrupted(self) -> None:
        """Raise KeyboardInterrupt if a signal has asked for the end, whatever became of the one that it raised."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt

    def now(self) -> str:
        """The present instant, for a manifest."""
        return self.clock().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def event(self, event: str, run_id: str, *, level: Level = "info", **fields: Any) -> None:
        """Write a line of a night's log."""
        self.log.of_run(run_id).event(event, level=level, **fields)

    def measure(self, manifest: Mapping[str, Any], exit_code: int) -> None:
        """Write the metrics file, if there is one and the night is the latest; what fails of it is logged."""
        if manifest.get("current", True):
            self._measure(manifest, lambda path: write_prometheus(path, manifest, exit_code))

    def measure_again(self, manifest: Mapping[str, Any]) -> None:
        """Write the metrics of a night that was published before, unless the file tells of a later one."""
        if manifest.get("current", True):
            self._measure(manifest, lambda path: write_prometheus_again(path, manifest, self.clock()))

    def _measure(self, manifest: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        if self.settings.prometheus is None:
            return
        try:
            write(self.base_folder / self.settings.prometheus)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.event("metrics_failed", str(manifest["run_id"]), level="warning", message=reason)

    def show_trouble(self) -> None:
        """Draw the page of monitoring anew for a night that was not published; what fails of it is logged."""
        if self.after_trouble is None:
            return
        try:
            self.after_trouble(self)
        except Exception as error:
            self.log.event("page_failed", level="warning", message=type(error).__name__)

    def tell(self, manifest: Mapping[str, Any], exit_code: int) -> None:
        """Write the metrics file and call the hooks for a night that has ended; what fails of it is logged.

        The metrics tell of the latest night: one that is filled in behind it does not touch them. After an
        interruption every hook gets one try of at most 5 seconds: whoever sent the signal waits for the end.
        """
        run_id = str(manifest["run_id"])
        self.measure(manifest, exit_code)
        outcome = "warned" if _is_doubtful(manifest) else manifest["status"]
        payload = hook_payload(manifest, outcome, exit_code)
        hurried = self.interrupted.is_set()
        for result in call_hooks(self.settings.hooks, outcome, payload, hurried=hurried):
            self.event(
                "hook",
                run_id,
                level="info" if result.ok else "warning",
                ok=result.ok,
                attempts=result.attempts,
                seconds=result.seconds,
                message=result.message,
            )


def _model(manifest: Mapping[str, Any]) -> str:
    """The model of a night in words: its version, or the bundle where it is not from the registry."""
    model = manifest["model"]
    return f"version {model['version']}" if model["version"] else f"the bundle {model['digest'][:12]}"


def _place(target: Mapping[str, Any]) -> str:
    if target["current"]:
        return f"  published to {target['target']}"
    kept = "kept beside the newer scores in" if target["changed"] else "not needed in"
    return f"  {kept} {target['target']}"


def _is_doubtful(manifest: Mapping[str, Any]) -> bool:
    doubtful = any(gate["verdict"] in ("warn", "stop") for gate in manifest.get("gates", []))
    return manifest["status"] == "published" and (doubtful or bool(manifest.get("warnings")))
