"""What is published, and what every place that scores are published to promises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import PublishError

PUBLICATIONS = "convpredict_publications"
"""The table beside a score table in a database: one row for each score table, saying what it holds."""

LONGEST_RUN_ID = 200
"""File systems allow names of 255 bytes; what is put before and behind a run id needs some of them."""

_RUN_ID = re.compile(r"[\w.][\w.-]*")
_REPETITION = re.compile(r"-\d{8}T\d{6}Z-(\d+)$")


@dataclass(frozen=True)
class Publication:
    """One night's scores as published: which run, of which project, at which cutoff (UTC), and what they say.

    ``rows`` are those that readers see. ``content_hash`` is that of the score table when it was published (see
    :func:`convpredict.scoring.content_hash.content_hash`), before ``erased`` of its rows were erased.
    """

    run_id: str
    name: str
    cutoff: datetime
    rows: int
    content_hash: str
    erased: int = 0

    @property
    def order(self) -> tuple[datetime, int]:
        """Cutoff and repetition: a publication may take the place of one that is smaller in this order.

        >>> at = datetime(2024, 5, 1, tzinfo=UTC)
        >>> first = Publication("shop-20240501T000000Z", "shop", at, 1, "0")
        >>> again = Publication("shop-20240501T000000Z-2", "shop", at, 1, "1")
        >>> first.order < again.order
        True
        """
        match = _REPETITION.search(self.run_id)
        return self.cutoff, int(match[1]) if match else 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; the cutoff in ISO 8601."""
        return {**asdict(self), "cutoff": self.cutoff.astimezone(UTC).isoformat()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Publication:
        """The publication that :meth:`to_dict` gave; what a later version added is ignored."""
        known = {field.name: content[field.name] for field in fields(cls) if field.name in content}
        return cls(**{**known, "cutoff": datetime.fromisoformat(known["cutoff"]).astimezone(UTC)})

    def without(self, rows: int) -> Publication:
        """The same publication after ``rows`` more of its rows were erased."""
        return replace(self, rows=self.rows - rows, erased=self.erased + rows)


@dataclass(frozen=True)
class Published:
    """What a publisher did.

    ``target`` names the place. ``changed``: whether anything was written. ``current``: whether readers see this run
    now; not so for an older night that was let in by ``older_ok``.
    """

    target: str
    rows: int
    content_hash: str
    changed: bool
    current: bool
    published_at: datetime


class Publisher(Protocol):
    """A place where readers find the scores of the latest night: all of one night or all of the next, never a mixture.

    Every method raises PublishError when the place cannot be read or written: readers then still see what they saw.
    """

    def publish(self, scores: pa.Table, publication: Publication, *, older_ok: bool = False) -> Published:
        """Put a night's scores in the place of the former ones, in one step.

        The same run again changes nothing. A night that is not newer than the current one is refused, unless
        ``older_ok``: then it is kept where the place keeps runs, and does not become current.
        """
        ...

    def current(self) -> Publication | None:
        """What readers see now, read from the place itself; None before the first publication."""
        ...

    def kept(self, run_id: str) -> Publication | None:
        """What the place holds of a run, be it the current one or not; None: nothing."""
        ...

    def erase(self, lead_ids: Sequence[object]) -> int:
        """Remove the leads' rows from everything published here, also from the bytes; returns how many rows went."""
        ...

    def find(self, lead_ids: Sequence[object]) -> list[str]:
        """Where these leads still occur: files or tables, by name."""
        ...

    def describe(self) -> str:
        """The place in words, without anything secret."""
        ...


def names_a_place(run_id: str) -> bool:
    """Whether a run id may name the folders and files of a publication.

    >>> names_a_place("demo-20250601T000000Z"), names_a_place("-demo-20250601T000000Z")
    (True, False)
    """
    return _RUN_ID.fullmatch(run_id) is not None and len(run_id) <= LONGEST_RUN_ID


def check_scores(scores: pa.Table, publication: Publication) -> None:
    """Raise PublishError unless the table is that of this publication: one row per lead, one run, one cutoff."""
    problem = None
    if missing := [name for name in ("lead_id", "cutoff", "run_id") if name not in scores.column_names]:
        problem = f"they lack the column {missing[0]}"
    elif not names_a_place(publication.run_id):
        problem = (
            f"the run id {publication.run_id!r} names folders and must consist of letters, digits, '.', '-' and '_', "
            f"begin with no '-', and have at most {LONGEST_RUN_ID} characters; "
            "change 'name' in the configuration"
        )
    elif scores.num_rows != publication.rows:
        problem = f"they have {scores.num_rows:,} rows, but {publication.rows:,} were announced"
    elif scores["lead_id"].null_count:
        problem = f"{scores['lead_id'].null_count:,} rows have no lead_id"
    elif (distinct := pc.count_distinct(scores["lead_id"]).as_py()) != scores.num_rows:
        problem = (
            f"{scores.num_rows - distinct:,} rows repeat a lead_id: a reader could not tell which one counts"
        )
    elif any(value != publication.run_id for value in pc.unique(scores["run_id"]).to_pylist()):
        problem = f"some rows are of another run than {publication.run_id}"
    elif any(value != publication.cutoff for value in pc.unique(scores["cutoff"]).to_pylist()):
        problem = f"some rows are of another cutoff than {publication.cutoff:%Y-%m-%d %H:%M} UTC"
    if problem:
        raise PublishError(f"These scores are not published: {problem}.")


def decide(
    publication: Publication, current: Publication | None, place: str, *, older_ok: bool
) -> Literal["publish", "unchanged", "older"]:
    """What to do with a publication, given what readers see now (its rows counted, not only recorded).

    Raises PublishError where the current one is newer (unless ``older_ok``), belongs to another project, or is the
    same run with other content.
    """
    if current is None:
        return "publish"
    if current.name != publication.name:
        raise PublishError(
            f"{place} holds the scores of {current.name!r}, not of {publication.name!r}: two projects that share a "
            "place would replace each other's scores. Give each its own under nightly.publish."
        )
    if current.run_id == publication.run_id:
        check_same(publication, current, place)
        if current.rows + current.erased == publication.rows:
            return "unchanged"
        if current.erased:
            raise PublishError(
                f"{place} was changed by hand after {current.erased:,} rows of run {current.run_id} were erased: to "
                "publish this run again would bring them back. Publish a newer night, or the same one with --again "
                "REASON."
            )
        return "publish"
    if publication.order > current.order:
        return "publish"
    if older_ok:
        return "older"
    raise PublishError(
        f"{place} already holds run {current.run_id} (cutoff {current.cutoff:%Y-%m-%d %H:%M} UTC), and run "
        f"{publication.run_id} (cutoff {publication.cutoff:%Y-%m-%d %H:%M} UTC) is not newer: readers would go back in "
        "time. Nothing was changed."
    )


def check_same(publication: Publication, kept: Publication, place: str) -> None:
    """Raise PublishError unless a run that is already there has the content that is to be published."""
    if kept.content_hash != publication.content_hash:
        raise PublishError(
            f"{place} already holds run {publication.run_id}, with other content (hash {kept.content_hash[:12]}, not "
            f"{publication.content_hash[:12]}): what readers have seen under a run id must not change. Run the night "
            "again with --again REASON, which gives it a run id of its own."
        )


def unowned(place: str) -> PublishError:
    """The error for scores, or anything else, that lie in the place without a record of ours."""
    return PublishError(
        f"{place} holds something that convpredict has not published: it is not overwritten. Move it away, or name "
        "another place under nightly.publish."
    )


def done(place: str, publication: Publication, *, changed: bool, current: bool = True) -> Published:
    """The account of a publication that ended now."""
    return Published(place, publication.rows, publication.content_hash, changed, current, datetime.now(UTC))


def as_text(lead_ids: Sequence[object]) -> list[str]:
    """Lead ids as text, each once, sorted: ids are compared as text, for columns may hold numbers."""
    return sorted({str(lead_id) for lead_id in lead_ids})
