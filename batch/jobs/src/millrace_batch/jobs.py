"""The jobs, by name, and what running one means."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, TypeVar

from pyspark.sql import SparkSession

from millrace_batch import (
    check_day,
    compact,
    computations,
    daily_metrics,
    metrics,
    quality,
    recommendation_features,
    reenrich,
    sessions,
    user_features,
    user_segments,
)
from millrace_batch.activity import LOOK_BACK, STATUSES_WITHIN
from millrace_batch.errors import ProductsError, UnknownJobError
from millrace_batch.inputs import Input, LakeState
from millrace_batch.lake import Lake
from millrace_batch.night import Night, Outcome
from millrace_batch.warehouse.lake import DeltaLake
from millrace_batch.warehouse.loading import load_day

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        summary: what it does, in a sentence without a full stop.
        run: does it; a second time for the same day, it changes nothing.
        inputs: what it reads of the stream's tables, if which state a day was computed from is to be recorded.
    """

    summary: str
    run: Callable[[Night], Outcome]
    inputs: tuple[Input, ...] = ()


def _of_day(job: Callable[[SparkSession, Lake, P], Outcome], params: Callable[[date], P]) -> Callable[[Night], Outcome]:
    return lambda night: job(night.spark(), night.lake, params(night.day))


def _check_day(night: Night) -> Outcome:
    return check_day.run(night.spark(), night.lake, check_day.Params(night.day, night.fresh_within))


def _quality(night: Night) -> Outcome:
    return quality.run(night.spark(), night.lake, quality.Params(night.day, night.report_dir))


def _reenrich(night: Night) -> Outcome:
    again = night.again
    if again is None:
        message = "reenrich needs reference data to enrich by: --products FILE"
        raise ProductsError(message)
    params = reenrich.Params(night.day, again.last, again.products, again.dry_run)
    return reenrich.run(night.spark(), night.lake, params, night.tell)


def _load_warehouse(night: Night) -> Outcome:
    loaded = load_day(night.warehouse(), DeltaLake(night.lake), night.day)
    lines = tuple(f"{done.table}: {done.rows:,} rows, in place of {done.replaced_rows:,}" for done in loaded)
    return Outcome(lines, {"rows": float(sum(done.rows for done in loaded))})


_DAY: Final = timedelta(days=1)


def _orders_placed(since: timedelta, known_after: timedelta = timedelta()) -> Input:
    """Return the statuses that tell of orders placed in a time up to the day."""
    return Input("transactions", since + STATUSES_WITHIN, known_after)


JOBS: Final[Mapping[str, Job]] = {
    "check_day": Job("whether the lake is as far as the day's end, and its books balance", _check_day),
    "compact": Job(
        "few large files for the days that are over; old files and old log away", _of_day(compact.run, compact.Params)
    ),
    "sessions": Job(
        "the day's sessions again, from all events; corrections, and a cause for each",
        _of_day(sessions.run, sessions.Params),
        # It adds revisions to what it reads: after a run that did, another one finds that there are no more.
        tuple(Input(table, before=_DAY, after=_DAY) for table in ("events", "late_events", "sessions")),
    ),
    "daily_metrics": Job(
        "the day by user, by product, by device and country, and in one row",
        _of_day(daily_metrics.run, daily_metrics.Params),
        (Input("events"), Input("sessions"), _orders_placed(timedelta(), STATUSES_WITHIN)),
    ),
    "user_segments": Job(
        "users by recency, frequency and money of 30 days",
        _of_day(user_segments.run, user_segments.Params),
        (Input("events", LOOK_BACK), _orders_placed(LOOK_BACK)),
    ),
    "user_features": Job(
        "what models are told of a user at the end of the day",
        _of_day(user_features.run, user_features.Params),
        (
            Input("events", LOOK_BACK),
            Input("sessions", LOOK_BACK),
            _orders_placed(LOOK_BACK),
        ),
    ),
    "recommendation_features": Job(
        "how near users are to products, and what is bought together",
        _of_day(recommendation_features.run, recommendation_features.Params),
        (Input("events", LOOK_BACK), _orders_placed(LOOK_BACK)),
    ),
    "quality": Job("whether the day can be trusted, check by check, and a report", _quality),
    "reenrich": Job("days of events enriched again by new product data", _reenrich),
    "load_warehouse": Job("the day's tables into Postgres, all of them or none", _load_warehouse),
}


def run(name: str, night: Night, metrics_dir: Path | None = None) -> Outcome:
    """Run a job; record which state of its inputs it is of, and its success in `metrics_dir` if that is given.

    Raises:
        UnknownJobError: there is no job of that name.
        BatchError: one of its kinds says why the job could not be done.
    """
    job = JOBS.get(name)
    if job is None:
        message = f"there is no job {name}: the jobs are {', '.join(JOBS)}"
        raise UnknownJobError(message)
    began = time.monotonic()
    outcome = _recorded(name, job, night) if job.inputs else job.run(night)
    if metrics_dir is not None:
        metrics.record(metrics_dir, name, time.time(), time.monotonic() - began, outcome.figures)
    return outcome


def _recorded(name: str, job: Job, night: Night) -> Outcome:
    claimed = computations.claim(night.lake, name)
    fingerprint = LakeState(night.lake).fingerprint(job.inputs, night.day)
    outcome = job.run(night)
    if not computations.record(night.lake, claimed, night.day, fingerprint):
        night.tell(f"{name} of {night.day}: another run of it ended meanwhile, so that it has to be computed again")
    return outcome
