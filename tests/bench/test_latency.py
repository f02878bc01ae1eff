import math
from dataclasses import replace

import polars as pl
import pytest

from latency import Latency, Run, best, cost_table, cpu_per_million, latency, table, worst_lateness_seconds

RUN = Run(
    per_second=100.0,
    seconds=10.0,
    results=Latency(0.1, 0.2, 1_000, 0),
    rows=Latency(1.0, 3.0, 1_000, 0),
    worst_lateness_seconds=0.05,
    cpu_seconds={"ingest": 0.5, "kafka": 1.5},
    peak_rss_bytes={"ingest": 100 * 2**20},
)


def test_an_event_that_was_never_read_took_for_ever() -> None:
    found = latency(pl.DataFrame({"seconds": [0.1] * 98 + [None] * 2}))
    assert found == Latency(0.1, math.inf, 100, 2)


def test_one_event_in_a_hundred_is_beyond_the_99th_percentile() -> None:
    assert latency(pl.DataFrame({"seconds": [0.1] * 100 + [9.0]})).p99_seconds == 0.1


def test_without_events_there_is_no_latency() -> None:
    with pytest.raises(ValueError, match="no event"):
        latency(pl.DataFrame({"seconds": []}, {"seconds": pl.Float64}))


def test_the_worst_lateness_is_that_of_the_events_that_count() -> None:
    assert worst_lateness_seconds(pl.DataFrame({"late_seconds": [0.001, 0.02, 0.003]})) == 0.02


def test_a_run_is_void_when_the_generator_was_later_than_a_quarter_of_p99() -> None:
    assert not RUN.void
    assert replace(RUN, worst_lateness_seconds=0.051).void


def test_a_run_that_counts_is_better_than_one_that_does_not() -> None:
    later, late = replace(RUN, worst_lateness_seconds=2.0), replace(RUN, worst_lateness_seconds=1.0)
    assert best([later, RUN, late]) is RUN
    assert best([later, late]) is late


def test_cost_is_for_a_million_events() -> None:
    assert cpu_per_million(RUN) == {"ingest": 500.0, "kafka": 1_500.0}
    assert cost_table([RUN])[-1] == "| in all | 2000.0 |"


def test_the_table_says_which_run_does_not_count() -> None:
    lines = table([RUN, replace(RUN, worst_lateness_seconds=1.0)])
    assert lines[2] == "| 100 | 100 ms | 200 ms | 1.0 s | 3.0 s | 50 ms | yes |"
    assert lines[3].endswith("| 1,000 ms | no: the generator was too late |")
