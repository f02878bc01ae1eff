"""What a day is held against: the checks, declared in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from millrace_batch.reconciliation import REPLACED


class Dimension(StrEnum):
    """What a check is about."""

    COMPLETENESS = "completeness"
    UNIQUENESS = "uniqueness"
    VALIDITY = "validity"
    FRESHNESS = "freshness"
    VOLUME = "volume"
    LEDGER = "ledger"


class Severity(StrEnum):
    """What follows when a check does not hold: an error fails the run, a warning is only told."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Rows:
    """The day has at least `least` rows, and no more than `most`; a table that is not there has none."""

    least: int = 1
    most: int | None = None


@dataclass(frozen=True, slots=True)
class BadRows:
    """Of the day's rows, at most `share` are as the SQL condition `where` says."""

    where: str
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Repeated:
    """At most `share` of the day's rows have the `key` of another one."""

    key: tuple[str, ...]
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Newest:
    """The day's newest `column`, a time, is at most `within` before the day's end."""

    column: str
    within: timedelta


@dataclass(frozen=True, slots=True)
class Volume:
    """The day has between `lowest` and `highest` times the median number of rows of the seven days before it.

    Days without rows do not count, and with fewer than three others there is nothing to compare with.
    """

    lowest: float = 0.5
    highest: float = 2.0


@dataclass(frozen=True, slots=True)
class AgainstLedger:
    """The day has as many rows as the stream committed to it, by ledger rows and files of the table's commits."""


How = Rows | BadRows | Repeated | Newest | Volume | AgainstLedger


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: unique; a row of `quality_results` bears it.
        table: of the lake.
        dimension: what it is about.
        severity: what follows when it does not hold.
        how: what has to hold.
    """

    name: str
    table: str
    dimension: Dimension
    severity: Severity
    how: How


DAY_COLUMNS: Final[Mapping[str, str]] = {
    "events": "event_date",
    "sessions": "session_date",
    "transactions": "event_date",
    "fact_daily_metrics": "metric_date",
    "product_metrics": "metric_date",
    "user_daily_metrics": "metric_date",
    "user_segments": "segment_date",
    "user_features": "feature_date",
}
"""The tables that are checked, and the partition that is their day."""

_COMPLETENESS, _UNIQUENESS, _VALIDITY = Dimension.COMPLETENESS, Dimension.UNIQUENESS, Dimension.VALIDITY
_FRESHNESS, _VOLUME, _LEDGER = Dimension.FRESHNESS, Dimension.VOLUME, Dimension.LEDGER
_ERROR, _WARN = Severity.ERROR, Severity.WARN
_OF_A_SESSION: Final = "page_views + clicks + searches + add_to_carts + purchases"

# What only the pipeline could have done wrong is an error. What visitors, shops and clients may do is a warning: a
# quiet day, an event that its client sent again after ingest had forgotten it, a product that nobody has described.
CHECKS: Final = (
    Check("sessions_there", "sessions", _COMPLETENESS, _ERROR, Rows()),
    Check("transactions_there", "transactions", _COMPLETENESS, _WARN, Rows()),
    Check("facts_one_row", "fact_daily_metrics", _COMPLETENESS, _ERROR, Rows(1, 1)),
    Check("segments_there", "user_segments", _COMPLETENESS, _WARN, Rows()),
    Check("features_there", "user_features", _COMPLETENESS, _WARN, Rows()),
    Check(
        *("purchases_have_amount", "events", _COMPLETENESS, _WARN),
        BadRows("event_type = 'purchase' and amount_cents is null", 0.001),
    ),
    Check(
        *("products_have_price", "events", _COMPLETENESS, _WARN),
        BadRows("product_id is not null and product_price_cents is null", 0.05),
    ),
    Check("events_unique", "events", _UNIQUENESS, _WARN, Repeated(("client_session_id", "event_id"), 0.001)),
    # Two sessions cut in one millisecond share an id and a revision (ADR 0005).
    Check("sessions_unique", "sessions", _UNIQUENESS, _WARN, Repeated(("session_id", "revision"))),
    Check("statuses_unique", "transactions", _UNIQUENESS, _WARN, Repeated(("transaction_id", "status", "occurred_at"))),
    Check("products_unique", "product_metrics", _UNIQUENESS, _ERROR, Repeated(("product_id",))),
    Check("users_unique", "user_daily_metrics", _UNIQUENESS, _ERROR, Repeated(("user_id",))),
    Check("segments_unique", "user_segments", _UNIQUENESS, _ERROR, Repeated(("user_id",))),
    Check("events_on_their_day", "events", _VALIDITY, _ERROR, BadRows("to_date(event_time) <> event_date")),
    Check("amounts_not_negative", "events", _VALIDITY, _ERROR, BadRows("amount_cents < 0")),
    Check(
        *("sessions_add_up", "sessions", _VALIDITY, _ERROR),
        BadRows(
            f"ended_at < started_at or revenue_cents < 0 or event_count <> {_OF_A_SESSION} "
            f"or (event_count < 1 and closed_by <> '{REPLACED}')"
        ),
    ),
    Check("totals_not_negative", "transactions", _VALIDITY, _ERROR, BadRows("total_amount < 0")),
    Check(
        *("rates_within_bounds", "fact_daily_metrics", _VALIDITY, _ERROR),
        BadRows("conversion_rate not between 0 and 1 or bounce_rate not between 0 and 1 or revenue_cents < 0"),
    ),
    Check("events_until_the_end", "events", _FRESHNESS, _WARN, Newest("event_time", timedelta(hours=1))),
    Check("sessions_until_the_end", "sessions", _FRESHNESS, _WARN, Newest("started_at", timedelta(hours=2))),
    Check("events_volume", "events", _VOLUME, _WARN, Volume()),
    Check("sessions_volume", "sessions", _VOLUME, _WARN, Volume()),
    Check("transactions_volume", "transactions", _VOLUME, _WARN, Volume()),
    Check("events_by_ledger", "events", _LEDGER, _ERROR, AgainstLedger()),
    Check("transactions_by_ledger", "transactions", _LEDGER, _ERROR, AgainstLedger()),
)
