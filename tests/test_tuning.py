"""Tuning: a study that is resumed, a budget that is kept, a gain that is confirmed on rows that no trial saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from convpredict.config.load import load_project
from convpredict.config.training import ModelConfig
from convpredict.config.tuning import TuningConfig
from convpredict.errors import DataError, NotEnoughDataError
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.models.conversion import ConversionModel
from convpredict.models.tuning import Tuned, default_settings, tune_model
from convpredict.training.training_set import TrainingSet, build_training_set

CONFIG = Path(__file__).parents[1] / "configs/demo.yaml"


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder = tmp_path_factory.mktemp("tuning")
    project = load_project(
        CONFIG, data=folder, overrides=["simulator.leads=3000", "observations.cutoffs={every: 28d}"]
    )
    assert project.config.simulator is not None
    simulate(project.config.simulator, folder)
    return build_training_set(load_history(project.config, folder), project)


def test_a_study_is_gone_on_with_and_its_first_trial_is_the_defaults(
    training_set: TrainingSet, tmp_path: Path
) -> None:
    seen: list[int] = []
    budget = TuningConfig(minutes=5, trials=2, folds=3)
    file = tmp_path / "study.db"
    first = tune_model(
        training_set, ModelConfig(), budget, file, progress=lambda trial, seconds, best: seen.append(trial)
    )
    assert (first.trials, seen) == (2, [1, 2])
    assert first.validation_log_loss <= first.default_log_loss
    second = tune_model(training_set, ModelConfig(), budget, file)
    assert second.trials == 4
    assert second.validation_log_loss <= first.validation_log_loss
    assert second.default_log_loss == first.default_log_loss
    other = tune_model(training_set, ModelConfig(seed=1), TuningConfig(minutes=5, trials=1, folds=3), file)
    assert other.trials == 1
    assert other.confirmation["difference"] == 0
    assert not other.beats_defaults
    assert other.model["num_leaves"] == default_settings(150)["num_leaves"]
    model = ConversionModel.from_config(ModelConfig.model_validate(second.model | {"seeds": 1}))
    assert (
        model.fit(training_set.X("train"), training_set.y("train"))
        .predict_proba(training_set.X("test"))
        .min()
        > 0
    )


def test_a_tuned_setting_may_be_configured_under_another_name(
    training_set: TrainingSet, tmp_path: Path
) -> None:
    config = ModelConfig(lightgbm={"reg_lambda": 9.0, "max_bins": 15})
    found = tune_model(
        training_set, config, TuningConfig(minutes=5, trials=1, folds=2), tmp_path / "study.db"
    )
    assert sorted(found.model["lightgbm"]) == [
        "feature_fraction",
        "lambda_l2",
        "max_bin",
        "min_sum_hessian_in_leaf",
    ]


def test_a_gain_counts_from_two_standard_errors() -> None:
    def tuned(difference: float) -> Tuned:
        return Tuned({}, 9, 0, 0.1, 0.2, {"difference": difference, "standard_error": 0.01})

    assert tuned(-0.021).beats_defaults
    assert not tuned(-0.019).beats_defaults
    assert not tuned(0.5).beats_defaults


def test_what_is_no_study_is_left_alone(training_set: TrainingSet, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("buy milk")
    with pytest.raises(DataError, match=r"notes\.txt cannot be used as a study"):
        tune_model(training_set, ModelConfig(), TuningConfig(trials=1), file)
    assert file.read_text() == "buy milk"


def test_too_few_conversions_are_said(training_set: TrainingSet, tmp_path: Path) -> None:
    few = training_set.frame.groupby("split", observed=True).head(150)
    with pytest.raises(NotEnoughDataError, match="folds forward in time"):
        tune_model(
            TrainingSet(few, training_set.feature_set, training_set.manifest),
            ModelConfig(),
            TuningConfig(trials=1, folds=2),
            tmp_path / "study.db",
        )
