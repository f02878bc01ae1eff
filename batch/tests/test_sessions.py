from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import timedelta
from random import Random
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from millrace_batch.errors import EmptyInputError, UnexplainedError
from millrace_batch.lake import Lake
from millrace_batch.session_events import stretches
from millrace_batch.session_rules import SessionRules
from millrace_batch.session_truth import SESSION_COLUMNS, summed_stretches, true_sessions
from millrace_batch.sessions import Params, run
from millrace_sessionize import rules as stream_rules
from session_logs import MINUTE_MS, START_MS, Row, one_event, random_log, stored, stream, true_rows
from session_vectors import batch_vectors
from stream_tables import DAY, StreamTable

pytestmark = pytest.mark.spark

Open = Callable[[str], StreamTable]
# Those of the golden cases.
SHORT: Final = SessionRules(max_duration_ms=60 * MINUTE_MS, max_events=4)
LONGER: Final = SessionRules(max_duration_ms=150 * MINUTE_MS, max_events=14)
IN_TIME_MS: Final = (0, 1, 2 * MINUTE_MS)
OUT_OF_ORDER_MS: Final = (0, 1, 4 * MINUTE_MS, 40 * MINUTE_MS)
LATE_MS: Final = (0, 1, 1, 4 * MINUTE_MS, 4 * MINUTE_MS, 120 * MINUTE_MS)
SETTLING_MS: Final = 7 * MINUTE_MS


def test_rules_are_the_streams() -> None:
    assert asdict(SessionRules()) == asdict(stream_rules.SessionRules())


def test_golden_cases_of_the_stream(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    log, expected, was_closed = batch_vectors(SHORT)
    found = [row for row in truth(spark, lake, stream_table, log, SHORT) if was_closed(row)]
    assert in_order(found) == in_order(expected)


def test_sessions_are_those_of_a_stream_without_a_watermark(
    spark: SparkSession, lake: Lake, stream_table: Open
) -> None:
    log = random_log(Random(7), [f"k-{number}" for number in range(400)], 25, OUT_OF_ORDER_MS)
    rules = LONGER
    expected = true_rows(log, in_stream(rules))
    assert {row["closed_by"] for row in expected} == {"gap", "max_duration", "max_events"}
    assert in_order(truth(spark, lake, stream_table, log, rules)) == in_order(stored(expected))


def test_after_the_batch_nothing_differs_from_the_truth(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    log = random_log(Random(11), [f"k-{number}" for number in range(150)], 12, LATE_MS)
    # Two keys so late that no session of theirs was written, and one that only moves the watermarks on.
    log += [one_event(len(log) + n, START_MS + 24 * 60 * MINUTE_MS, f"end-{n}", START_MS, Random(n)) for n in range(2)]
    rules = SessionRules()
    made = stream(log, in_stream(rules), partitions=2)
    write(stream_table, events=log, late_events=made.late_events, sessions=made.sessions)
    assert made.late_events

    params = Params(DAY, rules)
    run(spark, lake, params)

    expected = [row for row in true_rows(log, in_stream(rules)) if row["started_at"].date() == DAY]
    assert in_order(current_sessions(spark, lake)) == in_order(stored(expected))
    differences = lake.read(spark, "reconciliation").collect()
    assert {row["cause"] for row in differences} == {"late"}
    changed = {row["session_id"] for row in made.sessions if row["started_at"].date() == DAY} ^ ids(expected)
    assert changed <= {row["session_id"] for row in differences}

    versions = [DeltaTable(lake.table_uri(name)).version() for name in ("sessions", "reconciliation")]
    run(spark, lake, params)
    assert [DeltaTable(lake.table_uri(name)).version() for name in ("sessions", "reconciliation")] == versions


def test_each_difference_has_its_cause(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    """One key a cause; keys that are as they should be stand beside them."""
    random = Random(3)
    at = [START_MS + minute * MINUTE_MS for minute in (0, 25, 50)]
    newest_ms = START_MS + 300 * MINUTE_MS
    # The last moment at which a session is certainly over.
    over_ms = newest_ms - SessionRules().allowed_lateness_ms - SETTLING_MS - SessionRules().gap_ms

    def visit(key: str, times_ms: Iterable[int] = at) -> list[Row]:
        events = [one_event(number, ms, key, ms + 500, random) for number, ms in enumerate(times_ms)]
        return [one | {"event_id": f"{key}-{number}"} for number, one in enumerate(events)]

    fine, late, twice, lost, wrong, joined = (visit(k) for k in ("fine", "late", "twice", "lost", "wrong", "joined"))
    again = twice[2] | {"received_at": twice[2]["received_at"] + timedelta(minutes=90)}
    # Two events of one time, received in one batch: the stream knew which came first.
    tied = [one | {"page": page} for one, page in zip(visit("tied", at[:1] * 2), ("/x", "/y"), strict=True)]
    others = [*visit("open", [over_ms]), *visit("over", [over_ms - 1]), *visit("end", [newest_ms])]
    streamed = [*fine, *late[:2], *twice, again, *lost, *wrong, joined[0], joined[2], *reversed(tied), *others]
    sessions = [
        row | {"revision": 1} | ({"exit_page": "/elsewhere"} if row["client_session_id"] == "wrong" else {})
        for row in true_rows(streamed, in_stream(SessionRules()))
        if row["client_session_id"] not in {"lost", "open", "over", "end"}
    ]
    too_late = [one | {"watermark": others[-1]["event_time"], "lateness_ms": 1} for one in (late[2], joined[1])]
    write(stream_table, events=[*streamed, late[2], joined[1]], late_events=too_late, sessions=sessions)

    with pytest.raises(UnexplainedError, match="1 sessions of .* same counts, other fields"):
        run(spark, lake, Params(DAY, settling=timedelta(milliseconds=SETTLING_MS)))

    found = {row["session_id"]: row for row in lake.read(spark, "reconciliation").collect()}
    keys = ("late", "twice", "lost", "wrong", "joined")
    assert {name: row["cause"] for name, row in found.items()} == {
        **{
            f"{key}-{at[0]}": cause
            for key, cause in zip(keys, ("late", "duplicate", "missing", "unexplained", "late"), strict=True)
        },
        f"joined-{at[2]}": "late",
        f"over-{over_ms - 1}": "missing",
    }
    first = {key: found[f"{key}-{at[0]}"] for key in keys}
    assert [first[key]["batch_revision"] for key in keys] == [2, 2, 2, None, 2]
    assert first["late"]["detail"] == "1 late"
    assert (first["twice"]["stream_event_count"], first["twice"]["batch_event_count"]) == (4, 3)
    assert (first["lost"]["stream_revision"], first["lost"]["batch_event_count"]) == (None, 3)
    rows = {(row["session_id"], row["revision"]): row for row in lake.read(spark, "sessions").collect()}
    assert len(rows) == len(sessions) + len(found) - 1
    gone = rows[f"joined-{at[2]}", 2]
    assert (gone["closed_by"], gone["event_count"], gone["revenue_cents"]) == ("replaced", 0, 0)
    assert rows[f"joined-{at[0]}", 2]["event_count"] == 3


def test_cut_elsewhere_for_another_order_of_arrival_is_a_cut(
    spark: SparkSession, lake: Lake, stream_table: Open
) -> None:
    """Of events received in one millisecond, only the stream knows which came first; limits ask for it."""
    random = Random(5)
    arrivals_min = {"many": (5, 0, 1, 2, 3, 4), "long": (25, 50, 75, 0), "same": (0, 1, 2, 3, 4, 5)}
    log = [
        one_event(number, START_MS + minute * MINUTE_MS, key, START_MS, random) | {"event_id": f"{key}-{number}"}
        for key, minutes in arrivals_min.items()
        for number, minute in enumerate(minutes)
    ]
    made = stream(log, in_stream(SHORT), partitions=3)
    assert not made.late_events
    end = one_event(0, START_MS + 300 * MINUTE_MS, "end", START_MS, random)
    write(stream_table, events=[*log, end], late_events=[], sessions=made.sessions)
    run(spark, lake, Params(DAY, SHORT))

    found = {row["session_id"]: row for row in lake.read(spark, "reconciliation").collect()}
    at = {minute: START_MS + minute * MINUTE_MS for minute in (0, 3, 4, 25, 75)}
    changed = {"many": (0, 3, 4), "long": (0, 25, 75)}
    assert set(found) == {f"{key}-{at[minute]}" for key, minutes in changed.items() for minute in minutes}
    assert {(row["cause"], row["detail"]) for row in found.values()} == {("cut", "reaches a limit")}
    now = {(row["session_id"], row["event_count"], row["closed_by"]) for row in current_sessions(spark, lake)}
    assert now == {
        *((f"{key}-{at[0]}", 4, "max_events") for key in ("many", "same")),
        *((f"{key}-{at[4]}", 2, "gap") for key in ("many", "same")),
        (f"long-{at[0]}", 3, "max_duration"),
        (f"long-{at[75]}", 1, "gap"),
    }


def test_a_day_without_events_is_refused(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    write(stream_table, events=[one_event(0, START_MS, "a", START_MS, Random(1))], late_events=[], sessions=[])
    with pytest.raises(EmptyInputError, match="events has no rows of 2026-02-28"):
        run(spark, lake, Params(DAY - timedelta(days=1)))


def truth(spark: SparkSession, lake: Lake, stream_table: Open, log: list[Row], rules: SessionRules) -> list[Row]:
    write(stream_table, events=log, late_events=[], sessions=[])
    rows = stretches(lake.read(spark, "events"), lake.read(spark, "late_events"), rules)
    found = true_sessions(rows, summed_stretches(rows, rules), rules)
    return dicts(found.select(*SESSION_COLUMNS).toArrow().to_pylist())


def current_sessions(spark: SparkSession, lake: Lake) -> list[Row]:
    sessions = lake.read(spark, "sessions").filter(f"session_date = '{DAY}'").select("revision", *SESSION_COLUMNS)
    rows = sessions.toArrow().to_pylist()
    last: Counter[str] = Counter()
    for row in rows:
        last[row["session_id"]] = max(last[row["session_id"]], row["revision"])
    return dicts([r for r in rows if r["revision"] == last[r["session_id"]] and r["closed_by"] != "replaced"])


def write(stream_table: Open, **tables: list[Row]) -> None:
    """Make the tables, each with its rows in one commit."""
    for name, rows in tables.items():
        table = stream_table(name)
        if rows:
            table.append(stored(rows))


def dicts(rows: list[Row]) -> list[Row]:
    return [{name: row[name] for name in SESSION_COLUMNS} for row in rows]


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(dicts(rows), key=lambda row: (row["session_id"], row["event_count"], str(row)))


def ids(rows: list[Row]) -> set[str]:
    return {row["session_id"] for row in rows}


def in_stream(rules: SessionRules) -> stream_rules.SessionRules:
    return stream_rules.SessionRules(**asdict(rules))
