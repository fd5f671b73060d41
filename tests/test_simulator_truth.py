"""The simulated truth: calibrated against what happens, and against brute-force replicas of one lead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from convpredict.config.base import Duration
from convpredict.config.history import ChannelDrift, SimulatorConfig
from convpredict.errors import DataError
from convpredict.history.simulator import Simulation, simulate
from convpredict.history.simulator.generator import LeadArrays, Process, empty_outcome
from convpredict.history.simulator.kernels import simulate_leads
from convpredict.history.simulator.population import lead_streams
from convpredict.history.simulator.revenue import mean_revenue

CONFIG = SimulatorConfig(leads=20_000, seed=11)
DAY = pd.Timedelta("1D")


def read_leads(path: Path) -> pd.DataFrame:
    leads = pd.read_parquet(path / "leads.parquet")
    return leads.merge(pd.read_parquet(path / "conversions.parquet"), how="left", on="lead_id")


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    path = tmp_path_factory.mktemp("truth")
    simulate(CONFIG, path)
    return Simulation.open(path)


@pytest.fixture(scope="module")
def leads(simulation: Simulation) -> pd.DataFrame:
    return read_leads(simulation.path)


def observe_once(leads: pd.DataFrame, simulation: Simulation, horizon_days: int, seed: int) -> pd.DataFrame:
    """One mature observation of each open lead, at a random age, with its label: all independent."""
    age = np.random.default_rng(seed).uniform(3, 75, len(leads))
    rows = leads.assign(cutoff=(leads["created_at"] + pd.to_timedelta(age, unit="D")).dt.floor("us"))
    open_ = ~(rows["converted_at"] < rows["cutoff"]) & ~(rows["lost_at"] < rows["cutoff"])
    rows = rows[open_ & (rows["cutoff"] + horizon_days * DAY <= pd.Timestamp(simulation.known_until))]
    converts = rows["converted_at"] < rows["cutoff"] + horizon_days * DAY
    truth = simulation.true_probability(rows["lead_id"], rows["cutoff"], f"{horizon_days}d")
    return rows.assign(label=converts.astype(float), truth=truth)


def standard_score(rows: pd.DataFrame) -> float:
    variance = (rows["truth"] * (1 - rows["truth"])).sum()
    return float((rows["label"] - rows["truth"]).sum() / np.sqrt(variance))


@pytest.mark.parametrize("horizon_days", [7, 30, 90])
def test_truth_is_calibrated(leads: pd.DataFrame, simulation: Simulation, horizon_days: int) -> None:
    rows = observe_once(leads, simulation, horizon_days, seed=horizon_days)
    assert len(rows) > 10_000
    assert abs(standard_score(rows)) < 3
    by_decile = rows.groupby(pd.qcut(rows["truth"], 10, labels=False)).apply(standard_score)
    assert by_decile.abs().max() < 3.3
    by_channel = rows.groupby("channel", observed=True).apply(standard_score)
    assert by_channel.abs().max() < 3.3
    by_month = rows.groupby(rows["cutoff"].dt.month).apply(standard_score)
    assert by_month.abs().max() < 3.3


def test_truth_discriminates_realistically(leads: pd.DataFrame, simulation: Simulation) -> None:
    rows = observe_once(leads, simulation, 30, seed=1)
    assert 0.75 < roc_auc_score(rows["label"], rows["truth"]) < 0.92
    assert rows["truth"].max() > 0.3
    assert rows["truth"].min() < 0.005


def test_truth_agrees_with_replicas_of_one_lead(simulation: Simulation) -> None:
    """An independent oracle: the same lead, 60,000 times, and how often it converts within 60 days."""
    process, replicas = simulation.process, 60_000
    population, one = process.prepare(np.array([123]))
    many = LeadArrays(*(np.repeat(column, replicas) for column in one))
    hazard = np.full(replicas, one.hazard[0] * 4)
    many = many._replace(stream=lead_streams(99, 0, np.arange(replicas)), hazard=hazard)
    outcome = _run(process, many)
    lead_id, created = population.index + 1, one.created_at
    converted = (outcome >= created[0]) & (outcome < created[0] + Duration("60d").microseconds)
    share = converted.mean()
    louder = Process.of(simulation.config, process.intensity)
    louder = _with_hazard(louder, 4.0)
    truth = Simulation(simulation.path, simulation.config, louder).true_probability(lead_id, created, "60d")[
        0
    ]
    assert 0.05 < truth < 0.9
    assert share == pytest.approx(truth, abs=3.5 * np.sqrt(truth * (1 - truth) / replicas))


def _with_hazard(process: Process, factor: float) -> Process:
    rates = process.rates._replace(base_hazard=process.rates.base_hazard * factor)
    return Process(process.config, process.intensity, rates, process.clock, process.origin, process.end)


def _run(process: Process, lead: LeadArrays) -> np.ndarray:
    outcome = empty_outcome(len(lead.created), len(lead.created) * 60)
    done, _ = simulate_leads(lead, 0, 0, process.rates, process.clock, process.origin, outcome)
    assert done == len(lead.created)
    return outcome.converted


def test_truth_of_an_observation_depends_on_it_alone(leads: pd.DataFrame, simulation: Simulation) -> None:
    rows = observe_once(leads, simulation, 30, seed=2).head(2_000)
    shuffled = rows.sample(frac=1.0, random_state=0)
    again = simulation.true_probability(shuffled["lead_id"].to_numpy(), shuffled["cutoff"].to_numpy(), "30d")
    assert np.array_equal(again, shuffled["truth"])
    single = simulation.true_probability([rows["lead_id"].iloc[7]], [rows["cutoff"].iloc[7]], Duration("30d"))
    assert single[0] == rows["truth"].iloc[7]


def test_truth_grows_with_the_horizon(leads: pd.DataFrame, simulation: Simulation) -> None:
    rows = observe_once(leads, simulation, 30, seed=3).head(1_000)
    by_horizon = [
        simulation.true_probability(rows["lead_id"], rows["cutoff"], h) for h in ("1d", "7d", "30d", "90d")
    ]
    assert (np.diff(np.stack(by_horizon), axis=0) > 0).all()


def test_truth_is_missing_where_there_is_no_open_lead(leads: pd.DataFrame, simulation: Simulation) -> None:
    converted = leads.dropna(subset="converted_at").head(5)
    lost = leads.dropna(subset="lost_at").head(5)
    instant = pd.Timedelta("1us")
    for rows, column in ((converted, "converted_at"), (lost, "lost_at")):
        assert np.isnan(simulation.true_probability(rows["lead_id"], rows[column] + instant, "30d")).all()
        assert np.isfinite(simulation.true_probability(rows["lead_id"], rows[column] - instant, "30d")).all()
        assert np.isnan(simulation.true_probability(rows["lead_id"], rows["created_at"] - DAY, "30d")).all()


def test_unknown_leads_and_uneven_arguments_are_refused(simulation: Simulation) -> None:
    cutoff = pd.Timestamp("2024-06-01", tz="UTC")
    with pytest.raises(DataError, match="lead ids 1 to 20000; got ids from 20001 to 20001"):
        simulation.true_probability([20_001], [cutoff], "30d")
    with pytest.raises(DataError, match="2 ids and 1 cutoffs"):
        simulation.true_probability([1, 2], [cutoff], "30d")


def test_split_test_effect_is_recovered(leads: pd.DataFrame, simulation: Simulation) -> None:
    """The difference between the arms within 90 days covers the mean true uplift at creation."""
    rows = leads[leads["created_at"] + 90 * DAY <= pd.Timestamp(simulation.known_until)]
    label = (rows["converted_at"] < rows["created_at"] + 90 * DAY).to_numpy(dtype=float)
    treated = (rows["split_arm"] == "treatment").to_numpy()
    assert treated.mean() == pytest.approx(0.5, abs=0.015)
    arms = {
        arm: simulation.true_probability(rows["lead_id"], rows["created_at"], "90d", arm=arm)
        for arm in ("control", "treatment")
    }
    uplift = (arms["treatment"] - arms["control"]).mean()
    observed = label[treated].mean() - label[~treated].mean()
    error = np.sqrt(label[treated].var() / treated.sum() + label[~treated].var() / (~treated).sum())
    assert uplift > 0.005
    assert abs(observed - uplift) < 2.5 * error
    own = simulation.true_probability(rows["lead_id"], rows["created_at"], "90d")
    assert np.array_equal(own, np.where(treated, arms["treatment"], arms["control"]))
    large = (rows["company_size"] == "1001+").to_numpy()
    assert (arms["treatment"] - arms["control"])[large].max() < 0


def test_value_is_probability_times_mean_revenue(leads: pd.DataFrame, simulation: Simulation) -> None:
    rows = observe_once(leads, simulation, 30, seed=4).head(500)
    value = simulation.true_value(rows["lead_id"], rows["cutoff"], "30d", "180d")
    ratio = value / rows["truth"]
    assert ratio.between(1_000, 100_000).all()
    assert ratio.groupby([rows[name].astype(str) for name in ("industry", "company_size")]).std().max() < 1e-6
    longer = simulation.true_value(rows["lead_id"], rows["cutoff"], "30d", "360d")
    assert (longer > value).all()


def test_mean_revenue_is_that_of_the_customers(leads: pd.DataFrame, simulation: Simulation) -> None:
    end = pd.Timestamp(simulation.known_until)
    customers = leads[leads["converted_at"] + 120 * DAY <= end]
    revenue = pd.read_parquet(simulation.path / "revenue.parquet")
    revenue = revenue.merge(customers[["lead_id", "converted_at"]], on="lead_id")
    within = revenue[revenue["occurred_at"] < revenue["converted_at"] + 120 * DAY]
    paid = within.groupby("lead_id")["amount"].sum().reindex(customers["lead_id"], fill_value=0.0)
    population, _ = simulation.process.prepare(customers["lead_id"].to_numpy() - 1)
    difference = paid.to_numpy() - mean_revenue(population.log_amount, 120.0)
    assert len(customers) > 500
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(len(customers))


def test_true_effects_name_every_channel_and_campaign(leads: pd.DataFrame, simulation: Simulation) -> None:
    effects = simulation.true_effects
    assert set(effects["channel"]) == set(leads["channel"])
    assert set(effects["campaign"]) == set(leads["campaign"].dropna())
    assert effects["split_arm"]["mean_log_hazard_ratio"] == 0.3
    ratio = np.log([effects["split_arm"]["by_company_size"][size] for size in leads["company_size"]])
    assert ratio.mean() == pytest.approx(0.3, abs=0.01)


def test_drift_lowers_a_channel_and_the_truth_follows(simulation: Simulation, tmp_path: Path) -> None:
    drift = ChannelDrift(channel="organic_search", from_day=240, factor=0.3)
    drifting = simulate(CONFIG.model_copy(update={"drift": drift}), tmp_path)
    leads = read_leads(tmp_path)
    rows = observe_once(leads[leads["channel"] == "organic_search"], drifting, 30, seed=5)
    turn = pd.Timestamp(CONFIG.start) + 240 * DAY
    later, sooner = rows[rows["cutoff"] >= turn], rows[rows["cutoff"] < turn - 30 * DAY]
    assert later["truth"].mean() < 0.5 * sooner["truth"].mean()
    assert abs(standard_score(later)) < 3
    assert abs(standard_score(sooner)) < 3
    before = simulation.true_probability(sooner["lead_id"], sooner["cutoff"], "30d")
    assert np.allclose(before, sooner["truth"], rtol=1e-9)
