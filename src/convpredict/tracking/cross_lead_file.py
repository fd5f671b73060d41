"""The snapshot of rates and loads that a served model reads: its own, or the newer one of the nightly run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from convpredict.errors import BundleError
from convpredict.features.cross_lead import CrossLead
from convpredict.features.feature_set import FeatureSet
from convpredict.models.bundle_files import parse_json

VARIABLE = "CONVPREDICT_CROSS_LEAD"
"""The environment variable that names a snapshot to read instead of the model's own."""

_Stamp = tuple[str, int, int, int]


class CrossLeadFile:
    """Reads the snapshot once, and again whenever the file is another one.

    ``own`` is the model's; the file that ``CONVPREDICT_CROSS_LEAD`` names comes before it. It is checked against the
    feature set, and a file that is missing or broken is an error: the former one would be used without a word.
    """

    def __init__(self, own: Path, feature_set: FeatureSet) -> None:
        self._own = own
        self._feature_set = feature_set
        self._lock = threading.Lock()
        self._read: tuple[_Stamp, CrossLead] | None = None

    def current(self) -> CrossLead | None:
        """The snapshot to score with; None if the model has none and no other is named."""
        named = os.environ.get(VARIABLE)
        path = Path(named) if named else self._own
        try:
            stat = path.stat()
        except OSError as error:
            if not named:
                return None
            raise BundleError(
                f"{VARIABLE} names '{path}', which cannot be read ({error.strerror}); name the snapshot that the "
                "nightly run publishes, or unset it"
            ) from None
        stamp = (str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with self._lock:
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, self._load(path))
            return self._read[1]

    def _load(self, path: Path) -> CrossLead:
        try:
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            raise BundleError(
                f"the snapshot '{path}' cannot be read as text; publish it again, or copy it anew"
            ) from None
        found = CrossLead.from_dict(parse_json(text, path.name))
        found.check(self._feature_set)
        return found
