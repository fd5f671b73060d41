"""Write a simulated history to Parquet files, chunk by chunk."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from convpredict.config.history import SimulatorConfig
from convpredict.errors import ConfigError

from ..history import TIMESTAMP
from .generator import Process, SimulatedChunk, calibrate_intensity
from .kernels import MICROSECONDS_PER_DAY, NO_TIME
from .population import CHANNEL, attribute_columns, dictionary, lead_streams
from .process import MARKS, known_until
from .revenue import simulate_revenue, simulate_spend
from .simulation import STATE_FILE, Simulation, sample_of

TABLES = ("leads", "interactions", "conversions", "revenue", "spend")
KINDS = tuple(dict.fromkeys(mark.kind for mark in MARKS))
TOPICS = tuple(dict.fromkeys(mark.topic for mark in MARKS if mark.topic is not None))
_KIND_OF_MARK = np.array([KINDS.index(mark.kind) for mark in MARKS], dtype=np.int64)
_TOPIC_OF_MARK = np.array(
    [-1 if mark.topic is None else TOPICS.index(mark.topic) for mark in MARKS], dtype=np.int64
)
_LOOK_AHEAD = 2
_CHUNK_INTERACTIONS = 1_000_000


def simulate(
    config: SimulatorConfig, out: Path, *, progress: Callable[[float], None] | None = None
) -> Simulation:
    """Simulate a history: write its five tables to the folder ``out``, and the state that its truth needs.

    Writes ``leads``, ``interactions`` (in the order of lead and time), ``conversions``, ``revenue`` and
    ``spend``, each ``.parquet``, ``truth/leads.parquet`` (what is hidden of each lead) and
    ``truth/simulation.json``. The bytes depend on the configuration only. ``progress`` is called with the
    share that is done. Raises ConfigError if a channel or kind that is named in the configuration does not
    exist.
    """
    _check(config)
    process = Process.of(config, calibrate_intensity(config))
    out = Path(out)
    (out / STATE_FILE.parent).mkdir(parents=True, exist_ok=True)
    (out / STATE_FILE).unlink(missing_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        size = max(1, min(config.chunk_leads, int(_CHUNK_INTERACTIONS / config.interactions_per_lead)))
        for first, chunk in _chunks(process, size):
            for name, table in _tables(process, chunk).items():
                if name not in writers:
                    file = out / f"{name}.parquet"
                    writers[name] = stack.enter_context(
                        pq.ParquetWriter(file, table.schema, compression="zstd")
                    )
                writers[name].write_table(table)
            if progress is not None:
                progress(min(1.0, (first + size) / config.leads))
    pq.write_table(simulate_spend(config, config.start, TIMESTAMP), out / "spend.parquet", compression="zstd")
    state = {
        "intensity": process.intensity,
        "sample": sample_of(process),
        "config": config.model_dump(mode="json"),
    }
    (out / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    return Simulation(out, config, process)


def _check(config: SimulatorConfig) -> None:
    named: list[tuple[str, str, tuple[str, ...]]] = []
    if config.drift is not None:
        named.append(("drift.channel", config.drift.channel, (*CHANNEL.values, "any")))
    if config.outage is not None:
        named.append(("outage.kind", config.outage.kind, KINDS))
    for key, name, known in named:
        if name not in known:
            raise ConfigError(
                f"simulator.{key} must be one of {', '.join(known)}; got '{name}', which no lead has, "
                "so nothing would be planted; correct the name"
            )


def _chunks(process: Process, size: int) -> Iterator[tuple[int, SimulatedChunk]]:
    leads = process.config.leads
    pending: deque[tuple[int, Future[SimulatedChunk]]] = deque()
    with ThreadPoolExecutor(_LOOK_AHEAD) as pool:
        for first in range(0, leads, size):
            index = np.arange(first, min(first + size, leads), dtype=np.int64)
            pending.append((first, pool.submit(process.run, index)))
            if len(pending) == _LOOK_AHEAD:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()


def _tables(process: Process, chunk: SimulatedChunk) -> dict[str, pa.Table]:
    return {
        "leads": _leads(chunk),
        "interactions": _interactions(process, chunk),
        "conversions": _conversions(process, chunk),
        "revenue": _revenue(process, chunk),
        str(STATE_FILE.parent / "leads"): _hidden(process, chunk),
    }


def _instants(values: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=values == NO_TIME).cast(TIMESTAMP)


def _leads(chunk: SimulatedChunk) -> pa.Table:
    columns = {
        "lead_id": pa.array(chunk.population.index + 1),
        "created_at": _instants(chunk.lead.created_at),
        "lost_at": _instants(chunk.outcome.lost),
    }
    return pa.table(columns | attribute_columns(chunk.population))


def _recorded(process: Process, occurred: npt.NDArray[np.int64], delay: npt.NDArray[np.int64]) -> pa.Array:
    recorded = np.minimum(occurred + delay, process.end - 1)
    return _instants(np.where(delay > 0, recorded, NO_TIME))


def _interactions(process: Process, chunk: SimulatedChunk) -> pa.Table:
    outcome, rows = chunk.outcome, chunk.n_interactions
    mark, occurred = outcome.mark[:rows], outcome.occurred[:rows]
    per_lead = np.diff(outcome.stop, prepend=0)
    duration = outcome.duration[:rows]
    table = pa.table(
        {
            "lead_id": pa.array(np.repeat(chunk.population.index + 1, per_lead)),
            "occurred_at": _instants(occurred),
            "recorded_at": _recorded(process, occurred, outcome.delay[:rows]),
            "kind": dictionary(_KIND_OF_MARK[mark], KINDS),
            "topic": dictionary(_TOPIC_OF_MARK[mark], TOPICS),
            "duration_seconds": pa.array(duration, mask=np.isnan(duration)),
        }
    )
    outage = process.config.outage
    if outage is None:
        return table
    start = process.end - (process.config.days - outage.from_day) * MICROSECONDS_PER_DAY
    gone = (occurred >= start) & (occurred < start + outage.days * MICROSECONDS_PER_DAY)
    return table.filter(pa.array(~(gone & (_KIND_OF_MARK[mark] == KINDS.index(outage.kind)))))


def _conversions(process: Process, chunk: SimulatedChunk) -> pa.Table:
    outcome = chunk.outcome
    rows = np.flatnonzero(outcome.converted != NO_TIME)
    return pa.table(
        {
            "lead_id": pa.array(chunk.population.index[rows] + 1),
            "converted_at": _instants(outcome.converted[rows]),
            "recorded_at": _recorded(process, outcome.converted[rows], outcome.converted_delay[rows]),
        }
    )


def _revenue(process: Process, chunk: SimulatedChunk) -> pa.Table:
    converted = chunk.outcome.converted
    rows = np.flatnonzero(converted != NO_TIME)
    index = chunk.population.index[rows]
    streams = lead_streams(process.config.seed, 4, index)
    log_amount = chunk.population.log_amount[rows]
    position, instant, amount = simulate_revenue(streams, converted[rows], log_amount, process.end)
    return pa.table(
        {
            "lead_id": pa.array(index[position] + 1),
            "occurred_at": _instants(instant),
            "amount": pa.array(amount),
        }
    )


def _hidden(process: Process, chunk: SimulatedChunk) -> pa.Table:
    peak = chunk.outcome.peak
    instants = process.instants(peak)
    return pa.table(
        {
            "lead_id": pa.array(chunk.population.index + 1),
            "high_fit": pa.array(chunk.outcome.fit == 1),
            "fit_probability": pa.array(chunk.population.fit_probability),
            "hazard_ratio": pa.array(chunk.lead.hazard / process.rates.base_hazard),
            "hot_from": _instants(instants),
        }
    )


def simulation_config_tables(config: SimulatorConfig) -> dict[str, Any]:
    """The ``sources`` and ``history`` of a configuration that reads the simulated files back.

    >>> sorted(simulation_config_tables(SimulatorConfig()))
    ['history', 'sources']
    """
    lead_attributes = dict.fromkeys(
        (
            *("industry", "company_size", "country", "job_role", "channel"),
            *("landing_page", "owner", "campaign", "split_arm"),
        ),
        "category",
    )
    attributes = {
        "leads": {**lead_attributes, "employees": "number"},
        "interactions": {"topic": "category", "duration_seconds": "number"},
        "spend": {"channel": "category", "campaign": "category"},
    }
    history: dict[str, Any] = {name: {"source": name} for name in TABLES}
    for name, declared in attributes.items():
        history[name]["attributes"] = declared
    history["known_until"] = known_until(config).isoformat().replace("+00:00", "Z")
    return {"sources": {name: {"file": f"{name}.parquet"} for name in TABLES}, "history": history}
