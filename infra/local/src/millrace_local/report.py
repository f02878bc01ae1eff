"""The page a demo ends with: what is in the lake, whether the books balance, and where to look next."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from millrace_local import headlines
from millrace_local.audit import Verdict
from millrace_local.headlines import NightReport

_TABLES = ("events", "transactions", "sessions", "late_events", "dead_letters")
_TOP = 5


@dataclass(frozen=True, slots=True)
class Product:
    """A product and what visitors did with it."""

    product_id: str
    brand: str | None
    category: str | None
    views: int
    purchases: int
    revenue_cents: int


@dataclass(frozen=True, slots=True)
class Business:
    """What the lake says about the shop."""

    rows: Mapping[str, int]
    visitors: int
    sessions: int
    converted_sessions: int
    revenue_cents: int
    orders: int
    session_seconds_median: float
    bounces: int
    top_products: tuple[Product, ...]
    rejects: Mapping[str, int]

    @property
    def conversion_rate(self) -> float:
        """Converted sessions divided by sessions; 0 without sessions."""
        return self.converted_sessions / self.sessions if self.sessions else 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the broker's append of a raw event to its row in the lake."""

    p50_seconds: float
    p99_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows.

    `sent` counts records by topic; `generator_lateness_seconds` is its own worst; `night` is None if it was left out.
    """

    business: Business
    verdict: Verdict
    latency: Latency | None
    sent: Mapping[str, int]
    generator_lateness_seconds: float
    elapsed_seconds: float
    lake: Path
    night: NightReport | None = None

    @property
    def good(self) -> bool:
        """Whether the books balance, and the night, if there was one, says what the stream says."""
        return self.verdict.balanced and (self.night is None or self.night.agrees)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types; money in cents, times in seconds."""
        business, verdict, latency = self.business, self.verdict, self.latency
        return {
            "balanced": verdict.balanced,
            "in_flight": sum(verdict.in_flight.values()),
            "problems": list(verdict.problems),
            "events": business.rows["events"],
            "sessions": business.sessions,
            "visitors": business.visitors,
            "conversion_rate": business.conversion_rate,
            "revenue_cents": business.revenue_cents,
            "orders": business.orders,
            "duplicates": sum(counts.duplicate for counts in verdict.counts.values()),
            "late": sum(counts.late for counts in verdict.counts.values()),
            "rejects": dict(business.rejects),
            "top_products": [
                {name: getattr(product, name) for name in Product.__slots__} for product in business.top_products
            ],
            "latency_seconds": None
            if latency is None
            else {"p50": latency.p50_seconds, "p99": latency.p99_seconds, "max": latency.max_seconds},
            "services": ledger_sums(verdict),
            "sent": dict(self.sent),
            "generator_lateness_seconds": self.generator_lateness_seconds,
            "elapsed_seconds": self.elapsed_seconds,
            "lake": str(self.lake),
            "tables": dict(business.rows),
            "night": None if self.night is None else self.night.as_json(),
        }


def ledger_sums(verdict: Verdict) -> dict[str, dict[str, int]]:
    """Return the ledger's sums by service and outcome."""
    return {
        service: {
            "in": counts.read,
            "forwarded": counts.forwarded,
            "dead": counts.dead,
            "duplicate": counts.duplicate,
            "late": counts.late,
            "in_flight": verdict.in_flight.get(service, 0),
        }
        for service, counts in verdict.counts.items()
    }


def read_business(lake: Path) -> Business:
    """Return what the tables under `lake` say; a table that does not exist has no rows."""
    frames = {name: pl.scan_delta(str(lake / name)) for name in _TABLES if (lake / name / "_delta_log").is_dir()}
    rows = {name: _count(frames.get(name)) for name in _TABLES}
    sessions, events = frames.get("sessions"), frames.get("events")
    totals: dict[str, Any] = {}
    if sessions is not None and rows["sessions"]:
        totals = (
            sessions.select(
                sessions=pl.len(),
                converted=pl.col("has_conversion").sum(),
                revenue=pl.col("revenue_cents").sum(),
                bounces=pl.col("is_bounce").sum(),
                median_ms=pl.col("duration_ms").median(),
            )
            .collect()
            .row(0, named=True)
        )
    visitors = 0
    top: tuple[Product, ...] = ()
    if events is not None and rows["events"]:
        visitors = int(events.select(pl.col("user_id").n_unique()).collect().item())
        top = _top_products(events)
    rejects: dict[str, int] = {}
    if "dead_letters" in frames:
        by_reason = frames["dead_letters"].group_by("reason").len().sort("len", descending=True).collect()
        rejects = dict(by_reason.iter_rows())
    return Business(
        rows=rows,
        visitors=visitors,
        sessions=totals.get("sessions", 0),
        converted_sessions=int(totals.get("converted") or 0),
        revenue_cents=int(totals.get("revenue") or 0),
        orders=sum(headlines.orders_by_day(frames["transactions"]).values()) if rows["transactions"] else 0,
        session_seconds_median=(totals.get("median_ms") or 0) / 1000,
        bounces=int(totals.get("bounces") or 0),
        top_products=top,
        rejects=rejects,
    )


def render(report: Report, console: Console) -> None:
    """Print the page."""
    business, verdict = report.business, report.verdict
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", justify="right")
    facts.add_column()
    for value, name in (
        (f"{business.rows['events']:,}", "events of " + f"{business.visitors:,} visitors"),
        (f"{business.sessions:,}", f"sessions, {business.bounces:,} of them bounces; median {_minutes(business)}"),
        (f"{business.conversion_rate:.1%}", "of the sessions bought something"),
        (f"{business.revenue_cents / 100:,.2f}", f"revenue in {business.orders:,} orders"),
    ):
        facts.add_row(value, name)
    console.print(Panel(facts, title="What the shop did", title_align="left", expand=False))
    if business.top_products:
        console.print(_products_table(business))
    console.print(books_table(verdict))
    if business.rejects:
        console.print("Dead letters: " + ", ".join(f"{count:,} {reason}" for reason, count in business.rejects.items()))
    if report.latency is not None:
        console.print(
            f"From broker to lake: {report.latency.p50_seconds:.1f} s median, {report.latency.p99_seconds:.1f} s p99, "
            f"{report.latency.max_seconds:.1f} s at most"
            + (
                f" (the generator itself was up to {report.generator_lateness_seconds:.2f} s late)"
                if report.generator_lateness_seconds >= 0.01
                else ""
            )
        )
    if verdict.balanced:
        console.print("[bold green]The books balance[/]: nothing was lost, nothing was doubled.")
    else:
        console.print("[bold red]The books do not balance[/]:")
        for problem in verdict.problems:
            console.print(f"  {problem}", markup=False)
    if report.night is not None:
        _render_night(report.night, console)
    console.print(_where(report), markup=False, highlight=False, soft_wrap=True)


def _top_products(events: pl.LazyFrame) -> tuple[Product, ...]:
    bought = pl.col("event_type") == "purchase"
    found = (
        events.filter(pl.col("product_id").is_not_null())
        .group_by("product_id")
        .agg(
            brand=pl.col("product_brand").drop_nulls().first(),
            category=pl.col("product_category").drop_nulls().first(),
            views=(pl.col("event_type") == "page_view").sum().cast(pl.Int64),
            purchases=bought.sum().cast(pl.Int64),
            revenue_cents=pl.col("amount_cents").filter(bought).sum(),
        )
        .sort(["revenue_cents", "views", "product_id"], descending=[True, True, False])
        .head(_TOP)
        .collect()
    )
    return tuple(Product(**row) for row in found.iter_rows(named=True))


def _products_table(business: Business) -> Table:
    table = Table(title="Top products by revenue", title_justify="left", title_style="bold", box=None, padding=(0, 2))
    for name, justify in (("product", "left"), ("brand", "left"), ("category", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # the two literals of the loop
    for name in ("views", "bought", "revenue"):
        table.add_column(name, justify="right")
    for product in business.top_products:
        table.add_row(
            product.product_id,
            product.brand or "",
            product.category or "",
            f"{product.views:,}",
            f"{product.purchases:,}",
            f"{product.revenue_cents / 100:,.2f}",
        )
    return table


def books_table(verdict: Verdict) -> Table:
    """Return the ledger's sums as a table: a row a service, a column an outcome."""
    table = Table(title="The books", title_justify="left", title_style="bold", box=None, padding=(0, 2))
    table.add_column("service")
    for name in ("in", "forwarded", "dead", "duplicate", "late", "in flight"):
        table.add_column(name, justify="right")
    for service, sums in ledger_sums(verdict).items():
        table.add_row(service, *(f"{value:,}" for value in sums.values()))
    return table


def _render_night(night: NightReport, console: Console) -> None:
    console.print(headlines.table(night.compared))
    if night.agrees:
        console.print("[bold green]Batch and stream agree[/], to the cent.")
    else:
        console.print("[bold red]Batch and stream do not agree[/]:")
        for difference in night.compared.differences:
            console.print(f"  {difference}", markup=False)


def _where(report: Report) -> str:
    tables = ", ".join(f"{name} ({count:,} rows)" for name, count in report.business.rows.items())
    lines: tuple[str, ...] = (
        f"Tables: {tables}, under {report.lake}",
        "Ask them, in Python:",
        "  import duckdb, polars as pl",
        f"  sessions = pl.read_delta('{report.lake / 'sessions'}')",
        "  sessions.group_by('device_type').agg(pl.len(), pl.col('revenue_cents').sum())",
        "  duckdb.sql('select device_type, avg(event_count) from sessions group by all')",
    )
    if report.night is not None:
        lines += (
            "Ask the marts:",
            f"  millrace warehouse query --work-dir {report.lake.parent} 'table marts.fct_daily_metrics'",
            *(f"Whether the day can be trusted: {path}" for path in report.night.reports),
        )
    return "\n".join(lines)


def _minutes(business: Business) -> str:
    return f"{business.session_seconds_median / 60:.1f} min"


def _count(frame: pl.LazyFrame | None) -> int:
    return 0 if frame is None else int(frame.select(pl.len()).collect().item())
