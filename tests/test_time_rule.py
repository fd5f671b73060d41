"""The time rule, over every combination of a few instants, against sets of instants written out."""

from __future__ import annotations

from itertools import product

import numpy as np
from numba import njit

from convpredict.features.time_rule import (
    NEVER,
    in_label,
    in_window,
    is_mature,
    is_visible,
    known_at,
    observation_bounds,
    window_start,
)

INSTANTS = range(-3, 8)
LENGTHS = range(1, 6)


def test_a_fact_is_visible_after_it_happened_and_was_recorded() -> None:
    for occurred_at, recorded_at, cutoff in product(INSTANTS, repeat=3):
        visible = is_visible(known_at(occurred_at, recorded_at), cutoff)
        assert visible == (occurred_at < cutoff and recorded_at < cutoff)


def test_a_window_is_closed_at_its_start_and_open_at_the_cutoff() -> None:
    for cutoff, length in product(INSTANTS, LENGTHS):
        inside = set(range(cutoff - length, cutoff))
        assert {at for at in range(-20, 20) if in_window(at, cutoff, length)} == inside
        assert min(inside) == window_start(cutoff, length)


def test_a_label_begins_at_the_cutoff_and_ends_before_the_horizon() -> None:
    for cutoff, horizon in product(INSTANTS, LENGTHS):
        inside = set(range(cutoff, cutoff + horizon))
        assert {at for at in range(-20, 20) if in_label(at, cutoff, horizon)} == inside


def test_no_instant_is_in_a_window_and_in_the_label() -> None:
    for at, cutoff, length in product(range(-20, 20), INSTANTS, LENGTHS):
        assert not (in_window(at, cutoff, length) and in_label(at, cutoff, length))


def test_an_observation_is_mature_when_the_data_covers_the_last_instant_of_its_label() -> None:
    for cutoff, horizon, known_until in product(INSTANTS, LENGTHS, INSTANTS):
        label = [at for at in range(-20, 20) if in_label(at, cutoff, horizon)]
        assert is_mature(cutoff, horizon, known_until) == (max(label) < known_until)


def test_a_lead_is_observed_while_it_is_open_and_young() -> None:
    ends_at = (*range(5), NEVER)
    for created_at, converted_at, lost_at, max_age in product(range(3), ends_at, ends_at, (1, 3, NEVER)):
        first, *ends = observation_bounds(created_at, converted_at, lost_at, max_age)
        for cutoff in INSTANTS:
            may_be_observed = (
                created_at < cutoff
                and not converted_at < cutoff
                and not lost_at < cutoff
                and cutoff - created_at < max_age
            )
            assert (first <= cutoff and all(cutoff < end for end in ends)) == may_be_observed


def test_arrays_and_compiled_code_follow_the_same_rule() -> None:
    @njit
    def compiled(occurred_at: int, recorded_at: int, cutoff: int, length: int) -> tuple[bool, bool, bool]:
        known = known_at(occurred_at, recorded_at)
        return (
            is_visible(known, cutoff),
            in_window(occurred_at, cutoff, length),
            in_label(occurred_at, cutoff, length),
        )

    at = np.arange(-10, 10)
    for recorded_at, cutoff, length in product((-2, 0, 3), (-1, 0, 2), (1, 4)):
        expected = [
            (
                is_visible(known_at(one, recorded_at), cutoff),
                in_window(one, cutoff, length),
                in_label(one, cutoff, length),
            )
            for one in at.tolist()
        ]
        assert [compiled(one, recorded_at, cutoff, length) for one in at.tolist()] == expected
        assert in_window(at, cutoff, length).tolist() == [entry[1] for entry in expected]
        assert in_label(at, cutoff, length).tolist() == [entry[2] for entry in expected]
        assert is_visible(at, cutoff).tolist() == (at < cutoff).tolist()
