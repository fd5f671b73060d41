"""Tuning: a study that is resumed, a budget that is kept, a gain that is confirmed on rows that no trial saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convpredict.config.load import load_project
from convpredict.config.training import ModelConfig
from convpredict.config.tuning import TuningConfig
from convpredict.errors import ConfigError, DataError, NotEnoughDataError
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.models.conversion import ConversionModel
from convpredict.models.trees import default_parameters
from convpredict.models.tuning import Tuned, _TuningRows, tune_model
from convpredict.training.training_set import TrainingSet, build_training_set
from convpredict.workflows.tuning import TuningRun

CONFIG = Path(__file__).parents[1] / "configs/demo.yaml"
SMALL = (
    "simulator.leads=1500",
    "observations.cutoffs={every: 28d}",
    "features={default: false, declare: [{family: count, by: kind, windows: [7d, 30d, all]}, {family: recency}]}",
)
"""Enough to tune on: what is held here is how a study goes on, not how much it gains."""


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder = tmp_path_factory.mktemp("tuning")
    project = load_project(CONFIG, data=folder, overrides=SMALL)
    assert project.config.simulator is not None
    simulate(project.config.simulator, folder)
    return build_training_set(load_history(project.config, folder), project)


def test_a_study_is_gone_on_with_and_its_first_trial_is_the_configured_settings(
    training_set: TrainingSet, tmp_path: Path
) -> None:
    seen: list[int] = []
    budget = TuningConfig(minutes=5, trials=2, folds=3)
    file = tmp_path / "study.db"
    first = tune_model(
        training_set, ModelConfig(), budget, file, progress=lambda trial, seconds, best: seen.append(trial)
    )
    assert (first.trials, seen) == (2, [1, 2])
    assert first.validation_log_loss <= first.configured_log_loss
    other_budget = TuningConfig(minutes=4, trials=2, folds=3)
    manifest = {**training_set.manifest, "config_digest": "another budget, another locale"}
    same_rows = TrainingSet(training_set.frame, training_set.feature_set, manifest)
    second = tune_model(same_rows, ModelConfig(), other_budget, file)
    assert second.trials == 4
    assert second.validation_log_loss <= first.validation_log_loss
    assert second.configured_log_loss == first.configured_log_loss
    other = tune_model(training_set, ModelConfig(seed=1), TuningConfig(minutes=5, trials=1, folds=3), file)
    assert other.trials == 1
    assert other.confirmation["difference"] == 0
    assert not other.beats_configured
    assert other.model["num_leaves"] == default_parameters(150)["num_leaves"]
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


def test_the_first_trial_is_what_the_configuration_says(training_set: TrainingSet, tmp_path: Path) -> None:
    config = ModelConfig(
        num_leaves=80,
        learning_rate=0.2,
        n_estimators=70,
        logistic_weight=0.2,
        lightgbm={"lambda_l1": 1.0, "reg_lambda": 0.0},
    )
    found = tune_model(
        training_set, config, TuningConfig(minutes=5, trials=1, folds=2), tmp_path / "study.db"
    )
    assert not found.found_better
    assert (found.model["num_leaves"], found.model["learning_rate"]) == (80, 0.2)
    assert (found.model["n_estimators"], found.model["logistic_weight"]) == (70, 0.2)
    assert (found.model["lightgbm"]["lambda_l1"], found.model["lightgbm"]["lambda_l2"]) == (1.0, 0.001)
    summary = TuningRun(found, tmp_path / "study.db").summary
    assert summary.startswith("1 trial. No trial beat the configured settings: log loss forward in time ")


def test_trials_hold_the_configured_directions(training_set: TrainingSet) -> None:
    column = next(name for name in training_set.feature_set.model_names if name.startswith("count_"))
    config = ModelConfig(monotone={column: -1})
    rows = _TuningRows.of(training_set, config, TuningConfig(folds=2))
    place = training_set.feature_set.model_names.index(column)
    assert [i for i, direction in enumerate(rows.directions) if direction] == [place]
    ends = np.repeat(rows.matrix[:1], 30, axis=0)
    ends[:, place] = np.arange(30)
    every = np.arange(len(rows.label))
    assert (np.diff(rows._staged(rows.first, every, ends)[-1]) <= 1e-12).all()
    with pytest.raises(ConfigError, match="monotone"):
        _TuningRows.of(training_set, ModelConfig(monotone={"nothing": 1}), TuningConfig(folds=2))


def test_an_interrupted_first_trial_is_tried_again(
    training_set: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    budget = TuningConfig(minutes=5, trials=1, folds=2)
    with monkeypatch.context() as patched:
        patched.setattr(_TuningRows, "_staged", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune_model(training_set, ModelConfig(), budget, tmp_path / "study.db")
    assert "Traceback" not in "".join(capfd.readouterr())
    found = tune_model(training_set, ModelConfig(), budget, tmp_path / "study.db")
    assert found.trials == 2
    assert found.confirmation["difference"] == 0


def test_a_gain_counts_from_two_standard_errors() -> None:
    def tuned(difference: float) -> Tuned:
        return Tuned({}, 9, 0, 0.1, 0.2, {"difference": difference, "standard_error": 0.01})

    assert tuned(-0.021).beats_configured
    assert not tuned(-0.019).beats_configured
    assert not tuned(0.5).beats_configured


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (-0.021, "worth using."),
        (-0.019, "the configured settings are as good."),
        (0.5, "keep the configured settings."),
    ],
)
def test_the_summary_says_what_the_gain_means(difference: float, verdict: str) -> None:
    check = {"tuned": 0.1, "configured": 0.1 - difference, "difference": difference, "standard_error": 0.01}
    found = Tuned({}, 9, 2, 0.1, 0.2, {**check, "rows": 1000, "positives": 20})
    summary = TuningRun(found, Path("study.db")).summary
    assert summary.startswith("9 trials (2 ended early). ")
    assert verdict in summary


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
