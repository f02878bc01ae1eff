"""What an open loop says about latency: quantiles, whether a run counts, and the table of rates. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

LATENESS_SHARE: Final = 4
"""A run is void when the load generator was later than this part of the 99th percentile."""
RESULT_GOAL_SECONDS: Final = 0.5
"""Of the 99th percentile in user-events.enriched."""
ROW_GOAL_SECONDS: Final = 10.0
"""Of the 99th percentile in the lake."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long events took from their intended time until they could be read.

    Attributes:
        p50_seconds, p99_seconds: infinite where events were never read.
        events: how many were intended.
        unread: how many of them were never read.
    """

    p50_seconds: float
    p99_seconds: float
    events: int
    unread: int


@dataclass(frozen=True, slots=True)
class Run:
    """One open loop at a constant rate.

    Attributes:
        per_second: events.
        seconds: how long.
        results: until readable by a read_committed consumer of user-events.enriched.
        rows: until readable in the lake.
        worst_lateness_seconds: of the load generator.
        cpu_seconds: used by each process meanwhile.
        peak_rss_bytes: of each process.
    """

    per_second: float
    seconds: float
    results: Latency
    rows: Latency
    worst_lateness_seconds: float
    cpu_seconds: Mapping[str, float]
    peak_rss_bytes: Mapping[str, int]

    @property
    def void(self) -> bool:
        """Whether the load generator was so late that the run says more about it than about the pipeline."""
        return self.worst_lateness_seconds > self.results.p99_seconds / LATENESS_SHARE


def latency(events: pl.DataFrame) -> Latency:
    """Return the latency of `events`, with a column `seconds`; null: never read, which counts as for ever.

    Raises:
        ValueError: there is no event.
    """
    seconds = events["seconds"].fill_null(math.inf)
    p50, p99 = seconds.quantile(0.5, "higher"), seconds.quantile(0.99, "higher")
    if p50 is None or p99 is None:
        message = "no event to measure"
        raise ValueError(message)
    return Latency(p50, p99, len(events), events["seconds"].null_count())


def worst_lateness_seconds(events: pl.DataFrame) -> float:
    """Return how late the load generator was at worst with `events`, with a column `late_seconds`."""
    return max(events["late_seconds"].to_list(), default=0.0)


def best(runs: Sequence[Run]) -> Run:
    """Return the first of `runs` that counts; else the one whose generator was least late."""
    return next((run for run in runs if not run.void), min(runs, key=lambda run: run.worst_lateness_seconds))


def cpu_per_million(run: Run) -> dict[str, float]:
    """Return the CPU-seconds that each process spent on a million events at that rate."""
    return {name: seconds * 1_000_000 / run.results.events for name, seconds in run.cpu_seconds.items()}


def table(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a table: latency against rate."""
    lines = [
        "| events/s | in user-events.enriched: p50 | p99 | in the lake: p50 | p99 | generator late | counts |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for run in runs:
        lines.append(
            f"| {run.per_second:,.0f} | {_ms(run.results.p50_seconds)} | {_ms(run.results.p99_seconds)} "
            f"| {run.rows.p50_seconds:.1f} s | {run.rows.p99_seconds:.1f} s | {_ms(run.worst_lateness_seconds)} "
            f"| {'no: the generator was too late' if run.void else 'yes'} |"
        )
    return lines


def cost_table(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a table: CPU-seconds per million events by process and in all, a column for each rate."""
    costs = [cpu_per_million(run) for run in runs]
    names = sorted({name for cost in costs for name in cost})
    lines = [
        "| process | " + " | ".join(f"at {run.per_second:,.0f}/s" for run in runs) + " |",
        "| --- |" + " ---: |" * len(runs),
    ]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{cost.get(name, 0.0):.1f}" for cost in costs) + " |")
    lines.append("| in all | " + " | ".join(f"{sum(cost.values()):.1f}" for cost in costs) + " |")
    return lines


def memory_table(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a table: peak MiB by process, a column for each rate."""
    names = sorted({name for run in runs for name in run.peak_rss_bytes})
    lines = [
        "| process | " + " | ".join(f"at {run.per_second:,.0f}/s" for run in runs) + " |",
        "| --- |" + " ---: |" * len(runs),
    ]
    for name in names:
        lines.append(
            f"| {name} | " + " | ".join(f"{run.peak_rss_bytes.get(name, 0) / 2**20:.0f}" for run in runs) + " |"
        )
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
