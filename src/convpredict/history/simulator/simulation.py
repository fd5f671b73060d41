"""A simulated history on disk and its truth, which is recomputed from the seed whenever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.config.history import SimulatorConfig
from convpredict.errors import DataError

from .kernels import MICROSECONDS_PER_DAY, simulate_leads, to_business, to_business_all, to_instants
from .population import (
    ARMS,
    CHANNEL,
    COMPANY_SIZE,
    JOB_ROLE,
    LANDING_PAGE,
    OWNER,
    Population,
    arm_effects,
    campaign_effect,
    campaign_names,
    draw_population,
    lead_streams,
    uniforms,
)
from .process import Rates, arrival_times, drifting_channel, known_until, make_rates, week_clock
from .revenue import mean_revenue
from .truth_kernels import true_probabilities

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arm = Literal["control", "treatment"]

PROCESS_VERSION = 1
PILOT_LEADS = 4_000
TRUTH_LEADS = 5_000
STATE_FILE = Path("truth", "simulation.json")


class LeadArrays(NamedTuple):
    """What the kernels know of each lead."""

    created: Floats
    hazard: Floats
    activity: Floats
    diligence: Floats
    fit_probability: Floats
    drifts: npt.NDArray[np.bool_]
    stream: npt.NDArray[np.uint64]


class Outcome(NamedTuple):
    """What the kernels write: per lead, then per interaction (those of lead i end at ``stop[i]``)."""

    fit: npt.NDArray[np.int8]
    peak: Floats
    converted: Integers
    converted_business: Floats
    converted_delay: Integers
    lost: Integers
    lost_business: Floats
    stop: Integers
    mark: npt.NDArray[np.uint8]
    business: Floats
    occurred: Integers
    duration: npt.NDArray[np.float32]
    delay: Integers


def _empty_outcome(leads: int, rows: int) -> Outcome:
    return Outcome(
        fit=np.zeros(leads, np.int8),
        peak=np.full(leads, np.nan),
        converted=np.zeros(leads, np.int64),
        converted_business=np.zeros(leads),
        converted_delay=np.zeros(leads, np.int64),
        lost=np.zeros(leads, np.int64),
        lost_business=np.zeros(leads),
        stop=np.zeros(leads, np.int64),
        mark=np.zeros(rows, np.uint8),
        business=np.zeros(rows),
        occurred=np.zeros(rows, np.int64),
        duration=np.zeros(rows, np.float32),
        delay=np.zeros(rows, np.int64),
    )


def _with_rows(outcome: Outcome, used: int, rows: int) -> Outcome:
    names = ("mark", "business", "occurred", "duration", "delay")
    grown = {name: np.zeros(rows, getattr(outcome, name).dtype) for name in names}
    for name in names:
        grown[name][:used] = getattr(outcome, name)[:used]
    return outcome._replace(**grown)


@dataclass(frozen=True)
class SimulatedChunk:
    """Some leads with all that happened to them; ``created`` is in µs."""

    population: Population
    lead: LeadArrays
    outcome: Outcome
    created: Integers
    n_interactions: int


@dataclass(frozen=True)
class Process:
    """The process of one configuration, ready to run for any of its leads."""

    config: SimulatorConfig
    intensity: float
    rates: Rates
    clock: Floats
    origin: float
    end: int

    @classmethod
    def of(cls, config: SimulatorConfig, intensity: float) -> Process:
        """Set up the process; ``intensity`` comes from :func:`calibrate_intensity`."""
        clock = week_clock()
        start = round(config.start.timestamp()) * 1_000_000
        end = round(known_until(config).timestamp()) * 1_000_000
        origin = to_business(start, clock)
        drift_from = config.drift.from_day * MICROSECONDS_PER_DAY if config.drift else 0
        rates = make_rates(
            config,
            intensity=intensity,
            end=to_business(end, clock) - origin,
            drift_from=to_business(start + drift_from, clock) - origin,
        )
        return cls(config, intensity, rates, clock, origin, end)

    def prepare(self, index: Integers) -> tuple[Population, LeadArrays]:
        """The attributes and the parameters of the leads with these positions (0-based)."""
        config = self.config
        population = draw_population(config, index)
        position = (index + uniforms(lead_streams(config.seed, 2, index), 0)) / config.leads
        drifts = np.zeros(len(index), np.bool_)
        if config.drift is not None:
            drifts = population.codes["channel"] == drifting_channel(config)
        lead = LeadArrays(
            created=arrival_times(position, self.rates.end, config.start),
            hazard=self.hazard(population, population.arm),
            activity=population.activity,
            diligence=population.diligence,
            fit_probability=population.fit_probability,
            drifts=drifts,
            stream=lead_streams(config.seed, 0, index),
        )
        return population, lead

    def hazard(self, population: Population, arm: Integers) -> Floats:
        """Base hazard of each lead if it were in these arms of the split test."""
        log_hazard = population.log_hazard + population.arm_effect * arm
        return np.asarray(self.rates.base_hazard * np.exp(log_hazard), dtype=np.float64)

    def run(self, index: Integers) -> SimulatedChunk:
        """Simulate the leads with these positions; a lead's history does not depend on who else is asked for."""
        population, lead = self.prepare(index)
        rows = int(len(index) * self.config.interactions_per_lead * 1.3) + 1_000
        outcome, done, used = _empty_outcome(len(index), rows), 0, 0
        while True:
            done, used = simulate_leads(lead, done, used, self.rates, self.clock, self.origin, outcome)
            if done == len(index):
                break
            rows *= 2
            outcome = _with_rows(outcome, used, rows)
        return SimulatedChunk(population, lead, outcome, self.instants(lead.created), used)

    def instants(self, business: Floats) -> Integers:
        """UTC instants (µs) of business days since the start; NO_TIME where they are NaN."""
        return np.asarray(to_instants(business, self.clock, self.origin), dtype=np.int64)


def calibrate_intensity(config: SimulatorConfig) -> float:
    """The factor on all intensities that gives the wanted interactions per lead, from a pilot with a fixed seed.

    Interactions weigh less where there are more of them, so conversions do not depend on it.
    """
    update = {"leads": PILOT_LEADS, "seed": 0, "interactions_per_lead": 20.0}
    pilot = Process.of(config.model_copy(update=update), 1.0).run(np.arange(PILOT_LEADS))
    return config.interactions_per_lead * PILOT_LEADS / pilot.n_interactions


@dataclass(frozen=True)
class Simulation:
    """A simulated history in a folder: the tables as files, and the truth about its leads.

    Open one with :meth:`open`; make one with :func:`convpredict.history.simulator.simulate`.
    """

    path: Path
    config: SimulatorConfig
    process: Process

    @classmethod
    def open(cls, path: Path) -> Simulation:
        """Open the simulated history in the folder ``path``.

        Raises DataError if there is none, or if it was made by another version of the process.
        """
        file = Path(path) / STATE_FILE
        if not file.is_file():
            raise DataError(
                f"{path} holds no simulated history: {STATE_FILE} is missing, so its truth is unknown; "
                "run the simulator into this folder first"
            )
        state = json.loads(file.read_text(encoding="utf-8"))
        if state.get("process_version") != PROCESS_VERSION:
            raise DataError(
                f"{file} was written by version {state.get('process_version')} of the simulated process, this is "
                f"version {PROCESS_VERSION}: its truth would not fit the files; simulate again"
            )
        config = SimulatorConfig.model_validate(state["config"])
        return cls(Path(path), config, Process.of(config, state["intensity"]))

    @property
    def known_until(self) -> datetime:
        """The instant up to which the history is complete."""
        return known_until(self.config)

    @property
    def true_effects(self) -> Mapping[str, Any]:
        """True hazard ratios: per channel, campaign, landing page, role and owner, and of the split test.

        The channel also moves the odds of a high fit (``channel_fit_odds``), which the hazard ratio does not show.
        """
        named = {"channel": CHANNEL, "landing_page": LANDING_PAGE, "job_role": JOB_ROLE, "owner": OWNER}
        effects: dict[str, Any] = {
            name: dict(zip(category.values, np.exp(category.hazard).tolist(), strict=True))
            for name, category in named.items()
        }
        effects["channel_fit_odds"] = dict(zip(CHANNEL.values, np.exp(CHANNEL.fit).tolist(), strict=True))
        effects["campaign"] = dict(zip(campaign_names(), np.exp(campaign_effect()).tolist(), strict=True))
        by_size = np.exp(arm_effects(self.config)).tolist()
        effects["split_arm"] = {
            "mean_log_hazard_ratio": self.config.split_test_effect,
            "by_company_size": dict(zip(COMPANY_SIZE.values, by_size, strict=True)),
        }
        return effects

    def true_probability(
        self, lead_ids: Any, cutoffs: Any, horizon: Duration | str, *, arm: Arm | None = None
    ) -> Floats:
        """P(conversion in [cutoff, cutoff + horizon) | all that occurred before the cutoff), per observation.

        ``lead_ids``: integers; ``cutoffs``: instants (Arrow, pandas, datetime64, datetimes, or int64 µs UTC), one per
        id, in any order. ``arm`` asks what the probability would be if the lead were in that arm of the split test
        from the cutoff on. NaN where the lead does not exist yet, has converted or was lost before the cutoff.
        Raises DataError for an id that is not in this history.

        The difference between both arms at a lead's creation is its true uplift.
        """
        ids, instants = _integers(lead_ids), _microseconds(cutoffs)
        if len(ids) != len(instants):
            raise DataError(f"each lead id needs one cutoff: got {len(ids)} ids and {len(instants)} cutoffs")
        if len(ids) and not (ids.min() >= 1 and ids.max() <= self.config.leads):
            raise DataError(
                f"the simulated history in {self.path} has the lead ids 1 to {self.config.leads}; "
                f"got ids from {ids.min()} to {ids.max()}"
            )
        span = (Duration(horizon) if isinstance(horizon, str) else horizon).microseconds
        order = np.lexsort((instants, ids))
        unique, first = np.unique(ids[order], return_index=True)
        bounds = np.append(first, len(ids))
        result = np.full(len(ids), np.nan)

        def judge(start: int) -> None:
            stop = min(start + TRUTH_LEADS, len(unique))
            rows = order[bounds[start] : bounds[stop]]
            result[rows] = self._judge(unique[start:stop], ids[rows], instants[rows], span, arm)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(judge, range(0, len(unique), TRUTH_LEADS)))
        return result

    def _judge(self, unique: Integers, ids: Integers, cutoff: Integers, span: int, arm: Arm | None) -> Floats:
        process = self.process
        chunk = process.run(unique - 1)
        arms = chunk.population.arm if arm is None else np.full(len(unique), ARMS.index(arm))
        start = to_business_all(cutoff, process.clock, process.origin)
        end = to_business_all(cutoff + span, process.clock, process.origin)
        row = np.searchsorted(unique, ids)
        hazard = process.hazard(chunk.population, arms)
        judged: Floats = true_probabilities(
            row, cutoff, start, end, hazard, chunk.lead, process.rates, chunk.outcome
        )
        return judged

    def true_value(
        self,
        lead_ids: Any,
        cutoffs: Any,
        horizon: Duration | str,
        value_horizon: Duration | str,
        *,
        arm: Arm | None = None,
    ) -> Floats:
        """P(conversion within the horizon) x E[revenue within ``value_horizon`` | conversion], in euros.

        Arguments as in :meth:`true_probability`.
        """
        days = (Duration(value_horizon) if isinstance(value_horizon, str) else value_horizon).days
        probability = self.true_probability(lead_ids, cutoffs, horizon, arm=arm)
        unique, inverse = np.unique(_integers(lead_ids), return_inverse=True)
        revenue = mean_revenue(draw_population(self.config, unique - 1).log_amount, days)
        return np.asarray(probability * revenue[inverse], dtype=np.float64)


def _integers(values: Any) -> Integers:
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(column, dtype=np.int64)


def _microseconds(values: Any) -> Integers:
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        column = column.astype("datetime64[us]")
    array = column if isinstance(column, pa.Array) else pa.array(column)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", tz=array.type.tz)).cast(pa.int64())
    return np.asarray(array, dtype=np.int64)
