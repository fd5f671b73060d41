"""The simulated files: complete, reproducible, realistic."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from convpredict.config.history import ChannelDrift, HistoryConfig, KindOutage, SimulatorConfig
from convpredict.config.root import Config
from convpredict.errors import ConfigError, DataError
from convpredict.history.load import load_history
from convpredict.history.simulator import Simulation, simulate, simulation_config_tables

CONFIG = SimulatorConfig(leads=6_000, seed=3)
FILES = ("leads", "interactions", "conversions", "revenue", "spend", "truth/leads")
DAY = 86_400_000_000


def read(path: Path) -> dict[str, pa.Table]:
    return {name: pq.read_table(path / f"{name}.parquet") for name in FILES}


def microseconds(column: pa.ChunkedArray) -> np.ndarray:
    return column.drop_null().cast(pa.int64()).to_numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated")
    simulate(CONFIG, path)
    return path


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, pa.Table]:
    return read(folder)


def test_same_configuration_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    simulate(CONFIG, tmp_path)
    for name in FILES:
        assert (tmp_path / f"{name}.parquet").read_bytes() == (folder / f"{name}.parquet").read_bytes(), name


def test_another_seed_gives_other_leads(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    simulate(CONFIG.model_copy(update={"seed": 4}), tmp_path)
    other = read(tmp_path)
    assert not other["leads"]["created_at"].equals(tables["leads"]["created_at"])
    assert other["interactions"].num_rows != tables["interactions"].num_rows


def test_chunks_change_the_memory_and_nothing_else(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    shares: list[float] = []
    simulate(CONFIG.model_copy(update={"chunk_leads": 701}), tmp_path, progress=shares.append)
    other = read(tmp_path)
    for name in FILES:
        assert other[name].to_pandas().equals(tables[name].to_pandas()), name
    assert len(shares) == 9
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_times_are_utc_microseconds_and_in_order(tables: dict[str, pa.Table]) -> None:
    end = CONFIG.start.timestamp() * 1e6 + CONFIG.days * DAY
    for name, table in tables.items():
        for field in table.schema:
            if pa.types.is_timestamp(field.type):
                assert field.type == pa.timestamp("us", tz="UTC"), (name, field.name)
                times = microseconds(table[field.name])
                assert times.min() >= CONFIG.start.timestamp() * 1e6, (name, field.name)
                assert times.max() < end, (name, field.name)
    interactions = tables["interactions"].to_pandas()
    assert interactions["lead_id"].is_monotonic_increasing
    assert not (interactions.groupby("lead_id")["occurred_at"].diff().dt.total_seconds() < 0).any()


def test_nothing_happens_before_creation_or_after_the_end_of_a_lead(tables: dict[str, pa.Table]) -> None:
    leads = tables["leads"].to_pandas().merge(tables["conversions"].to_pandas(), how="left", on="lead_id")
    assert not (leads["lost_at"].notna() & leads["converted_at"].notna()).any()
    rows = tables["interactions"].to_pandas().merge(leads, on="lead_id", suffixes=("", "_conversion"))
    assert (rows["occurred_at"] >= rows["created_at"]).all()
    assert not (rows["occurred_at"] > rows["lost_at"]).any()
    assert not (rows["occurred_at"] > rows["converted_at"]).any()
    paid = tables["revenue"].to_pandas().merge(leads, on="lead_id", how="left")
    assert (paid["occurred_at"] >= paid["converted_at"]).all()
    assert (paid["amount"] > 0).all()


def test_rates_are_those_of_a_funnel(tables: dict[str, pa.Table]) -> None:
    assert 0.05 < tables["conversions"].num_rows / CONFIG.leads < 0.09
    assert 0.4 < 1 - tables["leads"]["lost_at"].null_count / CONFIG.leads < 0.75
    assert tables["interactions"].num_rows / CONFIG.leads == pytest.approx(20, rel=0.05)
    silent = CONFIG.leads - pc.count_distinct(tables["interactions"]["lead_id"]).as_py()
    assert 0.01 < silent / CONFIG.leads < 0.15


@pytest.mark.parametrize("wanted", [5.0, 60.0])
def test_more_interactions_do_not_change_conversions(wanted: float, tmp_path: Path) -> None:
    simulation = simulate(CONFIG.model_copy(update={"interactions_per_lead": wanted}), tmp_path)
    assert pq.read_metadata(tmp_path / "interactions.parquet").num_rows / CONFIG.leads == pytest.approx(
        wanted, rel=0.08
    )
    assert 0.05 < pq.read_metadata(tmp_path / "conversions.parquet").num_rows / CONFIG.leads < 0.09
    assert simulation.config.interactions_per_lead == wanted


def test_some_records_are_late(tables: dict[str, pa.Table]) -> None:
    for name, time in (("interactions", "occurred_at"), ("conversions", "converted_at")):
        late = tables[name].to_pandas().dropna(subset="recorded_at")
        assert 0.01 < len(late) / tables[name].num_rows < 0.04, name
        delay = (late["recorded_at"] - late[time]).dt.total_seconds() / 3600
        assert (delay > 0).all()
        assert 10 < delay.mean() < 60


def test_revenue_has_repeats_and_a_heavy_tail(tables: dict[str, pa.Table]) -> None:
    revenue = tables["revenue"].to_pandas()
    per_lead = revenue.groupby("lead_id").size()
    assert (per_lead > 1).mean() > 0.4
    assert per_lead.max() >= 8
    amounts = np.sort(revenue["amount"])[::-1]
    assert amounts[: len(amounts) // 20].sum() / amounts.sum() > 0.18
    assert revenue["amount"].mean() > 1.3 * revenue["amount"].median()


def test_calls_follow_bursts_of_activity(tables: dict[str, pa.Table]) -> None:
    rows = tables["interactions"].to_pandas()
    day = rows["occurred_at"].dt.floor("D")
    daily = rows.assign(day=day, call=rows["kind"] == "call").groupby(["lead_id", "day"])["call"]
    daily = daily.agg(calls="sum", rows="size").reset_index()
    busy = daily[daily["rows"] - daily["calls"] >= 3][["lead_id", "day"]]
    weeks = (CONFIG.days / 7) * CONFIG.leads
    usual = daily["calls"].sum() / weeks
    after = busy.merge(daily, on="lead_id", suffixes=("", "_call"))
    gap = (after["day_call"] - after["day"]).dt.days
    assert after[(gap > 0) & (gap <= 7)]["calls"].sum() / len(busy) > 5 * usual


def test_spend_covers_every_campaign_and_day(tables: dict[str, pa.Table]) -> None:
    spend, leads = tables["spend"].to_pandas(), tables["leads"].to_pandas()
    campaigns = set(leads["campaign"].dropna())
    assert set(spend["campaign"]) >= campaigns
    assert (spend.groupby("campaign").size() == CONFIG.days).all()
    assert (spend["amount"] >= 0).all()
    channels = leads.dropna(subset="campaign").groupby("campaign", observed=True)["channel"].unique()
    assert all(len(values) == 1 for values in channels)
    assert leads.loc[leads["channel"] == "organic_search", "campaign"].isna().all()


def test_outage_hides_one_kind_for_some_days(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    simulate(
        CONFIG.model_copy(update={"outage": KindOutage(kind="email_open", from_day=300, days=30)}), tmp_path
    )
    full, holed = tables["interactions"], pq.read_table(tmp_path / "interactions.parquet")
    start = pa.scalar(int(CONFIG.start.timestamp() * 1e6) + 300 * DAY)
    days = pc.floor(pc.divide(pc.subtract(full["occurred_at"].cast(pa.int64()), start), float(DAY)))
    hidden = pc.and_(
        pc.and_(pc.greater_equal(days, 0), pc.less(days, 30)),
        pc.equal(full["kind"].cast(pa.string()), "email_open"),
    )
    assert pc.sum(hidden).as_py() > 100
    assert holed.equals(full.filter(pc.invert(hidden)))


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    drift = CONFIG.model_copy(update={"drift": ChannelDrift(channel="smoke_signals", from_day=240)})
    with pytest.raises(ConfigError, match=r"drift\.channel must be one of .*smoke_signals"):
        simulate(drift, tmp_path)
    outage = CONFIG.model_copy(update={"outage": KindOutage(kind="fax", from_day=10)})
    with pytest.raises(ConfigError, match=r"outage\.kind must be one of .*fax"):
        simulate(outage, tmp_path)


def test_a_folder_without_a_simulation_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no simulated history"):
        Simulation.open(tmp_path)
    (tmp_path / "truth").mkdir()
    state = (folder / "truth" / "simulation.json").read_text(encoding="utf-8")
    other = state.replace('"seed": 3', '"seed": 5')
    assert other != state
    (tmp_path / "truth" / "simulation.json").write_text(other, encoding="utf-8")
    with pytest.raises(DataError, match="simulate again"):
        Simulation.open(tmp_path)


def test_configuration_tables_name_the_columns_of_the_files(tables: dict[str, pa.Table]) -> None:
    declared = simulation_config_tables(CONFIG)
    config = Config.model_validate({"name": "simulated", **declared})
    assert set(config.sources) == set(HistoryConfig.model_fields) & set(config.sources)
    for name in ("leads", "interactions", "spend"):
        attributes = getattr(config.history, name).attributes
        assert set(attributes) <= set(tables[name].column_names), name
    assert config.history.known_until == datetime(2025, 12, 31, tzinfo=UTC)


def test_the_files_are_read_back_without_loss(folder: Path, tables: dict[str, pa.Table]) -> None:
    config = Config.model_validate({"name": "simulated", **simulation_config_tables(CONFIG)})
    history = load_history(config, folder)
    assert history.n_leads == CONFIG.leads
    assert history.n_interactions == tables["interactions"].num_rows
    assert history.conversions.num_rows == tables["conversions"].num_rows
    assert history.revenue.num_rows == tables["revenue"].num_rows
    assert history.spend.num_rows == tables["spend"].num_rows
    assert history.has_late_records
