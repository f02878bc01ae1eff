"""The headline figures of each day, as the stream's own tables have them and as the marts have them.

The two readings share no code: polars over the tables that lake wrote, and SQL over what Spark and dbt made of them.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl
import psycopg
from rich.table import Table

_MARTS: Final = """
    select
        metrics.metric_date,
        metrics.sessions,
        (
            select count(*) from marts.fct_sessions as sessions
            where sessions.session_date = metrics.metric_date and sessions.has_conversion
        ),
        metrics.revenue_cents,
        metrics.orders,
        metrics.daily_active_users
    from marts.fct_daily_metrics as metrics
"""
_SESSION: Final = ("session_date", "session_id")


@dataclass(frozen=True, slots=True)
class Headlines:
    """What a UTC day was.

    Attributes:
        sessions: that began on it.
        converted_sessions: those of them in which something was bought.
        revenue_cents: of its purchase events.
        orders: that had their first status on it, and are not cancelled.
        daily_active_users: known users with an event on it.
    """

    sessions: int = 0
    converted_sessions: int = 0
    revenue_cents: int = 0
    orders: int = 0
    daily_active_users: int = 0

    @property
    def conversion_rate(self) -> float:
        """Converted sessions divided by sessions; 0 without sessions."""
        return self.converted_sessions / self.sessions if self.sessions else 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """The figures of each day, side by side.

    Attributes:
        stream: as the stream had them.
        corrected: the same, but for the sessions that the batch says it corrected: these as they are now.
        marts: at the end of the night.
    """

    stream: Mapping[date, Headlines]
    corrected: Mapping[date, Headlines]
    marts: Mapping[date, Headlines]

    @property
    def differences(self) -> tuple[str, ...]:
        """What the marts have otherwise than the corrected stream, a sentence a figure; none if all is well."""
        found = []
        for day in sorted(self.corrected.keys() | self.marts.keys()):
            ours, theirs = self.corrected.get(day, Headlines()), self.marts.get(day, Headlines())
            for field in fields(Headlines):
                here, there = getattr(ours, field.name), getattr(theirs, field.name)
                if here != there:
                    name = field.name.replace("_", " ")
                    found.append(f"{day}: {name}: {here:,} by the stream, {there:,} in the marts")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class NightReport:
    """What a night found.

    Attributes:
        compared: the marts' figures beside the stream's.
        seconds: of each step, all days together, in order.
        reports: on the quality of each day.
    """

    compared: Compared
    seconds: Mapping[str, float]
    reports: tuple[Path, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether batch and stream say the same."""
        return not self.compared.differences

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types; money in cents, times in seconds."""
        return {
            "agrees": self.agrees,
            "differences": list(self.compared.differences),
            "stream": _as_json(self.compared.stream),
            "corrected": _as_json(self.compared.corrected),
            "marts": _as_json(self.compared.marts),
            "reports": [str(path) for path in self.reports],
            "seconds": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
        }


def of_stream(lake: Path) -> Mapping[date, Headlines]:
    """Return the figures by the tables as the stream wrote them, without any revision of a session by the batch."""
    bought = pl.col("event_type") == "purchase"
    events = (
        pl.scan_delta(str(lake / "events"))
        .group_by("event_date")
        .agg(
            revenue_cents=pl.col("amount_cents").filter(bought).sum(),
            daily_active_users=pl.col("user_id").drop_nulls().n_unique(),
        )
    )
    found: defaultdict[date, dict[str, int]] = defaultdict(dict)
    for day, revenue_cents, users in events.collect().iter_rows():
        found[day] |= {"revenue_cents": revenue_cents, "daily_active_users": users}
    for day, count in orders_by_day(pl.scan_delta(str(lake / "transactions"))).items():
        found[day]["orders"] = count
    own = pl.scan_delta(str(lake / "sessions")).filter(pl.col("revision") == 1)
    for day, (sessions, converted) in _sessions_by_day(own).items():
        found[day] |= {"sessions": sessions, "converted_sessions": converted}
    return {day: Headlines(**figures) for day, figures in found.items()}


def corrected(stream: Mapping[date, Headlines], lake: Path) -> Mapping[date, Headlines]:
    """Return the figures of `stream` with the sessions that table reconciliation names as they are now.

    A revision that reconciliation does not name is not taken: it would have to show as a difference.
    """
    named = pl.scan_delta(str(lake / "reconciliation")).select(_SESSION).unique()
    rows = pl.scan_delta(str(lake / "sessions")).join(named, on=_SESSION, how="semi")
    newest = pl.col("revision") == pl.col("revision").max().over(_SESSION)
    before = _sessions_by_day(rows.filter(pl.col("revision") == 1))
    now = _sessions_by_day(rows.filter(newest & (pl.col("closed_by") != "replaced")))
    found = dict(stream)
    for day in before.keys() | now.keys():
        known, gone, new = found.get(day, Headlines()), before.get(day, (0, 0)), now.get(day, (0, 0))
        found[day] = replace(
            known,
            sessions=known.sessions - gone[0] + new[0],
            converted_sessions=known.converted_sessions - gone[1] + new[1],
        )
    return found


def of_marts(dsn: str) -> Mapping[date, Headlines]:
    """Return the figures by the marts of the warehouse that `dsn` leads to."""
    with psycopg.connect(dsn) as connection:
        return {day: Headlines(*figures) for day, *figures in connection.execute(_MARTS).fetchall()}


def orders_by_day(statuses: pl.LazyFrame) -> Mapping[date, int]:
    """Return how many orders were placed on each day; those that are cancelled by now are none.

    An order is of the day of its first status. Of two statuses of one time, pending comes first.
    """
    orders = (
        statuses.sort("occurred_at", pl.col("status") != "pending", "status", descending=[False, False, True])
        .group_by("transaction_id", maintain_order=True)
        .agg(pl.col("status").last(), pl.col("event_date").min())
        .filter(pl.col("status") != "cancelled")
        .group_by("event_date")
        .len()
    )
    return dict(orders.collect().iter_rows())


def table(compared: Compared) -> Table:
    """Return the figures as a table: a row a day and where they are from."""
    shown = Table(title="The night beside the stream", title_justify="left", title_style="bold", box=None)
    for name in ("day", "by"):
        shown.add_column(name, no_wrap=True)
    for name in ("sessions", "conversion", "revenue", "orders", "active users"):
        shown.add_column(name, justify="right", no_wrap=True)
    for day in sorted(compared.stream.keys() | compared.corrected.keys() | compared.marts.keys()):
        given = compared.stream.get(day, Headlines())
        now = compared.corrected.get(day, Headlines())
        shown.add_row(str(day), "stream", *_cells(given))
        if now != given:
            shown.add_row("", "corrected", *_cells(now))
        shown.add_row("", "marts", *_cells(compared.marts.get(day, Headlines())))
    return shown


def _as_json(by_day: Mapping[date, Headlines]) -> dict[str, dict[str, int]]:
    """Return the figures as JSON's types, by day."""
    names = [field.name for field in fields(Headlines)]
    return {str(day): dict(zip(names, astuple(figures), strict=True)) for day, figures in sorted(by_day.items())}


def _cells(figures: Headlines) -> tuple[str, ...]:
    return (
        f"{figures.sessions:,}",
        f"{figures.conversion_rate:.2%}",
        f"{figures.revenue_cents / 100:,.2f}",
        f"{figures.orders:,}",
        f"{figures.daily_active_users:,}",
    )


def _sessions_by_day(sessions: pl.LazyFrame) -> dict[date, tuple[int, int]]:
    counted = sessions.group_by("session_date").agg(pl.len(), pl.col("has_conversion").sum())
    return {day: (count, converted) for day, count, converted in counted.collect().iter_rows()}
