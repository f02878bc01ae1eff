"""What has to be computed again: days whose inputs are not those that they were computed from.

Everything is read from what is there, tables and records beside them. Whoever asks may have been told of a change
twice, or not at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from millrace_batch import computations, jobs
from millrace_batch.inputs import LakeState
from millrace_batch.lake import Lake
from millrace_batch.warehouse import freshness
from millrace_batch.warehouse.lake import DeltaLake

LOAD: Final = "load_warehouse"
JOBS_IN_ORDER: Final = ("sessions", "daily_metrics", "user_segments", "user_features", "recommendation_features")
"""Each may change what those behind it read, and what is loaded."""


@dataclass(frozen=True, slots=True)
class Days:
    """The days to look at, both included; never the whole history.

    Attributes:
        first: a UTC day.
        last: a UTC day; one that is over.
    """

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Due:
    """A job and the UTC day that it has to be run for."""

    job: str
    day: date


def nights(state: LakeState, days: Days) -> list[date]:
    """Return the days that have a night: events, and sessions that began on them.

    A day that has only the end of the day before's sessions has none; it gets one if a session of it comes yet.
    """
    of_events, of_sessions = (set(state.days(table, days.first, days.last)) for table in ("events", "sessions"))
    return sorted(of_events & of_sessions)


def due_jobs(lake: Lake, days: Days, names: Iterable[str] = JOBS_IN_ORDER) -> list[Due]:
    """Return what of `names` is due, job by job."""
    state = LakeState(lake)
    with_night = nights(state, days)
    known = computations.recorded(lake, days.first, days.last)
    return [
        Due(name, day)
        for name in names
        for day in with_night
        if known.get((name, day)) != state.fingerprint(jobs.JOBS[name].inputs, day)
    ]


def due_loads(dsn: str, lake: Lake, days: Days) -> list[Due]:
    """Return the days that the lake has otherwise than the warehouse, without those that no job has computed yet.

    Raises:
        WarehouseUnavailableError: Postgres does not answer.
    """
    with_night = nights(LakeState(lake), days)
    return [Due(LOAD, day) for day in freshness.outdated(dsn, DeltaLake(lake), with_night)]


def as_lines(due: Sequence[Due]) -> tuple[str, ...]:
    """Return `due` for a person, a line a job."""
    by_job: dict[str, list[date]] = {}
    for one in due:
        by_job.setdefault(one.job, []).append(one.day)
    return tuple(f"{job}: {', '.join(map(str, days))}" for job, days in by_job.items()) or ("nothing is due",)
