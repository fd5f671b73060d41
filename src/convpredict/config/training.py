"""Observations, labels, splits, the models and the scorecard."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Duration, Instant, PositiveDuration, Strict


class GridCutoffs(Strict):
    """Cutoffs on a grid, every ``every`` from ``start`` (default: midnight after the first lead)."""

    every: PositiveDuration
    start: Instant | None = None
    end: Instant | None = None


class AfterInteractionCutoffs(Strict):
    """A cutoff 1 µs after every interaction (of the named kinds, or of any), so that it is visible."""

    after: Literal["any"] | Annotated[tuple[str, ...], Field(min_length=1)]


class AgeCutoffs(Strict):
    """Cutoffs at the given ages of each lead, counted from its creation."""

    ages: Annotated[tuple[PositiveDuration, ...], Field(min_length=1)]


class ObservationsConfig(Strict):
    """At which instants leads are observed, and up to which age."""

    cutoffs: GridCutoffs | AfterInteractionCutoffs | AgeCutoffs = GridCutoffs(every=Duration("7d"))
    max_age: PositiveDuration | None = None

    @model_validator(mode="after")
    def _young_enough(self) -> ObservationsConfig:
        if isinstance(self.cutoffs, AgeCutoffs) and self.max_age is not None:
            never = [str(age) for age in self.cutoffs.ages if age >= self.max_age]
            if never:
                raise ValueError(
                    f"cutoffs at the ages {', '.join(never)} are never observed, because max_age is "
                    f"{self.max_age} and a lead is observed while it is younger; raise max_age or drop them"
                )
        return self


class LabelsConfig(Strict):
    """What is predicted: a conversion within each horizon; the first one is the model's.

    All horizons share their observations: the longest one sets the gap between the parts and the maturity.
    """

    horizons: Annotated[tuple[PositiveDuration, ...], Field(min_length=1)] = (Duration("30d"),)

    @model_validator(mode="after")
    def _distinct(self) -> LabelsConfig:
        if len(set(self.horizons)) < len(self.horizons):
            given = ", ".join(map(str, self.horizons))
            raise ValueError(f"labels.horizons names a horizon twice: {given}; drop the repetition")
        return self


class SplitConfig(Strict):
    """How observations are divided by time: instants win over shares, with gaps of one horizon between parts.

    ``by: cutoff`` divides by the cutoff; ``by: lead_start`` puts whole leads into one part by their
    creation. ``test_share`` is of all usable observations (or observed leads), ``calibrate_share`` of
    those that are left before the test part and its gap.
    """

    by: Literal["cutoff", "lead_start"] = "cutoff"
    test_from: Instant | None = None
    calibrate_from: Instant | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    calibrate_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class ModelConfig(Strict):
    """The conversion model; every default was chosen by validation forward in time (see ConversionModel)."""

    n_estimators: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    num_leaves: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    seeds: Annotated[int, Field(ge=1, le=50)] = 5
    logistic_weight: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    calibrators: Annotated[
        tuple[Literal["none", "sigmoid", "beta", "isotonic"], ...], Field(min_length=1)
    ] = (
        "none",
        "sigmoid",
        "beta",
        "isotonic",
    )
    monotone: dict[str, Literal[-1, 1]] = Field(default_factory=dict)
    lightgbm: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0


class ActivityRule(Strict):
    """Points for each interaction of a kind (of any if omitted), decayed by the half-life or in a window."""

    kind: str | None = None
    points: float
    within: PositiveDuration | None = None
    at_most: float | None = None


class AttributeRule(Strict):
    """Points for a lead attribute: equal to one of ``values``, or a number in [at_least, below)."""

    attribute: str
    points: float
    values: tuple[str, ...] | None = None
    at_least: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _some(self) -> AttributeRule:
        if self.values is None and self.at_least is None and self.below is None:
            raise ValueError("an attribute rule needs 'values', 'at_least' or 'below'")
        return self


class TimingRule(Strict):
    """Points when the days since the last interaction, or since creation, lie in [at_least, below)."""

    days_since: Literal["creation", "last_interaction"]
    kind: str | None = None
    points: float
    at_least: float | None = None
    below: float | None = None


class ScorecardConfig(Strict):
    """Hand-set points, as marketing departments keep them: rules, a half-life, thresholds of grades."""

    name: str = "scorecard"
    half_life: PositiveDuration | None = None
    rules: Annotated[tuple[ActivityRule | AttributeRule | TimingRule, ...], Field(min_length=1)]
    thresholds: dict[str, float] = Field(default_factory=dict)


class EvaluationConfig(Strict):
    """Which metrics are computed and how their intervals are: by resampling leads.

    ``top_shares`` are the shares of the list for which captured converters are counted (``0.05``: the top
    5 %).
    """

    resamples: Annotated[int, Field(ge=50)] = 500
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    top_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.05, 0.10, 0.20)
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    seed: Annotated[int, Field(ge=0)] = 0


class TrackingConfig(Strict):
    """The MLflow experiment. The URI: MLFLOW_TRACKING_URI, else the one here, else a local SQLite file."""

    experiment: str | None = None
    uri: str | None = None
