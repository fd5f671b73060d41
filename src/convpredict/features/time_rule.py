"""The time rule, written once: what is visible at a cutoff, what a window covers, what a label covers.

All times are UTC instants held as int64 microseconds since 1970-01-01; all intervals are half-open.

* A fact is **visible** at a cutoff iff ``max(occurred_at, recorded_at) < cutoff``.
* A window of length w covers ``cutoff - w <= occurred_at < cutoff``.
* A label covers ``cutoff <= converted_at < cutoff + horizon``.
* A lead may be observed iff ``created_at < cutoff``, it has not converted and was not lost before the cutoff,
  and it is younger than ``max_age`` at the cutoff.
* An observation is **mature** iff ``cutoff + horizon <= known_until``.

The functions work alike on NumPy arrays and on scalars, in Python and inside numba kernels.
"""

from typing import Any

from numba.extending import register_jitable

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_HOUR = 3_600 * MICROSECONDS_PER_SECOND
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR
NEVER = 2**61
"""An instant (µs) far beyond every date, to which durations can be added without overflow."""


@register_jitable
def known_at(occurred_at: Any, recorded_at: Any) -> Any:
    """Instant (µs) at which a fact became known to us: the later of happening and being recorded.

    >>> known_at(5, 9), known_at(5, 2)
    (9, 5)
    """
    return recorded_at if recorded_at > occurred_at else occurred_at


@register_jitable
def is_visible(visible_at: Any, cutoff: Any) -> Any:
    """Whether a fact that became known at ``visible_at`` (µs) may be used at ``cutoff`` (µs).

    >>> is_visible(9, 10), is_visible(10, 10)
    (True, False)
    """
    return visible_at < cutoff


@register_jitable
def window_start(cutoff: Any, length: Any) -> Any:
    """First instant (µs, inclusive) of the window of ``length`` µs that ends before ``cutoff``.

    >>> window_start(100, 30)
    70
    """
    return cutoff - length


@register_jitable
def in_window(occurred_at: Any, cutoff: Any, length: Any) -> Any:
    """Whether ``cutoff - length <= occurred_at < cutoff``. Visibility is a separate question.

    >>> in_window(70, 100, 30), in_window(69, 100, 30), in_window(100, 100, 30)
    (True, False, False)
    """
    return (occurred_at >= window_start(cutoff, length)) & (occurred_at < cutoff)


@register_jitable
def in_label(converted_at: Any, cutoff: Any, horizon: Any) -> Any:
    """Whether ``cutoff <= converted_at < cutoff + horizon``.

    >>> in_label(100, 100, 30), in_label(129, 100, 30), in_label(130, 100, 30)
    (True, True, False)
    """
    return (converted_at >= cutoff) & (converted_at < cutoff + horizon)


@register_jitable
def is_mature(cutoff: Any, horizon: Any, known_until: Any) -> Any:
    """Whether the whole label interval is covered by complete data.

    >>> is_mature(100, 30, 130), is_mature(101, 30, 130)
    (True, False)
    """
    return cutoff + horizon <= known_until


@register_jitable
def observation_bounds(created_at: Any, converted_at: Any, lost_at: Any, max_age: Any) -> Any:
    """First cutoff (µs) at which a lead may be observed, then, thrice, the first at which it no longer may.

    The three ends are: it has converted, it was lost, it is too old. A lead may be observed iff
    ``first <= cutoff`` and the cutoff lies before each end. What never happened is given as ``NEVER``.

    >>> observation_bounds(100, 150, NEVER, 30) == (101, 151, NEVER + 1, 130)
    True
    """
    return created_at + 1, converted_at + 1, lost_at + 1, created_at + max_age
