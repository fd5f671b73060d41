"""The training set: the account adds up, rows, labels and features are right, and it survives the disk."""

from __future__ import annotations

import functools
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.model_selection import cross_val_score

from convpredict.config.base import Duration
from convpredict.config.features import CountFeature
from convpredict.config.load import Project, parse_project
from convpredict.errors import ConfigError, DataError, NotEnoughDataError
from convpredict.features.build import build_features
from convpredict.history.history import History
from convpredict.training.observations import open_observations
from convpredict.training.splits import KEPT, PARTS
from convpredict.training.training_set import TrainingSet, build_training_set
from factories import day, make_history, random_history

EXTRA = (CountFeature(windows=(Duration("5d"),)),)


def history() -> History:
    return random_history(
        np.random.default_rng(7), leads=120, days=120, interactions_per_lead=8, conversion_share=0.6
    )


def project(**sections: Any) -> Project:
    content = {
        "name": "tests",
        "sources": {"nothing": {"file": "nothing.csv"}},
        "history": {"leads": {"source": "nothing"}},
        "observations": {"cutoffs": {"every": "3d"}, "max_age": "60d"},
        "labels": {"horizons": ["10d", "5d"]},
        "features": {"min_count": 2},
    }
    return parse_project({**content, **sections})


@pytest.fixture(scope="module")
def built() -> TrainingSet:
    return build_training_set(history(), project(), extra_features=EXTRA)


@functools.cache
def conversions_by_lead() -> dict[str, dict[str, Any]]:
    source = history()
    lead_ids = source.leads["lead_id"].to_pylist()
    return {lead_ids[row["lead_row"]]: row for row in source.conversions.to_pylist()}


def label_by_hand(end: datetime, lead: str, cutoff: pd.Timestamp, length: timedelta) -> int | None:
    """The label as the documentation defines it, None where it is not known at ``end``."""
    row = conversions_by_lead().get(lead)
    within = row is not None and cutoff <= row["converted_at"] < cutoff + length
    if cutoff + length <= end:
        return int(within)
    return 1 if row and within and max(row["converted_at"], row["recorded_at"] or cutoff) < end else None


class TestFrame:
    def test_columns_and_types(self, built: TrainingSet) -> None:
        frame = built.frame
        head = [
            "lead_id",
            "cutoff",
            "split",
            "label_10d",
            "label_5d",
            "event_after_us",
            "event_known_after_us",
        ]
        assert list(frame.columns) == [*head, *built.feature_set.names]
        assert {str(frame[name].dtype) for name in head[5:]} == {"int64"}
        assert str(frame["cutoff"].dtype) == "datetime64[us, UTC]"
        assert list(frame["split"].cat.categories) == list(KEPT)
        assert {str(frame[name].dtype) for name in ("label_10d", "label_5d")} == {"int8"}
        for column in built.feature_set.columns:
            if column.type == "number":
                assert frame[column.name].dtype == np.float32
            else:
                assert tuple(frame[column.name].cat.categories) == column.categories

    def test_rows_are_sorted_and_unique(self, built: TrainingSet) -> None:
        keys = built.frame[["lead_id", "cutoff"]]
        assert not keys.duplicated().any()
        assert keys.equals(keys.sort_values(["lead_id", "cutoff"]))

    def test_the_frame_can_be_changed(self, built: TrainingSet) -> None:
        mine = built.frame.copy()
        mine.loc[0, built.feature_set.model_names[0]] = 1.0
        mine["ratio"] = mine["label_5d"] / 2

    def test_labels_are_those_of_the_time_rule(self, built: TrainingSet) -> None:
        for days in (5, 10):
            for part in KEPT:
                rows = built.part(part)
                expected = [
                    label_by_hand(built.known_by(part), lead, cutoff, timedelta(days=days))
                    for lead, cutoff in zip(rows["lead_id"], rows["cutoff"], strict=True)
                ]
                label = built.outcomes(part, f"{days}d").label
                assert np.array_equal(label, np.array(expected, float), equal_nan=True)
                if part != "train":
                    assert rows[f"label_{days}d"].tolist() == [-1 if e is None else e for e in expected]

    def test_the_same_cell_comes_out_in_scoring(self, built: TrainingSet) -> None:
        source = history()
        cutoff = built.cutoffs("test").value_counts().index[0]
        observed = open_observations(source, cutoff.to_pydatetime(), Duration("60d")).table
        scored = build_features(source, observed, built.feature_set).to_pandas()
        trained = built.frame[built.frame["cutoff"] == cutoff]
        names = ["lead_id", *built.feature_set.names]
        pd.testing.assert_frame_equal(
            scored[names].reset_index(drop=True), trained[names].reset_index(drop=True), check_exact=True
        )


class TestParts:
    def test_vocabularies_are_learnt_before_the_calibrate_part(self) -> None:
        leads = [
            (f"lead-{n:03d}", day(n / 3), None, {"source": "late" if n >= 180 else ("ads", "fair")[n % 2]})
            for n in range(300)
        ]
        conversions = [(lead[0], lead[1] + timedelta(days=4)) for lead in leads[::3]]
        source = make_history(leads, conversions=conversions, known_until=day(100))
        split = {"calibrate_from": day(60).isoformat(), "test_from": day(80).isoformat()}
        made = build_training_set(source, project(split=split))
        assert set(made.frame["attribute_source"].cat.categories) == {"ads", "fair", "(other)"}
        created = {lead[0]: lead[1] for lead in leads}
        late = made.frame["lead_id"].map(lambda lead: created[lead] >= day(60))
        assert ((made.frame["attribute_source"] == "(other)") == late).all()
        assert late.any()

    def test_x_holds_the_models_columns_only(self, built: TrainingSet) -> None:
        assert "count_5d" in built.frame
        assert "count_5d" in built.feature_set.scorecard_only
        assert list(built.X("train").columns) == list(built.feature_set.model_names)
        assert "count_5d" not in built.X("train")

    def test_accessors_are_aligned(self, built: TrainingSet) -> None:
        for part in PARTS:
            X, y = built.X(part), built.y(part)
            assert len(X) == built.manifest["parts"][part]["observations"]
            for column in (y, built.y(part, "5d"), built.lead_ids(part), built.cutoffs(part)):
                assert column.index.equals(X.index)
            assert y.tolist() == built.part(part)["label_10d"].tolist()
            assert y.dtype == np.int8
        assert built.y("test").name == "label_10d"
        assert built.y("test", Duration("5d")).name == "label_5d"

    def test_the_development_rows_are_known_before_the_test_part(self, built: TrainingSet) -> None:
        development = built.part("development")
        assert len(development) == sum(len(built.part(name)) for name in ("train", "between", "calibrate"))
        assert len(built.part("between")) > 0
        assert (development["cutoff"] + pd.Timedelta(days=10)).max() <= built.cutoffs("test").min()

    def test_unknown_names_are_explained(self, built: TrainingSet) -> None:
        with pytest.raises(ConfigError, match="no label for the horizon 30d; it has 10d, 5d"):
            built.y("test", "30d")
        with pytest.raises(
            ConfigError,
            match="no part 'validate'; its parts are train, calibrate, test, between, recent, dev",
        ):
            built.X("validate")

    def test_another_library_trains_on_it(self, built: TrainingSet) -> None:
        model = LGBMClassifier(n_estimators=5, verbose=-1)
        folds = built.time_split(2, lead_groups=2)
        scores = cross_val_score(model, built.X("train"), built.y("train"), cv=folds, scoring="neg_log_loss")
        assert len(scores) == 4
        assert np.isfinite(scores).all()


class TestKnowledge:
    """What a row knows of its outcome, and when."""

    def test_recent_rows_lie_before_the_test_part_and_their_labels_are_refused(
        self, built: TrainingSet
    ) -> None:
        recent = built.part("recent")
        end = pd.Timestamp(built.test_from)
        assert len(recent) > 0
        assert (recent["cutoff"] < end).all()
        assert (recent["cutoff"] + pd.Timedelta(days=10) > end).all()
        assert set(recent["label_10d"]) == {-1, 1}
        with pytest.raises(
            ConfigError, match=r"10d label of \d+ of the \d+ rows of the part 'recent'.*outcomes"
        ):
            built.y("recent")
        outcomes = built.outcomes("recent")
        assert outcomes.followed_us.tolist() == ((end - recent["cutoff"]) // pd.Timedelta("1us")).tolist()
        early = outcomes.label == 1
        assert (outcomes.event_after_us[early] < outcomes.followed_us[early]).all()
        assert (outcomes.event_after_us[np.isnan(outcomes.label)] < 0).all()
        assert (recent["event_known_after_us"] < outcomes.followed_us).all()

    def test_further_horizons_are_censored_and_never_handed_out_as_labels(self) -> None:
        made = build_training_set(history(), project(labels={"horizons": ["10d", "40d"]}))
        assert made.manifest["split"]["gap"] == "10d"
        for part in ("train", "calibrate", "test"):
            assert np.isnan(made.outcomes(part, "40d").label).any()
            assert not np.isnan(made.outcomes(part).label).any()
            with pytest.raises(ConfigError, match="40d label of"):
                made.y(part, "40d")
        known = made.outcomes("train", "40d")
        assert (known.event_after_us < known.followed_us).all()
        later = made.outcomes("development", "40d").label[made.part("development")["split"] == "train"]
        settled = ~np.isnan(known.label)
        assert np.array_equal(later[settled], known.label[settled])
        assert (~np.isnan(later)).sum() > settled.sum()

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 10**6), outcome=st.sampled_from(["conversion", "purchase"]))
    def test_nothing_that_was_learnt_after_t_changes_a_row_before_t(self, seed: int, outcome: str) -> None:
        """Mature labels count a conversion from when it happened, so only what happened from T on is changed."""
        rng = np.random.default_rng(seed)
        leads = [(f"lead-{n:02d}", day(rng.uniform(0, 70))) for n in range(40)]
        events = [(lead, created + timedelta(days=rng.exponential(15)), None) for lead, created in leads]
        late = [(lead, at, at + timedelta(days=rng.exponential(9))) for lead, at, _ in events[::3]]
        past = sorted([*events[1::3], *events[2::3], *late])
        test_from = day(70)
        split = {"calibrate_from": day(40).isoformat(), "test_from": test_from.isoformat()}
        later = [
            (lead, test_from + timedelta(days=rng.uniform(0, 30)), None)
            if at >= test_from
            else (lead, at, known)
            for lead, at, known in past
        ]
        # Of an outcome in a recent row's horizon, only when it became known counts.
        later = [
            (lead, at, test_from + timedelta(days=rng.uniform(0, 5)))
            if known and known >= test_from
            else (lead, at, known)
            for lead, at, known in later
        ]
        frames = []
        for rows in (past, later):
            events_of = {"conversions": rows} if outcome == "conversion" else {}
            bought = [(lead, at, 5.0, known) for lead, at, known in rows] if outcome == "purchase" else ()
            source = make_history(leads, revenue=bought, known_until=day(110), **events_of)
            labels = {"horizons": ["10d", "30d"], "outcome": outcome}
            try:
                made = build_training_set(source, project(split=split, labels=labels))
            except NotEnoughDataError:
                assume(False)
            frame = made.frame
            frames.append(frame[frame["cutoff"] < pd.Timestamp(test_from)].reset_index(drop=True))
        head = [
            "lead_id",
            "cutoff",
            "split",
            "label_10d",
            "label_30d",
            "event_after_us",
            "event_known_after_us",
        ]
        pd.testing.assert_frame_equal(frames[0][head], frames[1][head])

    def test_a_conversion_recorded_late_is_not_known_early(self) -> None:
        leads = [(f"lead-{n:03d}", day(n * 0.7)) for n in range(150)]
        conversions = [(lead, created + timedelta(days=4)) for lead, created in leads[::3]]
        slow = ("slow", day(84))
        source = make_history(
            [*leads, slow], conversions=[*conversions, ("slow", day(88), day(95))], known_until=day(105)
        )
        split = {"calibrate_from": day(60).isoformat(), "test_from": day(90).isoformat()}
        made = build_training_set(source, project(split=split, labels={"horizons": ["10d", "3d"]}))
        recent = made.part("recent")
        mine = (recent["lead_id"] == "slow").to_numpy()
        assert mine.any()
        assert np.isnan(made.outcomes("recent").label[mine]).all()
        assert (
            made.outcomes("recent").event_after_us[mine & (recent["cutoff"] <= "2024-03-26").to_numpy()] < 0
        ).all()
        short = made.outcomes("recent", "3d").label[mine]
        ended = (recent["cutoff"][mine] + pd.Timedelta(days=3) <= pd.Timestamp(day(90))).to_numpy()
        expected = (pd.Timestamp(day(88)) < recent["cutoff"][mine] + pd.Timedelta(days=3)).to_numpy()
        assert np.array_equal(short[ended], expected[ended].astype(float))


class TestPurchases:
    def test_customers_stay_observed_and_any_revenue_is_the_outcome(self) -> None:
        leads = [(f"c-{n:02d}", day(n / 2)) for n in range(60)]
        bought = [(lead, created + timedelta(days=gap), 9.0) for lead, created in leads for gap in (0, 6, 31)]
        source = make_history(
            leads,
            conversions=[(lead, created) for lead, created in leads],
            revenue=bought,
            known_until=day(90),
        )
        split = {"calibrate_from": day(30).isoformat(), "test_from": day(50).isoformat()}
        labels = {"horizons": ["10d"], "outcome": "purchase"}
        made = build_training_set(source, project(split=split, labels=labels))
        created = dict(leads)
        for part in ("train", "calibrate", "test"):
            rows = made.part(part)
            expected = [
                any(
                    cutoff <= created[lead] + timedelta(days=gap) < cutoff + timedelta(days=10)
                    for gap in (0, 6, 31)
                )
                for lead, cutoff in zip(rows["lead_id"], rows["cutoff"], strict=True)
            ]
            assert made.y(part).tolist() == expected
        assert made.manifest["outcome"] == "purchase"
        scored = open_observations(source, day(80), outcome="purchase")
        assert scored.table.num_rows == 60
        assert open_observations(source, day(80)).table.num_rows == 0

    def test_without_revenue_there_is_nothing_to_predict(self) -> None:
        leads = [("a", day(1))]
        with pytest.raises(
            ConfigError, match=r"labels\.outcome is 'purchase', but the history has no revenue"
        ):
            build_training_set(
                make_history(leads, known_until=day(50)), project(labels={"outcome": "purchase"})
            )


class TestManifest:
    def test_the_account_adds_up(self, built: TrainingSet) -> None:
        rows = built.manifest["observations"]
        left_out = sum(rows["excluded"].values()) + sum(rows["set_aside"].values())
        assert rows["candidates"] == rows["kept"] + left_out
        assert rows["kept"] == len(built.frame)
        assert min(rows["excluded"]["after_conversion"], rows["excluded"]["undated_conversion"]) > 0
        assert rows["set_aside"]["immature"] > 0
        assert rows["set_aside"]["unusable"] == rows["set_aside"]["gap"] == 0

    def test_parts_are_described_as_they_are(self, built: TrainingSet) -> None:
        manifest = built.manifest
        sizes = Counter(built.frame["split"])
        for part, described in manifest["parts"].items():
            cutoffs = built.cutoffs(part)
            assert described["observations"] == sizes[part]
            assert described["leads"] == built.lead_ids(part).nunique()
            assert pd.Timestamp(described["first_cutoff"]) == cutoffs.min()
            assert pd.Timestamp(described["last_cutoff"]) == cutoffs.max()
            for days in (5, 10):
                label = described["labels"][f"label_{days}d"]
                known = built.part(part)[f"label_{days}d"]
                assert label["positives"] == (known == 1).sum()
                assert label["known"] == (known >= 0).sum()
                if (known < 0).any():
                    assert label["share"] is None
                else:
                    assert label["share"] == pytest.approx(built.y(part, f"{days}d").mean())
        reach = pd.Timedelta(manifest["split"]["gap"].replace("d", " days"))
        boundary = pd.Timestamp(manifest["split"]["calibrate_from"])
        assert pd.Timestamp(manifest["parts"]["train"]["last_cutoff"]) + reach <= boundary

    def test_it_names_data_configuration_and_versions(self, built: TrainingSet) -> None:
        manifest = built.manifest
        assert manifest["data_fingerprint"] == history().fingerprint
        assert manifest["config_digest"] == project().digest
        assert manifest["feature_set_digest"] == built.feature_set.digest
        assert manifest["versions"]["pandas"] == pd.__version__
        assert "convpredict" in manifest["versions"]
        assert manifest["known_until"] == "2024-04-30T00:00:00Z"
        assert manifest["horizons"] == ["10d", "5d"]
        assert json.loads(json.dumps(manifest)) == manifest

    def test_leads_without_a_conversion_date_are_counted(self, built: TrainingSet) -> None:
        undated = history().conversions["converted_at"].null_count
        assert built.manifest["leads"]["undated_conversion"] == undated > 0

    def test_it_shows_itself(self, built: TrainingSet) -> None:
        html = built._repr_html_()
        assert ">calibrate</td>" in html
        assert f"{len(built.frame):,} observations" in html


class TestFiles:
    def test_save_and_load(self, built: TrainingSet, tmp_path: Path) -> None:
        built.save(tmp_path / "sets" / "one")
        again = TrainingSet.load(tmp_path / "sets" / "one")
        pd.testing.assert_frame_equal(again.frame, built.frame, check_exact=True)
        assert again.feature_set == built.feature_set
        assert again.manifest == built.manifest
        assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["one"]

    def test_same_input_same_bytes(self, built: TrainingSet, tmp_path: Path) -> None:
        built.save(tmp_path / "one")
        build_training_set(history(), project(), extra_features=EXTRA).save(tmp_path / "two")
        for path in (tmp_path / "one").iterdir():
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()

    def test_an_older_set_is_replaced_but_nothing_else(self, built: TrainingSet, tmp_path: Path) -> None:
        built.save(tmp_path / "one")
        built.save(tmp_path / "one")
        assert len(TrainingSet.load(tmp_path / "one").frame) == len(built.frame)
        (tmp_path / "one" / "thesis.txt").write_text("years of work")
        with pytest.raises(DataError, match="something else than a training set"):
            built.save(tmp_path / "one")
        assert (tmp_path / "one" / "thesis.txt").exists()

    def test_a_failed_save_leaves_the_older_set(
        self, built: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built.save(tmp_path / "one")
        broken = TrainingSet(built.frame, built.feature_set, {"not JSON": object()})
        with pytest.raises(TypeError):
            broken.save(tmp_path / "one")
        assert TrainingSet.load(tmp_path / "one").manifest == built.manifest
        assert [path.name for path in tmp_path.iterdir()] == ["one"]

    def test_damage_is_noticed(self, built: TrainingSet, tmp_path: Path) -> None:
        folder = tmp_path / "one"
        with pytest.raises(DataError, match=r"no training set: it has no feature_set\.json, manifest\.json"):
            TrainingSet.load(folder)
        built.save(folder)
        table = pq.read_table(folder / "training_set.parquet")
        pq.write_table(table.drop_columns(["label_5d"]), folder / "training_set.parquet")
        with pytest.raises(DataError, match="do not belong to one training set"):
            TrainingSet.load(folder)
        built.save(folder)
        (folder / "manifest.json").write_text("{")
        with pytest.raises(DataError, match="is damaged"):
            TrainingSet.load(folder)
        (folder / "manifest.json").write_text(json.dumps({**built.manifest, "format": 99}))
        with pytest.raises(DataError, match="format 99"):
            TrainingSet.load(folder)


def test_progress_runs_from_nothing_to_everything() -> None:
    shares: list[float] = []
    build_training_set(history(), project(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_too_little_data_is_said_before_any_feature_is_built() -> None:
    with pytest.raises(NotEnoughDataError, match="known label"):
        build_training_set(history(), project(labels={"horizons": ["200d"]}))
    grid = {"every": "3d", "start": day(110).isoformat()}
    with pytest.raises(NotEnoughDataError, match=r"no lead is observed .* too_old \d+"):
        build_training_set(history(), project(observations={"cutoffs": grid, "max_age": "1d"}))
