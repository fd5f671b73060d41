"""The whole configuration."""

from __future__ import annotations

from pydantic import Field, model_validator

from .backtest import BacktestConfig
from .base import Strict
from .features import FeaturesConfig
from .history import HistoryConfig, SimulatorConfig, Source
from .leakage import LeakageConfig
from .monitoring import MonitoringConfig
from .nightly import NightlyConfig
from .promotion import PromotionConfig
from .reasons import ReasonsConfig
from .training import (
    EvaluationConfig,
    GridCutoffs,
    LabelsConfig,
    ModelConfig,
    ObservationsConfig,
    ScorecardConfig,
    SplitConfig,
    TrackingConfig,
)
from .tuning import TuningConfig
from .value import ValueConfig


class Config(Strict):
    """Everything one project needs: where the data lies, what is observed and predicted, how it is learnt.

    ``data`` is the folder that relative source paths start from, itself relative to the configuration file.
    """

    name: str = Field(min_length=1)
    data: str = "."
    sources: dict[str, Source] = Field(default_factory=dict)
    history: HistoryConfig
    simulator: SimulatorConfig | None = None
    observations: ObservationsConfig = ObservationsConfig()
    labels: LabelsConfig = LabelsConfig()
    split: SplitConfig = SplitConfig()
    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig = ModelConfig()
    value: ValueConfig = ValueConfig()
    reasons: ReasonsConfig = ReasonsConfig()
    leakage: LeakageConfig = LeakageConfig()
    tuning: TuningConfig = TuningConfig()
    backtest: BacktestConfig = BacktestConfig()
    scorecard: ScorecardConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    promotion: PromotionConfig = PromotionConfig()
    nightly: NightlyConfig = NightlyConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for table in HistoryConfig.model_fields:
            entry = getattr(self.history, table)
            source = getattr(entry, "source", None)
            if source is not None and source not in self.sources:
                known = ", ".join(sorted(self.sources)) or "none"
                raise ValueError(
                    f"history.{table}.source names '{source}', which is not under 'sources' (declared: {known}); "
                    f"declare it or correct the name"
                )
        for name in self.evaluation.segments or ():
            if name not in self.history.leads.attributes:
                known = ", ".join(sorted(self.history.leads.attributes)) or "none"
                raise ValueError(
                    f"evaluation.segments names '{name}', which is not under history.leads.attributes (declared: "
                    f"{known}); declare it or correct the name"
                )
            if (kind := self.history.leads.attribute(name).type) != "category":
                raise ValueError(
                    f"evaluation.segments names '{name}', which is a {kind}: every value would be a segment of its "
                    "own; declare it as a category (bin it in the table's sql), or drop it"
                )
        cutoffs = self.observations.cutoffs
        if (
            isinstance(cutoffs, GridCutoffs)
            and cutoffs.start
            and cutoffs.end
            and cutoffs.end <= cutoffs.start
        ):
            raise ValueError(
                f"observations.cutoffs.end ({cutoffs.end}) must lie after start ({cutoffs.start}), "
                "or no lead is ever observed"
            )
        split = self.split
        if split.calibrate_from and split.test_from and split.calibrate_from >= split.test_from:
            raise ValueError(
                f"split.calibrate_from ({split.calibrate_from}) must lie before split.test_from ({split.test_from})"
            )
        return self
