"""What the search for hindsight found: findings with evidence, severity and remedy, and the waivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from convpredict.errors import LeakageError
from convpredict.history.notebook_view import list_html, paragraph_html, table_html

Severity = Literal["severe", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "info")
Figure = float | int | str | None


@dataclass(frozen=True)
class Public:
    """What errors and notes say of a finding whose full text quotes values of the data: columns and figures only."""

    column: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One suspicion of hindsight, with what it rests on.

    ``columns`` are lead attributes, kinds of interactions, or features, as they are named in the
    configuration; ``evidence`` is a sentence with the figures, ``reason`` says why it matters and ``remedy``
    what to do. ``name`` is what a waiver names. Values of the data may stand in these: they are for the data
    scientist's own files. ``public`` is what errors and notes say instead (None: the same, as it quotes none).
    """

    check: str
    columns: tuple[str, ...]
    severity: Severity
    evidence: str
    reason: str
    remedy: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    waived: bool = False
    waiver_reason: str | None = None
    public: Public | None = None

    @property
    def name(self) -> str:
        """The check and the (first) column: ``late_filled:product``."""
        return f"{self.check}:{self.columns[0]}"

    @property
    def without_values(self) -> Public:
        """Column, evidence and remedy without values of the data."""
        return self.public or Public(self.columns[0], self.evidence, self.remedy)

    @property
    def public_name(self) -> str:
        """The name as errors and notes give it: an interaction attribute's value is left out."""
        return f"{self.check}:{self.without_values.column}"

    def to_dict(self) -> dict[str, Any]:
        """For machines, with the keys in a fixed order."""
        return {
            "name": self.name,
            "severity": self.severity,
            "columns": list(self.columns),
            "evidence": self.evidence,
            "reason": self.reason,
            "remedy": self.remedy,
            "figures": dict(self.figures),
            "waived": self.waived,
            "waiver_reason": self.waiver_reason,
        }


@dataclass(frozen=True)
class LeakageReport:
    """All findings, the severe ones first, and how much was looked at.

    ``unknown_waivers`` are waivers of the configuration that no finding bears; ``examined`` counts what was
    looked at (leads, conversions, columns, kinds).
    """

    findings: tuple[Finding, ...]
    examined: Mapping[str, int] = field(default_factory=dict)
    unknown_waivers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, findings: Iterable[Finding], waive: Mapping[str, str], examined: Mapping[str, int]
    ) -> LeakageReport:
        """Sort the findings and mark the waived ones."""
        marked = [
            replace(finding, waived=True, waiver_reason=waive[finding.name])
            if finding.name in waive
            else finding
            for finding in findings
        ]
        marked.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.name))
        names = {finding.name for finding in marked}
        return cls(tuple(marked), dict(examined), tuple(sorted(set(waive) - names)))

    @property
    def severe(self) -> tuple[Finding, ...]:
        """The severe findings that are not waived: those that stop training."""
        return tuple(found for found in self.findings if found.severity == "severe" and not found.waived)

    @property
    def flagged(self) -> frozenset[str]:
        """The columns that a severe finding or a warning names, waived or not."""
        return frozenset(
            name for found in self.findings if found.severity != "info" for name in found.columns
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each warning, each waived finding, and each waiver that fits no finding; no values."""
        lines = [
            f"{found.public_name}: {found.without_values.evidence}"
            for found in self.findings
            if found.severity == "warning"
        ]
        lines += [
            f"{found.public_name} is waived ({found.waiver_reason}): {found.without_values.evidence}"
            for found in self.findings
            if found.waived and found.severity == "severe"
        ]
        lines += [
            f"leakage.waive names '{name}', which was not found, so the waiver does nothing; remove it or "
            f"correct the name{self._known()}"
            for name in self.unknown_waivers
        ]
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """For machines: counts by severity, findings, waivers that fit nothing, what was looked at."""
        counts = {
            severity: sum(found.severity == severity for found in self.findings) for severity in SEVERITIES
        }
        return {
            "counts": counts,
            "stops_training": bool(self.severe),
            "findings": [found.to_dict() for found in self.findings],
            "unknown_waivers": list(self.unknown_waivers),
            "examined": dict(self.examined),
        }

    def raise_if_severe(self) -> None:
        """Raise :class:`~convpredict.errors.LeakageError` if a severe finding is not waived."""
        if not self.severe:
            return
        told = [(found.public_name, found.without_values) for found in self.severe]
        lines = "\n".join(f"  {name}: {public.evidence} {public.remedy}" for name, public in told)
        named = [found.name for found in self.severe if found.name == found.public_name]
        example = named[0] if named else "NAME"
        raise LeakageError(
            f"{len(self.severe)} finding{'s' if len(self.severe) > 1 else ''} of hindsight in the training data: "
            f"a model would look excellent here and fail on new leads.\n{lines}\n"
            f"Follow the remedies, or waive a finding with a reason under leakage.waive, like "
            f"'\"{example}\": \"is set at creation\"'; 'convpredict leaks CONFIG' shows the whole report, with full "
            "names."
        )

    def __repr__(self) -> str:
        return f"LeakageReport({self._summary()})"

    def _repr_html_(self) -> str:
        rows = [
            (
                found.name,
                f"{found.severity}, waived: {found.waiver_reason}" if found.waived else found.severity,
                found.evidence,
                found.remedy,
            )
            for found in self.findings
        ]
        heads = ("finding", "severity", "evidence", "remedy")
        return (
            paragraph_html(self._summary())
            + (table_html(heads, rows, text_columns=range(4)) if rows else "")
            + list_html(f"the waiver {name} fits no finding" for name in self.unknown_waivers)
        )

    def _summary(self) -> str:
        counts = self.to_dict()["counts"]
        found = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)
        seen = ", ".join(f"{count:,} {what}" for what, count in self.examined.items())
        stops = "; stops training" if self.severe else ""
        told = f"findings of hindsight: {found}{stops}" if found else "no findings of hindsight"
        return f"{told}; looked at {seen}" if seen else told

    def _known(self) -> str:
        names = ", ".join(found.public_name for found in self.findings)
        return f" (found: {names})" if names else " (nothing was found)"
