"""Names that tell of a process rather than of a person: a hint, never evidence by itself."""

from __future__ import annotations

import re

_TEXT = """
    last latest final status stage tag tags quality score index rating grade lost won closed closing payment
    paid invoice invoiced contract modified updated changed outcome result disposition resolution resolved
    notable remark remarks followup churn cancelled canceled cancellation converted conversion
"""
_WORDS = frozenset(_TEXT.split())


def tells_of_a_process(name: str) -> bool:
    """Whether a column's name has a word like "last", "stage", "score", "paid".

    >>> tells_of_a_process("Last Notable Activity"), tells_of_a_process("lastActivity"), tells_of_a_process("City")
    (True, True, False)
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return any(word in _WORDS for word in re.split(r"[^a-z0-9]+", spaced.lower()))
