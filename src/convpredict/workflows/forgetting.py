"""Erase leads from everything that a project wrote, and prove it by a search."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import BusyError, ConfigError, ConvpredictError
from .common import StepProgress, nightly_folder, read_history, silent
from .forgetting_places import Located, locate

if TYPE_CHECKING:
    from ..scoring.forget.erasure import Leftover, Search, TrainedOn
    from ..scoring.forget.forgotten import Forgotten
    from ..scoring.forget.names import LeadNames
    from ..scoring.forget.remote import RemoteRuns


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained on some of the leads; ``version`` is empty where it is not in the registry."""

    folder: str
    lead_ids: tuple[str, ...]
    observations: dict[str, int]
    version: str = ""
    aliases: tuple[str, ...] = ()


_NOWHERE = (
    "nothing of {} was found anywhere, neither in what was written nor in the sources; to erase a person, "
    "look at how the id is written there, and forget that one"
)


@dataclass(frozen=True)
class Forgetting:
    """What was erased and what a search found afterwards.

    ``erased``: rows by place. ``known_before``: who had been forgotten before. ``in_sources``: for each lead whether
    the sources still hold it (None: they could not be read). ``notes``: what nobody can know from here. ``unproved``:
    places that training wrote and that were not found, of which the search proves nothing.
    ``removed``: files with counts of groups in which a lead may have been alone. ``nowhere``: ids that stood in no
    place and no source, and had not been forgotten before.
    """

    lead_ids: tuple[str, ...]
    known_before: tuple[str, ...]
    erased: dict[str, int]
    models: tuple[TrainedModel, ...]
    in_sources: dict[str, bool | None]
    search: Search
    notes: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    nowhere: tuple[str, ...] = ()

    @property
    def leftovers(self) -> tuple[Leftover | str, ...]:
        """What still holds one of the ids, and what could not be looked at: empty if the erasure is proved."""
        return (*self.search.leftovers, *self.search.unread, *self.unproved)

    @property
    def text(self) -> str:
        """The account for people."""
        return "\n".join(_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """The account for machines."""
        return {
            "leads": list(self.lead_ids),
            "known_before": list(self.known_before),
            "erased": self.erased,
            "models": [vars(model) for model in self.models],
            "in_sources": self.in_sources,
            "searched": {"files": self.search.files, "bytes": self.search.bytes},
            "leftovers": [vars(leftover) for leftover in self.search.leftovers],
            "unread": list(self.search.unread),
            "notes": list(self.notes),
            "not_proved": list(self.unproved),
            "removed": list(self.removed),
            "nowhere": list(self.nowhere),
        }


def forget(
    config: Path,
    lead_ids: Sequence[str],
    *,
    also: Sequence[Path] = (),
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> Forgetting:
    """Erase leads from ledger, published scores, unfinished nights, quarantine, training sets and MLflow artifacts.

    A salted hash of each id stays in the nightly folder, so that no later night takes the lead up again. ``also``:
    further folders and files to erase from, such as lists that ``convpredict score`` wrote. Doing it again is harmless.

    Raises BusyError while a nightly run or another command that writes rows of leads is at work, or while a night has
    not finished publishing.
    """
    from ..scoring.forget.at_work import alone
    from ..scoring.forget.erasure import erase_everywhere, search_everywhere, training_sets
    from ..scoring.forget.forgotten import read_forgotten, write_forgotten
    from ..scoring.forget.names import LeadNames
    from ..scoring.nightly.lock import holding_lock

    project = load_project(config, data=data, overrides=overrides)
    names = LeadNames.of([lead for lead in lead_ids if lead.strip()], project.config.history)
    if not names.ids:
        raise ConfigError("there is no lead to forget; name at least one id")
    root = nightly_folder(project)
    with holding_lock(root, "forget"), alone(root):
        located = locate(project, also)
        places = located.places
        if decided := places.state.decided():
            raise BusyError(
                f"the night {decided[0]} is decided but not published everywhere yet, and erasing now would leave it "
                "half done; let 'convpredict nightly' finish it first"
            )
        progress("looking for training sets", 0.0)
        trained = training_sets(names, [*places.results, *places.artifacts])
        former = read_forgotten(places.state.root)
        known = tuple(lead for lead in names.ids if lead in former)
        noted = former.adding(names.ids)
        for each in trained:
            noted = noted.noting(each.digest, each.lead_ids)
        if noted != former:
            write_forgotten(places.state.root, noted)
        progress("erasing", 0.2)
        done = erase_everywhere(names, places)
        erased = done.rows
        for remote in _remote(project, located):
            erased |= remote.erase(names, done.found)
        progress("searching", 0.5)
        found = search_everywhere(names, places, done.unread)
        for remote in _remote(project, located):
            found = replace(found, leftovers=(*found.leftovers, *remote.find(names)))
    progress("reading the sources", 0.9)
    models, notes = _models(project, names, trained, noted, located.stores)
    in_sources = _in_sources(project, names)
    met = done.found.union(known, *(model.lead_ids for model in models))
    nowhere = tuple(lead for lead in names.ids if lead not in met and in_sources[lead] is False)
    return Forgetting(
        names.ids,
        known,
        erased,
        models,
        in_sources,
        found,
        (*notes, *_counts_removed(done.removed), *_limits(names)),
        (*located.missing, *(_NOWHERE.format(lead) for lead in nowhere)),
        done.removed,
        nowhere,
    )


def _remote(project: Project, located: Located) -> Iterator[RemoteRuns]:
    """The artifacts that lie elsewhere, store by store; each is asked while it is the one that is used."""
    from ..scoring.forget.remote import RemoteRuns
    from ..tracking.store import at_store

    for uri, runs in located.elsewhere.items():
        if runs:
            with at_store(uri):
                yield RemoteRuns(runs, project.config.tracking)


def _models(
    project: Project,
    names: LeadNames,
    trained: Sequence[TrainedOn],
    noted: Forgotten,
    stores: Sequence[str],
) -> tuple[tuple[TrainedModel, ...], list[str]]:
    """The models that were trained on the leads, now or by what was noted when they were first forgotten."""
    from ..tracking.registry import list_versions
    from ..tracking.store import at_store
    from ..tracking.versions import MANIFEST

    versions = []
    notes: list[str] = []
    for uri in stores:
        try:
            with at_store(uri):
                versions += list_versions(project.config.name, project.config.tracking)
        except ConvpredictError as error:
            notes.append(f"The model registry could not be asked: {error}")
    by_digest: dict[str, list[Any]] = {}
    for version in versions:
        by_digest.setdefault(version.tags.get(MANIFEST, ""), []).append(version)
    found: list[TrainedModel] = []
    told = [(str(each.folder), each.digest, each.lead_ids, each.observations) for each in trained]
    fresh = {each.digest for each in trained}
    earlier = {
        digest: tuple(noted.held(digest, names.ids)) for digest in noted.trained_on if digest not in fresh
    }
    told += [(f"training set {digest[:12]}", digest, held, {}) for digest, held in earlier.items() if held]
    for folder, digest, leads, counts in told:
        made = by_digest.get(digest, [])
        found += [TrainedModel(folder, leads, counts, each.version, each.aliases) for each in made]
        if not made:
            found.append(TrainedModel(folder, leads, counts))
    kept = {digest for digest in by_digest if digest in fresh or digest in noted.trained_on}
    if unknown := [
        version.version for digest, all_ in by_digest.items() if digest not in kept for version in all_
    ]:
        notes.append(
            f"Whether version {', '.join(unknown)} was trained on them cannot be told unless its training set is among "
            "the folders that were searched."
        )
    return tuple(found), notes


def _in_sources(project: Project, names: LeadNames) -> dict[str, bool | None]:
    """Whether the sources still hold each lead: among the leads, or in rows that no lead belongs to any more."""
    from ..scoring.forget.files import count_found, files_below
    from ..scoring.forget.names import LeadNames
    from ..scoring.ledger.explanation import lead_row_of

    with tempfile.TemporaryDirectory(prefix="convpredict-") as folder:
        try:
            history = read_history(project, quarantine=Path(folder))
        except (ConvpredictError, OSError):
            return dict.fromkeys(names.ids, None)
        found: dict[str, bool | None] = {}
        for lead in names.ids:
            one = LeadNames((lead,), names.columns)
            aside = any(count_found(path, one)[0] for path in files_below(Path(folder)))
            found[lead] = aside or lead_row_of(history, lead) is not None
    return found


def _counts_removed(removed: Sequence[str]) -> list[str]:
    notes = []
    if any(path.endswith("cross_lead.json") for path in removed):
        notes.append(
            "The snapshot of rates and loads counted them and is removed; the next night writes it, and until then a "
            "service that is told to read it (CONVPREDICT_CROSS_LEAD) refuses to score."
        )
    if reports := sum("monitoring" in Path(path).parts[-2:-1] for path in removed):
        notes.append(
            f"{reports:,} files of monitoring counted them and are removed; 'convpredict monitor CONFIG --rebuild' "
            "makes them anew."
        )
    return notes


def _limits(names: LeadNames) -> list[str]:
    notes = []
    others = [lead for lead in names.ids if lead not in names.telling]
    if others:
        notes.append(
            f"Raw bytes and free text were not searched for {', '.join(others)}: whole numbers and ids of fewer than "
            "six characters stand there by chance; columns of ids were."
        )
    notes.append(
        "Lists written by 'convpredict score', CSV files of 'mis-scored', copies and backups are known only where they "
        "lie in the folders searched; name others with --also."
    )
    return notes


def _lines(done: Forgetting) -> list[str]:
    again = f" ({', '.join(done.known_before)} had been forgotten before)" if done.known_before else ""
    lines = [f"Forgotten: {', '.join(done.lead_ids)}{again}. Later nights leave them out."]
    lines += [f"  erased from {place}: {rows:,} rows" for place, rows in done.erased.items()]
    if not done.erased:
        lines.append("  nothing of them was found to erase")
    if done.models:
        lines.append(
            "Models that were trained on them (a model keeps no rows; train again for one without them):"
        )
    for model in done.models:
        name = f"version {model.version}" if model.version else f"{model.folder}, not registered"
        aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
        rows = ", ".join(f"{part} {count:,}" for part, count in model.observations.items())
        lines.append(
            f"  {name}{aliases}: {', '.join(model.lead_ids)}{f', observations: {rows}' if rows else ''}"
        )
    held = [lead for lead, there in done.in_sources.items() if there]
    if held:
        lines.append(
            f"The sources still hold {', '.join(held)}: delete them there. Nights, training and "
            "'score' leave them out by the list in the nightly folder."
        )
    elif any(there is None for there in done.in_sources.values()):
        lines.append("The sources could not be read: look yourself whether they still hold them.")
    else:
        lines.append("The sources do not hold them.")
    lines += [f"Note: {note}" for note in done.notes]
    searched = f"Searched {done.search.files:,} files ({done.search.bytes / 1e6:,.1f} MB)"
    if not done.leftovers:
        return [*lines, f"{searched}: nothing of them is left."]
    if not done.search.leftovers and not done.search.unread:
        lines.append(f"{searched}: nothing of them is left there, but that is no proof:")
    else:
        lines.append(f"{searched}: NOT everything is gone:")
    lines += [f"  {left.place}: {left.count:,} {left.what}" for left in done.search.leftovers]
    lines += [f"  could not be looked at: {path}" for path in done.search.unread]
    return [*lines, *(f"  not proved: {place}" for place in done.unproved)]
