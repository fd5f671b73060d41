"""Settings that every test shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "convpredict",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("convpredict")

FIRST = (
    "test_cli.py",
    "test_publish.py",
    "test_broken_inputs.py",
    "test_notebooks.py",
    "test_real_data.py",
    "test_registry.py",
    "test_point_in_time.py",
    "test_nightly.py",
    "test_recovery.py",
    "test_crash.py",
    "test_tuning.py",
    "test_tracking.py",
    "test_leakage.py",
    "test_leakage_real_data.py",
    "test_forget.py",
    "test_ledger.py",
)
"""The files that take longest begin, so that no process of ``make test`` is left alone with one of them at the end.

The first trains and registers a model, and so compiles the kernels, twice: here and from the model's directory. The
next two need none, so that in a new clone the other process does not compile the same ones at the same time.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these files first; every other test keeps its place."""
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(Path(item.path).name, len(FIRST)))
