"""Leaks planted into simulated histories, each with a clean twin that looks alike.

The simulation runs on for half a year after the history is cut. A leak depends on what was known at the cut
(who had converted by then); an honest attribute of a twin depends on what the lead would do in the end, whether
or not it had done it by the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convpredict.config.history import SimulatorConfig
from convpredict.history.frames import history_from_frames
from convpredict.history.history import History
from convpredict.history.simulator.run import simulate

CONFIG = {
    "name": "planted",
    "history": {"leads": {"source": "leads"}},
    "sources": {"leads": {"file": "unused.parquet"}},
    "observations": {"cutoffs": {"every": "21d"}, "max_age": "180d"},
}
ATTRIBUTES = ("industry", "company_size", "country", "job_role", "channel", "campaign", "employees")


@dataclass(frozen=True)
class Frames:
    """Tables of a history until ``cut``; ``won`` and ``in_the_end`` tell per lead who converts by then, and ever."""

    leads: pd.DataFrame
    interactions: pd.DataFrame
    conversions: pd.DataFrame
    cut: pd.Timestamp
    won: np.ndarray
    in_the_end: np.ndarray
    rng: np.random.Generator

    def with_attribute(self, name: str, values: Any) -> Frames:
        """With a further attribute of the leads."""
        return replace(self, leads=self.leads.assign(**{name: values}))

    def with_interactions(self, lead: np.ndarray, occurred: pd.Series, kind: str, **more: Any) -> Frames:
        """With further interactions of some leads (positions)."""
        added = pd.DataFrame(
            {
                "lead_id": self.leads["lead_id"].to_numpy()[lead],
                "occurred_at": occurred.to_numpy(),
                "kind": kind,
            }
            | more
        )
        added["occurred_at"] = added["occurred_at"].astype(self.interactions["occurred_at"].dtype)
        return replace(self, interactions=pd.concat([self.interactions, added], ignore_index=True))

    @property
    def converted_at(self) -> pd.Series:
        """When each lead converted, by position; NaT if not by the cut."""
        dates = self.conversions.set_index("lead_id")["converted_at"]
        return self.leads["lead_id"].map(dates).reset_index(drop=True)

    def some(self, holds: np.ndarray, share_if: float, share_else: float) -> np.ndarray:
        """A draw per lead, true with one share where ``holds``, with the other elsewhere."""
        return self.rng.random(len(holds)) < np.where(holds, share_if, share_else)

    def days(self, low: float, high: float, size: int) -> pd.Series:
        """Random spans."""
        return pd.Series(pd.to_timedelta(self.rng.uniform(low, high, size), unit="D"))

    def history(self) -> History:
        """The validated history until the cut."""
        return history_from_frames(
            leads=self.leads,
            interactions=self.interactions,
            conversions=self.conversions,
            known_until=self.cut.to_pydatetime(),
        )


def simulated_frames(folder: Path, *, leads: int = 4500, seed: int = 3) -> Frames:
    """A funnel of about 18 months, cut half a year before its end."""
    simulate(SimulatorConfig(leads=leads, days=720, seed=seed, interactions_per_lead=12), folder)
    tables = {
        name: pd.read_parquet(folder / f"{name}.parquet") for name in ("leads", "interactions", "conversions")
    }
    cut = tables["leads"]["created_at"].max().floor("D") - pd.Timedelta(days=180)
    people = tables["leads"][tables["leads"]["created_at"] < cut].reset_index(drop=True)
    people["lead_id"] = "L" + people["lead_id"].astype(str).str.zfill(6)
    events, conversions = (
        tables[name].assign(lead_id="L" + tables[name]["lead_id"].astype(str).str.zfill(6))
        for name in ("interactions", "conversions")
    )
    known = conversions[conversions["converted_at"] < cut]
    events = events[(events["occurred_at"] < cut) & events["lead_id"].isin(people["lead_id"])]
    for name in people.columns[people.dtypes == "category"]:
        people[name] = people[name].astype(object)
    people.loc[people["lost_at"] >= cut, "lost_at"] = pd.NaT
    return Frames(
        people[["lead_id", "created_at", "lost_at", *ATTRIBUTES]],
        events[["lead_id", "occurred_at", "kind"]].astype({"kind": "str"}).reset_index(drop=True),
        known[["lead_id", "converted_at"]][known["lead_id"].isin(people["lead_id"])].reset_index(drop=True),
        cut,
        people["lead_id"].isin(known["lead_id"]).to_numpy(),
        people["lead_id"].isin(conversions["lead_id"]).to_numpy(),
        np.random.default_rng(seed),
    )


@dataclass(frozen=True)
class Planted:
    """A leak and its twin: what is planted, and the column, kind or id that the report must name."""

    name: str
    column: str
    leak: Callable[[Frames], Frames]
    twin: Callable[[Frames], Frames]


def _text(holds: np.ndarray, values: Any) -> np.ndarray:
    return np.where(holds, values, None)


def _cities(frames: Frames) -> np.ndarray:
    return frames.rng.choice(["Ulm", "Graz", "Bern", "Kiel", "Linz"], len(frames.leads))


def filled_after_winning(frames: Frames) -> Frames:
    return frames.with_attribute("billing_city", _text(frames.some(frames.won, 0.95, 0.03), _cities(frames)))


def optional_field_filled_early(frames: Frames) -> Frames:
    return frames.with_attribute(
        "billing_city", _text(frames.some(frames.in_the_end, 0.62, 0.4), _cities(frames))
    )


def filled_as_the_deal_moves_on(frames: Frames) -> Frames:
    """Everybody gets it in time, but mostly those who win."""
    age = (frames.cut - frames.leads["created_at"]).dt.days.to_numpy()
    share = np.where(frames.won, 0.9, 0.22 * (1 - np.exp(-age / 60)))
    return frames.with_attribute("product", _text(frames.rng.random(len(age)) < share, _cities(frames)))


def asked_on_the_form(frames: Frames) -> Frames:
    return frames.with_attribute(
        "product", _text(frames.some(frames.in_the_end, 0.45, 0.25), _cities(frames))
    )


def stage_at_export(frames: Frames) -> Frames:
    lost = frames.leads["lost_at"].notna().to_numpy()
    stage = np.where(
        frames.won,
        frames.rng.choice(["customer", "onboarding", "working"], len(lost), p=[0.7, 0.2, 0.1]),
        np.where(lost, "dead", frames.rng.choice(["new", "working"], len(lost))),
    )
    return frames.with_attribute("stage", stage)


def stage_at_creation(frames: Frames) -> Frames:
    ready = frames.some(frames.in_the_end, 0.5, 0.25)
    return frames.with_attribute("lifecycle", np.where(ready, "asked for an offer", "subscriber"))


def deal_amount_after_winning(frames: Frames) -> Frames:
    amount = np.round(frames.rng.lognormal(7, 1, len(frames.won)))
    return frames.with_attribute("deal_amount", np.where(frames.some(frames.won, 0.9, 0.02), amount, 0.0))


def budget_from_the_form(frames: Frames) -> Frames:
    amount = np.round(frames.rng.lognormal(np.where(frames.in_the_end, 7.5, 7.0), 1))
    return frames.with_attribute("budget", np.where(frames.some(frames.in_the_end, 0.6, 0.45), amount, 0.0))


def value_only_for_won(frames: Frames) -> Frames:
    segment = frames.rng.choice(["small", "middle", "large"], len(frames.won))
    return frames.with_attribute("segment", np.where(frames.some(frames.won, 0.3, 0.0), "client", segment))


def value_of_good_leads(frames: Frames) -> Frames:
    segment = frames.rng.choice(["small", "middle", "large"], len(frames.won))
    return frames.with_attribute(
        "segment", np.where(frames.some(frames.in_the_end, 0.2, 0.05), "enterprise", segment)
    )


def owner_reassigned(frames: Frames) -> Frames:
    owner = frames.rng.choice([f"owner_{i}" for i in range(8)], len(frames.won))
    return frames.with_attribute("owner", np.where(frames.some(frames.won, 0.6, 0.01), "key_accounts", owner))


def owner_by_size(frames: Frames) -> Frames:
    owner = frames.rng.choice([f"owner_{i}" for i in range(8)], len(frames.won))
    return frames.with_attribute(
        "owner", np.where(frames.some(frames.in_the_end, 0.16, 0.06), "key_accounts", owner)
    )


def ids_by_outcome(frames: Frames) -> Frames:
    """Converted leads were created again as customers, with new numbers."""
    new = {
        old: f"L{900_000 + place:06d}" if won else old
        for place, (old, won) in enumerate(zip(frames.leads["lead_id"], frames.won, strict=True))
    }
    return _renamed(frames, new)


def ids_by_creation(frames: Frames) -> Frames:
    return _renamed(frames, {old: f"L{place * 3:06d}" for place, old in enumerate(frames.leads["lead_id"])})


def _renamed(frames: Frames, new: dict[str, str]) -> Frames:
    tables = {
        name: getattr(frames, name).assign(lead_id=getattr(frames, name)["lead_id"].map(new))
        for name in ("leads", "interactions", "conversions")
    }
    return replace(frames, **tables)


def welcome_call_dated_before(frames: Frames) -> Frames:
    """The call comes after the conversion; a wrong zone or a planned date puts it hours or days before."""
    lead = np.flatnonzero(frames.won)
    return frames.with_interactions(
        lead,
        frames.converted_at[lead].reset_index(drop=True) - frames.days(0.1, 4, len(lead)),
        "welcome_call",
    )


def welcome_call_after(frames: Frames) -> Frames:
    lead = np.flatnonzero(frames.won)
    occurred = frames.converted_at[lead].reset_index(drop=True) + frames.days(0.1, 4, len(lead))
    in_time = (occurred < frames.cut).to_numpy()
    return frames.with_interactions(lead[in_time], occurred[in_time], "welcome_call")


def invoice_by_the_day(frames: Frames) -> Frames:
    lead = np.flatnonzero(frames.won & (frames.rng.random(len(frames.won)) < 0.5))
    return frames.with_interactions(lead, frames.converted_at[lead].dt.floor("D"), "invoice")


def offer_weeks_before(frames: Frames) -> Frames:
    """A strong, honest sign: some weeks before, and for many who never convert."""
    chosen = np.flatnonzero(frames.some(frames.in_the_end, 0.5, 0.1))
    occurred = frames.leads["created_at"].iloc[chosen].reset_index(drop=True) + frames.days(
        1, 40, len(chosen)
    )
    converted = frames.converted_at[chosen].reset_index(drop=True)
    open_then = ((occurred < frames.cut) & ~(converted < occurred)).to_numpy()
    return frames.with_interactions(chosen[open_then], occurred[open_then], "offer")


def conversion_logged_as_interaction(frames: Frames) -> Frames:
    lead = np.flatnonzero(frames.won)
    occurred = frames.converted_at[lead].reset_index(drop=True) - pd.Timedelta(minutes=5)
    return frames.with_interactions(lead, occurred, "status: won")


def demo_request_before(frames: Frames) -> Frames:
    """Booked days before the conversion by most who convert, and by as many who do not."""
    lead = np.flatnonzero(frames.won & (frames.rng.random(len(frames.won)) < 0.8))
    frames = frames.with_interactions(
        lead,
        frames.converted_at[lead].reset_index(drop=True) - frames.days(0.5, 12, len(lead)),
        "booked_meeting",
    )
    others = np.flatnonzero(frames.some(~frames.won, 0.1, 0.0))
    occurred = frames.leads["created_at"].iloc[others].reset_index(drop=True) + frames.days(
        1, 60, len(others)
    )
    in_time = (occurred < frames.cut).to_numpy()
    return frames.with_interactions(others[in_time], occurred[in_time], "booked_meeting")


def _last_or_first(frames: Frames, column: str, *, last: bool) -> np.ndarray:
    ordered = frames.interactions.sort_values(["occurred_at", "kind"], kind="stable")
    grouped = ordered.drop_duplicates("lead_id", keep="last" if last else "first").set_index("lead_id")
    return frames.leads["lead_id"].map(grouped[column]).to_numpy()


def last_activity_date(frames: Frames) -> Frames:
    return frames.with_attribute(
        "last_activity", pd.to_datetime(_last_or_first(frames, "occurred_at", last=True), utc=True)
    )


def first_touch_date(frames: Frames) -> Frames:
    return frames.with_attribute(
        "first_touch", frames.leads["created_at"] - frames.days(0, 20, len(frames.leads))
    )


def last_activity_kind(frames: Frames) -> Frames:
    return frames.with_attribute("recent_activity", _last_or_first(frames, "kind", last=True))


def first_activity_kind(frames: Frames) -> Frames:
    return frames.with_attribute("recent_activity", _last_or_first(frames, "kind", last=False))


def total_calls_at_export(frames: Frames) -> Frames:
    calls = frames.interactions[frames.interactions["kind"] == "call"].groupby("lead_id").size()
    return frames.with_attribute("total_calls", frames.leads["lead_id"].map(calls).fillna(0).to_numpy(float))


def visits_before_the_form(frames: Frames) -> Frames:
    visits = frames.rng.poisson(np.where(frames.in_the_end, 3.0, 2.0))
    return frames.with_attribute("earlier_visits", visits.astype(float))


def score_at_export(frames: Frames) -> Frames:
    """The points of the CRM as they stand at the export: won leads were topped up."""
    points = frames.rng.normal(30, 12, len(frames.won)) + np.where(frames.won, 45, 0)
    return frames.with_attribute("crm_points", np.round(points))


def score_at_creation(frames: Frames) -> Frames:
    points = frames.rng.normal(30, 12, len(frames.won)) + np.where(frames.in_the_end, 8, 0)
    return frames.with_attribute("crm_points", np.round(points))


def contract_date(frames: Frames) -> Frames:
    signed = frames.converted_at - frames.days(0, 2, len(frames.won))
    return frames.with_attribute("contract_date", signed.to_numpy())


def renewal_date(frames: Frames) -> Frames:
    """When the lead's present contract ends: asked on the form, mostly far ahead, a sign of interest."""
    ends = frames.leads["created_at"] + frames.days(20, 500, len(frames.won))
    return frames.with_attribute("renewal", ends.where(frames.some(frames.in_the_end, 0.6, 0.45)))


def duplicates_across_the_split(frames: Frames) -> Frames:
    """A sixth of the leads exist twice: typed in again some hours later, with everything that hangs on them."""
    return _copied(frames, with_outcome=True)


def colleagues(frames: Frames) -> Frames:
    """As many leads with the same attributes as another one, each with a life of its own."""
    return _copied(frames, with_outcome=False)


def _copied(frames: Frames, *, with_outcome: bool) -> Frames:
    chosen = np.flatnonzero(frames.rng.random(len(frames.won)) < 0.17)
    if not with_outcome:
        source = frames.rng.permutation(np.setdiff1d(np.arange(len(frames.won)), chosen))[: len(chosen)]
        leads = frames.leads.copy()
        names = list(ATTRIBUTES)
        leads.loc[chosen, names] = leads.loc[source, names].to_numpy()
        return replace(frames, leads=leads.astype({"employees": float}))
    new = {old: f"M{old[1:]}" for old in frames.leads["lead_id"].iloc[chosen]}
    shift = pd.Timedelta(hours=5)

    def again(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
        copy = table[table["lead_id"].isin(new)]
        copy = copy.assign(lead_id=copy["lead_id"].map(new), **{c: copy[c] + shift for c in columns})
        return pd.concat([table, copy], ignore_index=True)

    return replace(
        frames,
        leads=again(frames.leads, ("created_at",)),
        interactions=again(frames.interactions, ("occurred_at",)),
        conversions=again(frames.conversions, ()),
    )


def backdated_analysis(frames: Frames) -> Frames:
    """Typed in when the deal is won, dated to the first days of the lead."""
    chosen = np.flatnonzero(frames.some(frames.won, 0.8, 0.04))
    occurred = frames.leads["created_at"].iloc[chosen].reset_index(drop=True) + frames.days(
        0.5, 3, len(chosen)
    )
    in_time = (occurred < frames.cut).to_numpy()
    return frames.with_interactions(chosen[in_time], occurred[in_time], "needs_analysis")


def early_analysis(frames: Frames) -> Frames:
    chosen = np.flatnonzero(frames.some(frames.in_the_end, 0.45, 0.15))
    occurred = frames.leads["created_at"].iloc[chosen].reset_index(drop=True) + frames.days(
        0.5, 3, len(chosen)
    )
    in_time = (occurred < frames.cut).to_numpy()
    return frames.with_interactions(chosen[in_time], occurred[in_time], "needs_analysis")


def entered_later_without_recorded_at(frames: Frames) -> Frames:
    """Visit reports are written months after the visit, the event ids say so; for won leads more often."""
    return _reports(frames, recorded=False)


def entered_later_with_recorded_at(frames: Frames) -> Frames:
    return _reports(frames, recorded=True)


def _reports(frames: Frames, *, recorded: bool) -> Frames:
    chosen = np.flatnonzero(frames.some(frames.won, 0.55, 0.08))
    occurred = frames.leads["created_at"].iloc[chosen].reset_index(drop=True) + frames.days(
        3, 20, len(chosen)
    )
    entered = occurred + frames.days(15, 90, len(chosen))
    converted = frames.converted_at[chosen].reset_index(drop=True)
    entered = entered.where(converted.isna(), converted + frames.days(0.5, 5, len(chosen)))
    in_time = ((entered < frames.cut) & (occurred < entered)).to_numpy()
    events = frames.interactions.assign(recorded_at=pd.NaT)
    added = pd.DataFrame(
        {
            "lead_id": frames.leads["lead_id"].to_numpy()[chosen[in_time]],
            "occurred_at": occurred[in_time].astype(events["occurred_at"].dtype).to_numpy(),
            "kind": "visit_report",
            "recorded_at": entered[in_time].to_numpy(),
        }
    )
    events = events.assign(entered=events["occurred_at"])
    added["occurred_at"] = (
        added["occurred_at"].dt.tz_localize("UTC")
        if added["occurred_at"].dt.tz is None
        else added["occurred_at"]
    )
    added["recorded_at"] = pd.to_datetime(added["recorded_at"], utc=True)
    events["recorded_at"] = pd.to_datetime(events["recorded_at"], utc=True)
    both = pd.concat([events, added.assign(entered=added["recorded_at"])], ignore_index=True)
    both = both.sort_values("entered", kind="stable").reset_index(drop=True)
    both["event_id"] = (both.index + 1).astype(str)
    dropped = ["entered"] if recorded else ["entered", "recorded_at"]
    return replace(frames, interactions=both.drop(columns=dropped))


def campaign_rate_from_the_future(frames: Frames) -> Frames:
    share = pd.Series(frames.won).groupby(frames.leads["campaign"].fillna("none").to_numpy()).mean()
    return frames.with_attribute(
        "campaign_rate", frames.leads["campaign"].fillna("none").map(share).round(4).astype(float)
    )


def campaign_rate_from_last_year(frames: Frames) -> Frames:
    """The same rates as they would have been counted on other leads: off by chance."""
    campaign = frames.leads["campaign"].fillna("none")
    group = pd.Series(frames.won).groupby(campaign.to_numpy())
    earlier = {name: frames.rng.binomial(len(won), won.mean()) / len(won) for name, won in group}
    return frames.with_attribute("campaign_rate", campaign.map(earlier).round(4).astype(float))


def emptied_after_winning(frames: Frames) -> Frames:
    """The next step of a deal: done, and deleted, once it is won."""
    step = frames.rng.choice(["call again", "send the offer"], len(frames.won))
    return frames.with_attribute("next_step", _text(frames.some(frames.won, 0.05, 0.7), step))


def objection_on_the_form(frames: Frames) -> Frames:
    step = frames.rng.choice(["too early", "too dear"], len(frames.won))
    return frames.with_attribute("next_step", _text(frames.some(frames.in_the_end, 0.5, 0.7), step))


def value_rare_for_others(frames: Frames) -> Frames:
    other = frames.rng.choice(["parcel", "letter"], len(frames.won))
    return frames.with_attribute("shipping", np.where(frames.some(frames.won, 0.5, 0.01), "freight", other))


def value_chosen_on_the_form(frames: Frames) -> Frames:
    other = frames.rng.choice(["parcel", "letter"], len(frames.won))
    return frames.with_attribute(
        "shipping", np.where(frames.some(frames.in_the_end, 0.25, 0.06), "freight", other)
    )


def opens_deleted_for_won(frames: Frames) -> Frames:
    """Mails of customers live in another system: their opens are gone from the export."""
    return _without(frames, frames.won, 1.0)


def opens_often_blocked(frames: Frames) -> Frames:
    """Those who buy read on a device that often tells nothing of it."""
    return _without(frames, frames.in_the_end, 0.6)


def _without(frames: Frames, lead: np.ndarray, share: float) -> Frames:
    named = frames.interactions["lead_id"].isin(frames.leads["lead_id"].to_numpy()[lead])
    gone = named & (frames.interactions["kind"] == "email_open")
    gone &= frames.rng.random(len(gone)) < share
    return replace(frames, interactions=frames.interactions[~gone].reset_index(drop=True))


def refusals(frames: Frames) -> Frames:
    """Half of those who never convert refuse at some time, and nothing comes after it."""
    lead = np.flatnonzero(frames.some(~frames.in_the_end, 0.5, 0.0))
    refused = frames.leads["created_at"].iloc[lead].reset_index(drop=True) + frames.days(5, 90, len(lead))
    in_time = (refused < frames.cut).to_numpy()
    lead, refused = lead[in_time], refused[in_time].reset_index(drop=True)
    ends = pd.Series(refused.to_numpy(), frames.leads["lead_id"].to_numpy()[lead])
    end = frames.interactions["lead_id"].map(ends)
    kept = ~(frames.interactions["occurred_at"] >= end)
    frames = replace(frames, interactions=frames.interactions[kept].reset_index(drop=True))
    return frames.with_interactions(lead, refused, "refusal")


def refusals_deleted(frames: Frames) -> Frames:
    """As many leads were asked, most of them go on, and the question is deleted where the deal was won."""
    lead = np.flatnonzero(frames.some(~frames.won, 0.9, 0.0))
    asked = frames.leads["created_at"].iloc[lead].reset_index(drop=True) + frames.days(0.1, 20, len(lead))
    in_time = (asked < frames.cut).to_numpy()
    return frames.with_interactions(lead[in_time], asked[in_time], "refusal")


def creation_at_midnight(frames: Frames) -> Frames:
    """Won leads were created anew from a list of customers that has dates only."""
    return _floored(frames, frames.won)


def lists_at_midnight(frames: Frames) -> Frames:
    """Bought lists have dates only, and convert more rarely."""
    return _floored(frames, frames.some(frames.in_the_end, 0.1, 0.3))


def _floored(frames: Frames, lead: np.ndarray) -> Frames:
    created = frames.leads["created_at"]
    return replace(frames, leads=frames.leads.assign(created_at=created.where(~lead, created.dt.floor("D"))))


def tickets_at_export(frames: Frames) -> Frames:
    """All tickets that the lead's account has at the export: customers open more of them."""
    tickets = frames.rng.poisson(np.where(frames.won, 5.3, 2.0))
    return frames.with_attribute("open_tickets", tickets.astype(float))


def tickets_before_the_form(frames: Frames) -> Frames:
    tickets = frames.rng.poisson(np.where(frames.in_the_end, 3.4, 2.0))
    return frames.with_attribute("open_tickets", tickets.astype(float))


def team_at_export(frames: Frames) -> Frames:
    """Won leads were handed over: as strong as an honest attribute may be."""
    return frames.with_attribute("team", np.where(frames.some(frames.won, 0.8, 0.2), "north", "south"))


def team_by_region(frames: Frames) -> Frames:
    return frames.with_attribute("team", np.where(frames.some(frames.in_the_end, 0.8, 0.2), "north", "south"))


def noisy_copy(frames: Frames) -> Frames:
    return frames.with_attribute("height", frames.won + frames.rng.normal(0, 0.8, len(frames.won)))


def measured_at_creation(frames: Frames) -> Frames:
    return frames.with_attribute("height", frames.in_the_end + frames.rng.normal(0, 0.8, len(frames.won)))


def strong_at_creation(frames: Frames, auc_shift: float = 1.25) -> Frames:
    """An honest number with an AUC of .81 (.75: a shift of .95; .85: 1.47)."""
    noise = frames.rng.normal(0, 1, len(frames.won))
    return frames.with_attribute("need", auc_shift * frames.in_the_end + noise)


def sources_that_drift(frames: Frames) -> Frames:
    """A strong source that is used ever less, in a mix that changes over the years."""
    age = _place(frames)
    strong = frames.rng.random(len(age)) < np.where(frames.in_the_end, 0.8, 0.2) * (1 - 0.5 * age)
    other = np.where(frames.rng.random(len(age)) < age, "web", "fair")
    return frames.with_attribute("origin", np.where(strong, "partner", other))


def campaign_of_young_leads(frames: Frames) -> Frames:
    """Half of the leads of the last weeks come from a new campaign, mostly those who would not convert."""
    source = np.where(frames.some(frames.in_the_end, 0.8, 0.2), "partner", "web")
    new = (_place(frames) > 0.85) & frames.some(frames.in_the_end, 0.2, 0.5)
    return frames.with_attribute("origin", np.where(new, "new campaign", source))


def asked_until_lately(frames: Frames) -> Frames:
    """A telling question that the form of the last weeks no longer has."""
    answer = frames.in_the_end + frames.rng.normal(0, 0.8, len(frames.won))
    return frames.with_attribute("origin", np.where(_place(frames) > 0.8, np.nan, answer))


def _place(frames: Frames) -> np.ndarray:
    """Where a lead lies between the first and the last that was created, from 0 to 1."""
    since = frames.leads["created_at"] - frames.leads["created_at"].min()
    return (since / since.max()).to_numpy()


HONEST = (
    strong_at_creation,
    sources_that_drift,
    campaign_of_young_leads,
    asked_until_lately,
    refusals,
    lists_at_midnight,
)
"""Honest data that a search might take for hindsight."""

PLANTED = (
    Planted(
        "attribute filled after winning", "billing_city", filled_after_winning, optional_field_filled_early
    ),
    Planted(
        "attribute filled as the deal moves on", "product", filled_as_the_deal_moves_on, asked_on_the_form
    ),
    Planted("stage at export", "stage", stage_at_export, stage_at_creation),
    Planted("deal amount after winning", "deal_amount", deal_amount_after_winning, budget_from_the_form),
    Planted("value only for won leads", "segment", value_only_for_won, value_of_good_leads),
    Planted("owner reassigned", "owner", owner_reassigned, owner_by_size),
    Planted("ids by outcome", "lead_id", ids_by_outcome, ids_by_creation),
    Planted("welcome call dated before", "welcome_call", welcome_call_dated_before, welcome_call_after),
    Planted("invoice dated by day", "invoice", invoice_by_the_day, offer_weeks_before),
    Planted("conversion logged twice", "status: won", conversion_logged_as_interaction, demo_request_before),
    Planted("last activity date", "last_activity", last_activity_date, first_touch_date),
    Planted("last activity kind", "recent_activity", last_activity_kind, first_activity_kind),
    Planted("total calls at export", "total_calls", total_calls_at_export, visits_before_the_form),
    Planted("score at export", "crm_points", score_at_export, score_at_creation),
    Planted("contract date", "contract_date", contract_date, renewal_date),
    Planted("duplicates across the split", "interactions", duplicates_across_the_split, colleagues),
    Planted("backdated analysis", "needs_analysis", backdated_analysis, early_analysis),
    Planted(
        "entered later", "visit_report", entered_later_without_recorded_at, entered_later_with_recorded_at
    ),
    Planted(
        "campaign rate from the future",
        "campaign_rate",
        campaign_rate_from_the_future,
        campaign_rate_from_last_year,
    ),
    Planted("attribute emptied after winning", "next_step", emptied_after_winning, objection_on_the_form),
    Planted("value rare for others", "shipping", value_rare_for_others, value_chosen_on_the_form),
    Planted("opens deleted for won leads", "email_open", opens_deleted_for_won, opens_often_blocked),
    Planted("refusals deleted for won leads", "refusal", refusals_deleted, refusals),
    Planted("creation at midnight", "created_at", creation_at_midnight, lists_at_midnight),
    Planted("tickets at export", "open_tickets", tickets_at_export, tickets_before_the_form),
    Planted("team at export", "team", team_at_export, team_by_region),
    Planted("noisy copy", "height", noisy_copy, measured_at_creation),
)
