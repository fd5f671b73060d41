"""One configuration's process, ready to run for any of its leads; a lead's history depends on nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convpredict.config.history import SimulatorConfig

from .kernels import MICROSECONDS_PER_DAY, simulate_leads, to_business, to_instants
from .population import Population, draw_population, lead_streams, uniforms
from .process import Rates, arrival_times, drifting_channels, known_until, make_rates, week_clock

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PILOT_LEADS = 4_000


class LeadArrays(NamedTuple):
    """What the kernels know of each lead."""

    created: Floats
    hazard: Floats
    activity: Floats
    diligence: Floats
    fit_probability: Floats
    drifts: npt.NDArray[np.bool_]
    created_at: Integers  # µs
    stream: npt.NDArray[np.uint64]


class Outcome(NamedTuple):
    """What the kernels write: per lead, then per interaction (those of lead i end at ``stop[i]``)."""

    fit: npt.NDArray[np.int8]
    peak: Floats
    converted: Integers
    converted_delay: Integers
    lost: Integers
    stop: Integers
    mark: npt.NDArray[np.uint8]
    business: Floats
    occurred: Integers
    duration: npt.NDArray[np.float32]
    delay: Integers


def empty_outcome(leads: int, rows: int) -> Outcome:
    """Room for the history of so many leads, with so many interactions together."""
    return Outcome(
        fit=np.zeros(leads, np.int8),
        peak=np.full(leads, np.nan),
        converted=np.zeros(leads, np.int64),
        converted_delay=np.zeros(leads, np.int64),
        lost=np.zeros(leads, np.int64),
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
    """Some leads with all that happened to them."""

    population: Population
    lead: LeadArrays
    outcome: Outcome
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
        drifts = np.isin(population.codes["channel"], drifting_channels(config))
        created = arrival_times(position, self.rates.end, config.start)
        lead = LeadArrays(
            created=created,
            hazard=self.hazard(population, population.arm),
            activity=population.activity,
            diligence=population.diligence,
            fit_probability=population.fit_probability,
            drifts=drifts,
            created_at=self.instants(created),
            stream=lead_streams(config.seed, 0, index),
        )
        return population, lead

    def hazard(self, population: Population, arm: Integers) -> Floats:
        """Base hazard of each lead if it were in these arms of the split test."""
        log_hazard = population.log_hazard + population.arm_effect * arm
        return np.asarray(self.rates.base_hazard * np.exp(log_hazard), dtype=np.float64)

    def run(self, index: Integers) -> SimulatedChunk:
        """Simulate the leads with these positions; a lead comes out the same whoever else is asked for."""
        population, lead = self.prepare(index)
        rows = int(len(index) * self.config.interactions_per_lead * 1.3) + 1_000
        outcome, done, used = empty_outcome(len(index), rows), 0, 0
        while True:
            done, used = simulate_leads(lead, done, used, self.rates, self.clock, self.origin, outcome)
            if done == len(index):
                break
            rows *= 2
            outcome = _with_rows(outcome, used, rows)
        return SimulatedChunk(population, lead, outcome, used)

    def instants(self, business: Floats) -> Integers:
        """UTC instants (µs) of business days since the start; NO_TIME where they are NaN."""
        return np.asarray(to_instants(business, self.clock, self.origin), dtype=np.int64)


def calibrate_intensity(config: SimulatorConfig) -> float:
    """The factor on all intensities that gives the wanted interactions per lead, from a pilot of fixed seed.

    Interactions weigh less where there are more of them, so conversions do not depend on it.
    """
    update = {"leads": PILOT_LEADS, "seed": 0, "interactions_per_lead": 20.0, "drift": None}
    pilot = Process.of(config.model_copy(update=update), 1.0).run(np.arange(PILOT_LEADS))
    return config.interactions_per_lead * PILOT_LEADS / pilot.n_interactions
