"""Observations, labels, splits, the models and the scorecard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

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
    """At which instants leads are observed, and up to which age.

    ``untrained_ages``: what becomes of open leads that are much younger or older than any row that the model learnt
    from: ``leave_out`` counts them under a reason, ``score`` scores them and warns. Customers (the outcome
    ``purchase``) are always scored.
    """

    cutoffs: GridCutoffs | AfterInteractionCutoffs | AgeCutoffs = GridCutoffs(every=Duration("7d"))
    max_age: PositiveDuration | None = None
    untrained_ages: Literal["leave_out", "score"] = "leave_out"

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

    ``value_horizon`` is how long after the conversion revenue counts (none: no value is predicted). With the
    ``outcome`` ``purchase`` leads are customers who stay observed: any revenue within the horizon after the
    cutoff is the outcome, and its amount within ``value_horizon`` after the cutoff the value.
    """

    horizons: Annotated[tuple[PositiveDuration, ...], Field(min_length=1)] = (Duration("30d"),)
    value_horizon: PositiveDuration | None = None
    outcome: Literal["conversion", "purchase"] = "conversion"

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
    """The conversion model; every default was chosen by validation forward in time (see ConversionModel).

    ``auto`` sizes are chosen for the data at hand, by validation forward in time and by lead inside the
    training part. ``refit``: after the calibrator is chosen on the calibrate part, learn again from every row
    whose label was known when the test part begins. ``immature``: what becomes of the rows before the test
    part whose horizon had not ended when it begins; ``complete`` learns from them too, with what was known of
    them then. ``monotone`` holds columns (names or globs) to a
    direction. ``lightgbm`` passes parameters on.
    """

    n_estimators: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    num_leaves: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    seeds: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = "auto"
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
    refit: bool = True
    immature: Literal["complete", "ignore"] = "complete"
    seed: Annotated[int, Field(ge=0, lt=2**31 - 50)] = 0


Points = Annotated[float, Field(allow_inf_nan=False)]
Bound = Annotated[float, Field(allow_inf_nan=False)]


def _check_bounds(at_least: float | None, below: float | None) -> None:
    if at_least is not None and below is not None and below <= at_least:
        raise ValueError(
            f"'below' ({below:g}) must be larger than 'at_least' ({at_least:g}), or the rule never applies"
        )


class ActivityRule(Strict):
    """Points for each interaction of a kind (of any if omitted).

    Counted within a window before the cutoff (``within``), or else decayed by the card's half-life, or else
    over all time. ``at_most`` limits the size of what the rule gives or takes in all.
    """

    kind: str | None = None
    points: Points
    within: PositiveDuration | None = None
    at_most: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class AttributeRule(Strict):
    """Points for a lead attribute: equal to one of ``values``, or a number in [at_least, below).

    Of a date, the number is the days from it to the cutoff. A missing value gives no points.
    """

    attribute: str
    points: Points
    values: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    at_least: Bound | None = None
    below: Bound | None = None

    @model_validator(mode="after")
    def _some(self) -> AttributeRule:
        ranged = self.at_least is not None or self.below is not None
        if self.values is None and not ranged:
            raise ValueError("an attribute rule needs 'values', 'at_least' or 'below'")
        if self.values is not None and ranged:
            raise ValueError(
                "an attribute rule has either 'values' or a range ('at_least', 'below'), not both"
            )
        _check_bounds(self.at_least, self.below)
        return self


class TimingRule(Strict):
    """Points when the days since the last interaction (of a kind) or creation lie in [at_least, below).

    A lead without such an interaction counts as if it were infinitely long ago.
    """

    days_since: Literal["creation", "last_interaction"]
    kind: str | None = None
    points: Points
    at_least: Bound | None = None
    below: Bound | None = None

    @model_validator(mode="after")
    def _some(self) -> TimingRule:
        if self.at_least is None and self.below is None:
            raise ValueError("a timing rule needs 'at_least' or 'below', in days")
        if self.kind is not None and self.days_since == "creation":
            raise ValueError("'kind' goes with days_since: last_interaction; a lead is created once")
        _check_bounds(self.at_least, self.below)
        return self


class ScorecardConfig(Strict):
    """Hand-set points, as marketing departments keep them: rules, a half-life, thresholds of grades.

    ``thresholds`` names grades with the least points that earn them: ``{hot: 40, warm: 20}``.
    """

    name: str = "scorecard"
    half_life: PositiveDuration | None = None
    rules: Annotated[tuple[ActivityRule | AttributeRule | TimingRule, ...], Field(min_length=1)]
    thresholds: dict[str, Points] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> ScorecardConfig:
        if len(set(self.thresholds.values())) < len(self.thresholds):
            raise ValueError("two grades of 'thresholds' have the same points, so one would never be given")
        return self


class EvaluationConfig(Strict):
    """Which metrics are computed and how their intervals are: by resampling leads.

    ``top_shares`` are the shares of the list for which captured converters are counted (``0.05``: the top
    5 %). ``calls_per_week`` is how many leads the sales team can work on in a week (default: 5 % of those on a
    list); ``segments`` the lead attributes by which results are shown (default: the first three
    categories).
    """

    resamples: Annotated[int, Field(ge=50)] = 500
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    top_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.05, 0.10, 0.20)
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    calls_per_week: Annotated[int, Field(gt=0)] | None = None
    segments: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class TrackingConfig(Strict):
    """The MLflow experiment. The URI: MLFLOW_TRACKING_URI, else the one here, else a local SQLite file.

    A SQLite file with a relative path (``sqlite:///mlflow.db``) starts from the folder of the configuration file, as
    every path there; :meth:`placed` is told which one that is.
    """

    experiment: str | None = None
    uri: str | None = None
    _folder: Path | None = PrivateAttr(None)

    def placed(self, folder: Path) -> TrackingConfig:
        """The same, read from a file in this folder; equal to any other in what it says."""
        placed = self.model_copy()
        placed._folder = folder
        return placed

    @property
    def resolved_uri(self) -> str | None:
        """The URI with an absolute path, where it is a SQLite file and the folder is known."""
        prefix = "sqlite:///"
        path = (self.uri or "").removeprefix(prefix)
        if (
            self.uri is None
            or self._folder is None
            or not self.uri.startswith(prefix)
            or path[:1] in ("", "/", ":")
        ):
            return self.uri
        return f"{prefix}{self._folder.absolute() / path}"
