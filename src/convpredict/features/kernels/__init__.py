"""Compiled walks over the event index, one small file per family of features.

Every kernel walks one lead once for all of its cutoffs. The value of a cell is a function of the lead's
rows that are visible at the cutoff, to the bit, whatever other cutoffs are asked for in the same call.

Common arguments: ``timeline`` (see :class:`~convpredict.features.kernels.timeline.Timeline`); ``groups``,
the group of each event (-1: none), and the number of groups; ``windows``, columns of ``timeline.leave``;
``target``, rows of ``out`` by group, window or both, -1 where nothing is wanted; ``out``, one row per
column and one column per observation.
"""

from __future__ import annotations

from pathlib import Path


def drop_stale_kernels(folder: Path) -> int:
    """Remove compiled kernels that are older than a source file in ``folder`` or beside it; return how many.

    numba keeps compiled kernels beside the source and looks at the kernel's own file only, so that after a
    change to what several of them share it would go on with the old one.
    """
    sources = [*folder.glob("*.py"), folder.parent / "time_rule.py"]
    newest = max(source.stat().st_mtime for source in sources)
    dropped = 0
    for cache in (folder / "__pycache__", folder.parent / "__pycache__"):
        for index in cache.glob("*.nbi"):
            try:
                if index.stat().st_mtime < newest:
                    index.unlink()
                    dropped += 1
            except OSError:
                continue
    return dropped


drop_stale_kernels(Path(__file__).parent)
