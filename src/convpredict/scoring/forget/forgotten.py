"""Which leads were forgotten, kept as salted hashes, so that no later night takes them up again."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import DataError
from ...files import replacing
from ...history.history import History
from ...training.as_of import without_leads

FILE = "forgotten.json"
FORMAT = 1
_CHECK_BITS = 12
_BLOCK = 200_000


@dataclass(frozen=True)
class Forgotten:
    """Hashes of leads: HMAC-SHA256 of the id's text, keyed by a random ``salt``, each with 12 bits to look up by.

    ``trained_on``: for the digest of a training set's manifest the hashes of forgotten leads that it held.
    The 12 bits come from a quick hash of the same text and salt: one id in 4,096 has to be hashed in full.

    >>> forgotten = Forgotten(bytes(32)).adding(["lead-1", 17])
    >>> forgotten.mask(pa.array(["lead-10", "lead-1", "17"])).tolist()
    [False, True, True]
    """

    salt: bytes
    hashes: Mapping[str, int] = field(default_factory=dict)
    trained_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, lead_id: object) -> bool:
        return self._hash(str(lead_id).encode()) in self.hashes

    def adding(self, lead_ids: Sequence[Any]) -> Forgotten:
        """With further leads; ids may be text or whole numbers, which count as their text."""
        texts = list(dict.fromkeys(str(lead) for lead in lead_ids))
        if not texts:
            return self
        checks = self._checks(pa.array(texts, pa.string()))
        added = {self._hash(text.encode()): int(check) for text, check in zip(texts, checks, strict=True)}
        return replace(self, hashes={**self.hashes, **added})

    def noting(self, digest: str, lead_ids: Sequence[Any]) -> Forgotten:
        """With the note that a training set held some leads."""
        former = self.trained_on.get(digest, ())
        held = {*former, *(self._hash(str(lead).encode()) for lead in lead_ids)}
        return replace(self, trained_on={**self.trained_on, digest: tuple(sorted(held))})

    def held(self, digest: str, lead_ids: Sequence[Any]) -> list[str]:
        """Which of some leads a training set held when they were forgotten."""
        noted = self.trained_on.get(digest, ())
        return [str(lead) for lead in lead_ids if self._hash(str(lead).encode()) in noted]

    def mask(self, lead_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """For each lead (text or whole numbers) whether it is forgotten."""
        found = np.zeros(len(lead_ids), np.bool_)
        if not self.hashes:
            return found
        looked_for = np.zeros(1 << _CHECK_BITS, np.bool_)
        looked_for[list(self.hashes.values())] = True
        for start in range(0, len(lead_ids), _BLOCK):
            block = lead_ids.slice(start, _BLOCK)
            texts = (block.combine_chunks() if isinstance(block, pa.ChunkedArray) else block).cast(
                pa.string()
            )
            for row in np.flatnonzero(looked_for[self._checks(texts)]):
                found[start + row] = self._hash(str(texts[int(row)]).encode()) in self.hashes
        return found

    def _hash(self, text: bytes) -> str:
        return hmac.digest(self.salt, text, "sha256").hex()

    def _checks(self, texts: pa.Array) -> npt.NDArray[np.int64]:
        """12 bits of each text: its bytes times weights by their place, summed modulo 2^64, the highest bits."""
        whole = pa.concat_arrays([texts])
        offsets = np.frombuffer(whole.buffers()[1], np.int32, len(whole) + 1, whole.offset * 4).astype(
            np.int64
        )
        start, length = offsets[:-1], np.diff(offsets)
        content = whole.buffers()[2]
        if content is None or not length.any():
            return np.zeros(len(whole), np.int64)
        data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
        place = np.arange(len(data)) - np.repeat(start - offsets[0], length)
        weighted = (data + np.uint64(1)) * _weights(self.salt, int(length.max()))[place]
        total = np.zeros(len(whole), np.uint64)
        there = np.flatnonzero(length)
        total[there] = np.add.reduceat(weighted, start[there] - offsets[0])
        return (total >> np.uint64(64 - _CHECK_BITS)).astype(np.int64)


def forgotten_rows(history: History, forgotten: Forgotten) -> npt.NDArray[np.bool_]:
    """For each lead of a history (by its row) whether it was forgotten and is to be left out."""
    return forgotten.mask(history.leads["lead_id"])


def without_forgotten(history: History, forgotten: Forgotten) -> History:
    """The history as if the forgotten leads had not come yet: nothing that is counted across leads counts them.

    The same history where none of its leads was forgotten. Otherwise its fingerprint says so.
    """
    gone = forgotten_rows(history, forgotten)
    if not gone.any():
        return history
    fingerprint = f"{history.fingerprint} without {int(gone.sum())} forgotten leads"
    return replace(without_leads(history, gone), fingerprint=fingerprint)


def read_forgotten(folder: Path) -> Forgotten:
    """Who was forgotten in a nightly folder; nobody, with a new salt, where the file does not exist.

    Raises DataError where the file is damaged: going on would take the forgotten up again.
    """
    path = folder / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}, this version reads {FORMAT}")
        hashes = {str(lead["hash"]): int(lead["check"]) for lead in stored["leads"]}
        salt = bytes.fromhex(stored["salt"])
        trained_on = {str(digest): tuple(map(str, held)) for digest, held in stored["trained_on"].items()}
        if any(not 0 <= check < 1 << _CHECK_BITS for check in hashes.values()):
            raise ValueError("a check lies outside of its range")
    except FileNotFoundError:
        return Forgotten(secrets.token_bytes(32))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}), so that leads who were forgotten would be scored again; restore it "
            "from a backup, or delete it and forget them anew"
        ) from None
    return Forgotten(salt, hashes, trained_on)


def write_forgotten(folder: Path, forgotten: Forgotten) -> None:
    """Write the file, readable by its owner alone, whole or not at all."""
    content = {
        "format": FORMAT,
        "salt": forgotten.salt.hex(),
        "leads": [{"hash": each, "check": check} for each, check in sorted(forgotten.hashes.items())],
        "trained_on": {digest: list(held) for digest, held in sorted(forgotten.trained_on.items())},
    }
    with replacing(folder / FILE) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")


def _weights(salt: bytes, n: int) -> npt.NDArray[np.uint64]:
    """A weight for each place of a text, drawn from the salt."""
    blocks = [hashlib.sha256(salt + block.to_bytes(4, "little")).digest() for block in range(-(-n // 4))]
    return np.frombuffer(b"".join(blocks), "<u8")[:n]
