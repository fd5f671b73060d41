"""Learnt points: a planted card comes back, rules keep their direction, the YAML is what the scorecard reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import expit

from commands import call
from convpredict.config.load import load_project
from convpredict.config.training import ActivityRule, AttributeRule, TimingRule
from convpredict.models.scorecard import Scorecard
from convpredict.models.scorecard_candidates import Candidate
from convpredict.models.scorecard_points import fit_logit, rounded_points, select_rules, whole_points
from convpredict.models.scorecard_terms import Term

CONFIGS = Path(__file__).parents[1] / "configs"


def candidate(name: str, group: str, sign: int = 0) -> Candidate:
    return Candidate(Term(ActivityRule(kind=name, points=1), name), group, sign)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six columns of which the first three tell: 2, 1 and -1 on the logit; the fourth copies the first, noisily."""
    rng = np.random.default_rng(5)
    units = rng.poisson(0.7, (12_000, 6)).astype(float)
    units[:, 3] = units[:, 0] + (rng.random(12_000) < 0.5)
    logit = -3 + 1.0 * units[:, 0] + 0.5 * units[:, 1] - 0.5 * units[:, 2]
    return units, (rng.random(12_000) < expit(logit)).astype(float), np.ones(12_000)


def test_planted_rules_and_proportions_come_back(planted) -> None:
    units, label, weight = planted
    candidates = [candidate(f"k{i}", f"group {i}") for i in range(6)]
    chosen = select_rules(units, label, weight, candidates, 3)
    assert sorted(chosen) == [0, 1, 2]
    points = dict(zip(chosen, whole_points(units[:, chosen], label, weight, largest=20), strict=True))
    assert all(value == int(value) for value in points.values())
    assert points[0] / points[1] == pytest.approx(2, rel=0.25)
    assert points[2] / points[1] == pytest.approx(-1, rel=0.25)


def test_one_rule_of_a_group_and_no_rule_against_its_direction(planted) -> None:
    units, label, weight = planted
    candidates = [candidate(f"k{i}", "same" if i in (0, 3) else f"group {i}") for i in range(6)]
    candidates[2] = candidate("k2", "group 2", sign=1)
    chosen = select_rules(units, label, weight, candidates, 6)
    assert 0 in chosen
    assert 3 not in chosen
    assert 2 not in chosen


def test_noise_alone_gives_hardly_a_rule() -> None:
    rng = np.random.default_rng(1)
    units = rng.poisson(0.7, (3_000, 5)).astype(float)
    label = (rng.random(3_000) < 0.1).astype(float)
    assert (
        len(select_rules(units, label, np.ones(3_000), [candidate(f"k{i}", str(i)) for i in range(5)], 5))
        <= 1
    )


def test_newton_steps_find_where_the_slope_vanishes(planted) -> None:
    units, label, weight = planted
    coefficients, level = fit_logit(units[:, :3], label, weight)
    rest = weight * (label - expit(units[:, :3] @ coefficients + level))
    assert np.abs(units[:, :3].T @ rest).max() < 0.01
    assert abs(rest.sum()) < 0.01


def test_whole_points_are_better_than_plain_rounding(planted) -> None:
    units, label, weight = planted
    columns = units[:, :3]
    coefficients, _ = fit_logit(columns, label, weight)

    def loss(points: np.ndarray) -> float:
        slope, level = fit_logit((columns @ points)[:, None], label, weight)
        logit = slope[0] * (columns @ points) + level
        return float(np.mean(np.logaddexp(0, logit) - label * logit))

    assert (
        loss(whole_points(columns, label, weight, largest=12)) <= loss(rounded_points(coefficients, 3)) + 1e-9
    )


def test_a_candidate_becomes_a_rule_with_its_points() -> None:
    activity = Candidate(Term(ActivityRule(kind="call", points=1, at_most=4), "x"), "kind call", limit=4)
    assert activity.with_points(-3) == ActivityRule(kind="call", points=-3, at_most=12)
    timing = Candidate(Term(TimingRule(days_since="creation", points=1, below=7), "x"), "young")
    assert timing.with_points(5) == TimingRule(days_since="creation", points=5, below=7)


def test_the_command_prints_a_card_that_the_scorecard_reads(tmp_path: Path) -> None:
    config = tmp_path / "demo.yaml"
    config.write_text((CONFIGS / "demo.yaml").read_text().replace("data: ../demo_data", "data: data"))
    small = ["--set", "simulator.leads=2500", "--set", "model.seeds=1", "--set", "evaluation.resamples=50"]

    assert call("simulate", "demo.yaml", *small, cwd=tmp_path).returncode == 0
    sizes = [
        "--set",
        "model.n_estimators=50",
        "--set",
        "model.num_leaves=7",
        "--set",
        "model.logistic_weight=0.3",
    ]
    learn = ("scorecard", "learn", "demo.yaml", "--out", "card.yaml", "--rules", "6", "--json")
    done = call(*learn, *small, *sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rules = yaml.safe_load(result["yaml"])["rules"]
    assert 1 <= len(rules) <= 6
    assert all(isinstance(rule["points"], int) and rule["points"] for rule in rules)
    assert Scorecard.from_yaml(result["yaml"]).to_yaml() == result["yaml"]
    assert any("full model" in sentence for sentence in result["sentences"])
    section = yaml.safe_load((tmp_path / "card.yaml").read_text())["scorecard"]
    merged = yaml.safe_load(config.read_text()) | {"scorecard": section}
    (tmp_path / "with_card.yaml").write_text(yaml.safe_dump(merged))
    read = load_project(tmp_path / "with_card.yaml").config.scorecard
    assert read is not None
    assert read.thresholds.keys() == {"call"}
    kinds = [rule for rule in read.rules if isinstance(rule, ActivityRule)]
    assert all(rule.at_most is not None for rule in kinds)
    assert not [rule for rule in read.rules if isinstance(rule, AttributeRule) and not rule.values]
