"""A simulated history on disk and its truth, which is recomputed from the seed whenever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.config.history import SimulatorConfig
from convpredict.errors import DataError

from .generator import Process
from .kernels import NO_TIME, to_business_all
from .population import (
    ARMS,
    CHANNEL,
    COMPANY_SIZE,
    JOB_ROLE,
    LANDING_PAGE,
    OWNER,
    arm_effects,
    campaign_effect,
    campaign_names,
    draw_population,
)
from .process import known_until
from .revenue import mean_revenue
from .truth_kernels import true_probabilities

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arm = Literal["control", "treatment"]

SAMPLE_LEADS = 200
TRUTH_LEADS = 5_000
STATE_FILE = Path("truth", "simulation.json")


def sample_of(process: Process) -> dict[str, int]:
    """What happens to the first leads: tells whether files and process belong together."""
    chunk = process.run(np.arange(min(SAMPLE_LEADS, process.config.leads)))
    converted = int((chunk.outcome.converted != NO_TIME).sum())
    return {"interactions": chunk.n_interactions, "conversions": converted}


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
        config = SimulatorConfig.model_validate(state["config"])
        process = Process.of(config, state["intensity"])
        if state["sample"] != sample_of(process):
            raise DataError(
                f"{file} was written by another version of the simulated process (its first leads have "
                f"{state['sample']}, now they would have {sample_of(process)}), so its truth would not fit the "
                "files; simulate again"
            )
        return cls(Path(path), config, process)

    def __repr__(self) -> str:
        end = f"{self.known_until:%Y-%m-%d}"
        return f"Simulation({self.config.leads:,} leads, seed {self.config.seed}, known until {end}, {self.path})"

    @property
    def known_until(self) -> datetime:
        """The instant up to which the history is complete."""
        return known_until(self.config)

    @property
    def true_effects(self) -> Mapping[str, Any]:
        """True hazard ratios: per channel, campaign, landing page, role and owner, and of the split test.

        The channel also moves the odds of a high fit (``channel_fit_odds``), which its hazard ratio does not
        show. ``split_arm`` has the mean of the log hazard ratio over leads, and the ratio by company size.
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

        ``lead_ids``: integers; ``cutoffs``: instants (Arrow, pandas, datetime64, datetimes, or int64 µs UTC),
        one per id, in any order. ``arm`` asks what the probability would be if the lead were in that arm of
        the split test from the cutoff on. NaN where the lead does not exist yet, has converted or was lost
        before the cutoff. Raises DataError for an id that is not in this history.

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
    if getattr(getattr(column, "dtype", None), "tz", None) is not None and hasattr(column, "dt"):
        column = column.dt.tz_convert(None).to_numpy()
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        column = column.astype("datetime64[us]")
    array = column if isinstance(column, pa.Array) else pa.array(column)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", tz=array.type.tz)).cast(pa.int64())
    return np.asarray(array, dtype=np.int64)
