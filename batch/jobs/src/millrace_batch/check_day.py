"""Job `check_day`: whether a night can begin. The lake is as far as the end of the day, and the books balance."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import quality
from millrace_batch.errors import NothingBeganError, QualityError, StaleLakeError
from millrace_batch.lake import Lake
from millrace_batch.night import FRESH_WITHIN, Outcome
from millrace_batch.quality_checks import CHECKS, Dimension
from millrace_batch.reconciliation import REPLACED

_BOOKS: Final = tuple(check for check in CHECKS if check.dimension is Dimension.LEDGER)
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Params:
    """What `check_day` is asked.

    Attributes:
        day: a UTC day.
        fresh_within: how long before its end the newest event may be.
    """

    day: date
    fresh_within: timedelta = FRESH_WITHIN


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Check the day; writes nothing.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: there is no table events, or sessions.
        StaleLakeError: the newest event is too old, or there are events without a session.
        QualityError: the stream committed other rows to the day than its ledger says.
        NothingBeganError: the day has only the end of sessions that began on the day before.
    """
    events = lake.days_with_rows(spark, "events", "event_date", params.day, params.day)
    newest = _refuse_stale(lake.read(spark, "events"), params)
    books = [quality.result(spark, lake, check, quality.Params(params.day, checks=_BOOKS)) for check in _BOOKS]
    failed = [str(one) for one in books if one.fails]
    if failed:
        message = f"the books of {params.day} do not balance: {'; '.join(failed)}"
        raise QualityError(message)
    _refuse_without_sessions(events, lake.read(spark, "sessions"), params.day)
    return Outcome((f"the newest event is of {newest:%Y-%m-%d %H:%M:%S} UTC", *map(str, books)))


def _refuse_stale(events: DataFrame, params: Params) -> datetime:
    """Return when the newest event happened."""
    later = events.where(f.col("event_date") >= f.lit(params.day))
    (found,) = later.agg(f.max(f.unix_millis("event_time")).alias("ms")).collect()
    newest = datetime.fromtimestamp(found["ms"] / 1000, UTC)
    end = datetime(params.day.year, params.day.month, params.day.day, tzinfo=UTC) + _ONE_DAY
    if newest < end - params.fresh_within:
        message = (
            f"the newest event is of {newest:%Y-%m-%d %H:%M:%S} UTC, more than {params.fresh_within} before the end of "
            f"{params.day}: has the stream caught up with it?"
        )
        raise StaleLakeError(message)
    return newest


def _refuse_without_sessions(events: DataFrame, sessions: DataFrame, day: date) -> None:
    """A session is of the day of its first event, so a day may have events and no session of its own."""
    if not sessions.where((f.col("session_date") == f.lit(day)) & (f.col("closed_by") != REPLACED)).isEmpty():
        return
    began_before = sessions.where(
        (f.col("session_date") == f.lit(day - _ONE_DAY)) & (f.to_date("ended_at") >= f.lit(day))
    )
    without = events.join(began_before, "client_session_id", "left_anti").select("client_session_id").distinct().count()
    if without:
        message = f"{without:,} client sessions have events of {day}, and no session: has sessionize caught up?"
        raise StaleLakeError(message)
    message = f"no session began on {day}: it has only the end of sessions of the day before, and no night"
    raise NothingBeganError(message)
