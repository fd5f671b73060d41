"""The errors that convpredict raises on purpose, each with the exit code that the command line gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ConvpredictError(Exception):
    """Base of every error raised on purpose: the message says what, got, why it matters, what to do next.

    >>> ConvpredictError("no leads were found").exit_code
    1
    """

    exit_code = 1


class ConfigError(ConvpredictError):
    """The configuration cannot be used: names the file, the key and the remedy (exit code 2)."""

    exit_code = 2


class DataError(ConvpredictError):
    """The input data breaks the contract as a whole, or too many of its rows do (exit code 3)."""

    exit_code = 3


class NotEnoughDataError(ConvpredictError):
    """The data is sound but too small to train, calibrate or judge a model (exit code 4)."""

    exit_code = 4


class BundleError(ConvpredictError):
    """A bundle is damaged, of an unknown format, or does not fit the data it is asked to score (exit code 5)."""

    exit_code = 5


class LeakageError(ConvpredictError):
    """The training data knows the outcome: a severe finding of hindsight is not waived (exit code 6)."""

    exit_code = 6


class GateError(ConvpredictError):
    """A gate stopped the nightly run: nothing was published, yesterday's scores stay (exit code 7)."""

    exit_code = 7


class BusyError(ConvpredictError):
    """Another run is at work in the same folder (exit code 8)."""

    exit_code = 8


class PublishError(ConvpredictError):
    """Scores could not be written to where they are read from; readers still see the former ones (exit code 9)."""

    exit_code = 9


class PromotionError(ConvpredictError):
    """The challenger was not promoted: the rule of the configuration does not hold (exit code 10).

    ``details`` has the figures for machines.
    """

    exit_code = 10

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details: Mapping[str, Any] = details or {}


class RegistryError(ConvpredictError):
    """The model registry has no such version, cannot be reached, or holds a version that was never verified (exit
    code 11)."""

    exit_code = 11


class MonitoringError(ConvpredictError):
    """Scores are published, but what should watch over them failed (exit code 12)."""

    exit_code = 12
