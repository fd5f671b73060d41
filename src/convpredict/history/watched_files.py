"""Whether the files of a source are still those that were read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FileIdentity = tuple[int, int, int, int]


@dataclass(frozen=True)
class WatchedFiles:
    """The files that a path or glob named, each with its device, inode, size and time of change (ns).

    ``seen`` maps every path to that identity; None stands for a file that was not there. ``beside`` are endings of
    files beside each that belong to its content, such as the write-ahead log of a database.
    """

    folder: Path
    pattern: str
    seen: dict[Path, FileIdentity | None]
    beside: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path, pattern: str, beside: tuple[str, ...] = ()) -> WatchedFiles:
        """Note what is there now: to be called before the content is read, so that no change is missed.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "leads-1.csv").write_text("lead_id")
        7
        >>> watched = WatchedFiles.of(folder, "leads-*.csv")
        >>> watched.changed()
        False
        >>> (folder / "leads-2.csv").write_text("lead_id")
        7
        >>> watched.changed()
        True
        """
        folder = folder.absolute()
        return cls(folder, pattern, _identities(folder, pattern, beside), beside)

    def changed(self) -> bool:
        """Whether a file was replaced, written, touched, removed or added; the content is not read again."""
        return _identities(self.folder, self.pattern, self.beside) != self.seen


def is_glob(pattern: str) -> bool:
    """Whether a source's file is a glob.

    >>> is_glob("calls-*.parquet"), is_glob("calls.parquet")
    (True, False)
    """
    return any(character in pattern for character in "*?[")


def matching_files(folder: Path, pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted; a plain path is given whether or not it is there."""
    if not is_glob(pattern):
        return [folder / pattern]
    return sorted(entry for entry in folder.glob(pattern) if entry.is_file())


def _identities(folder: Path, pattern: str, beside: tuple[str, ...]) -> dict[Path, FileIdentity | None]:
    files = matching_files(folder, pattern)
    others = [path.with_name(path.name + ending) for path in files for ending in beside]
    return {path: _identity(path) for path in (*files, *others)}


def _identity(path: Path) -> FileIdentity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
