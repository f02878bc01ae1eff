"""Whether a day's quality is judged right: by figures alone, and on a lake whose commits the stream made."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from lake_days import write_day
from millrace_batch import quality, quality_report
from millrace_batch.errors import EmptyInputError, MissingTableError, QualityError
from millrace_batch.lake import Lake
from millrace_batch.ledger_sums import Committed
from millrace_batch.quality_checks import (
    CHECKS,
    DAY_COLUMNS,
    AgainstLedger,
    BadRows,
    Check,
    Dimension,
    How,
    Newest,
    Repeated,
    Rows,
    Severity,
    Volume,
)
from millrace_batch.quality_results import Figures, judge
from stream_tables import DAY, NOON, StreamTable, row

Row = dict[str, Any]
MIDNIGHT_MS: Final = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1000
OF_EVENTS: Final = tuple(one for one in CHECKS if one.table == "events")
NOTHING: Final = Figures(0, {}, {})
COMMITTED: Final = Committed(0, MIDNIGHT_MS, day_rows=7, added_rows=9, ledger_rows=9, uncounted_files=0)


def check(how: How, severity: Severity = Severity.ERROR) -> Check:
    return Check("one", "events", Dimension.VALIDITY, severity, how)


def week(*rows: int) -> dict[date, int]:
    return {DAY - timedelta(days=back): count for back, count in enumerate(rows)}


@pytest.mark.parametrize(
    ("how", "figures", "passed"),
    [
        (Rows(), Figures(1, {}, {}), True),
        (Rows(), NOTHING, False),
        (Rows(1, 1), Figures(2, {}, {}), False),
        (Rows(), None, False),
        (BadRows("x"), Figures(1000, {"one": 0}, {}), True),
        (BadRows("x"), Figures(1000, {"one": 1}, {}), False),
        (BadRows("x", 0.001), Figures(1000, {"one": 1}, {}), True),
        (BadRows("x", 0.001), Figures(1000, {"one": 2}, {}), False),
        (BadRows("x"), NOTHING, None),
        (BadRows("x"), None, None),
        (Repeated(("a",)), Figures(2, {"one": 1}, {}), False),
        (Newest("t", timedelta(hours=1)), Figures(1, {"one": MIDNIGHT_MS - 3_600_000}, {}), True),
        (Newest("t", timedelta(hours=1)), Figures(1, {"one": MIDNIGHT_MS - 3_600_001}, {}), False),
        (Volume(), Figures(50, {}, week(50, 90, 100, 110)), True),
        (Volume(), Figures(49, {}, week(49, 90, 100, 110)), False),
        (Volume(), Figures(201, {}, week(201, 90, 100, 110)), False),
        (Volume(), Figures(0, {}, week(0, 90, 100, 110)), False),
        (Volume(), Figures(1, {}, week(1, 90, 100)), None),
        (AgainstLedger(), Figures(7, {}, {}, COMMITTED), True),
        (AgainstLedger(), Figures(6, {}, {}, COMMITTED), False),
        (AgainstLedger(), Figures(7, {}, {}, replace(COMMITTED, ledger_rows=8)), False),
        (AgainstLedger(), Figures(7, {}, {}, replace(COMMITTED, uncounted_files=1)), None),
        (AgainstLedger(), Figures(7, {}, {}, replace(COMMITTED, first_version=3)), None),
        (AgainstLedger(), Figures(7, {}, {}, replace(COMMITTED, first_version=3, first_at_ms=0)), True),
    ],
)
def test_figures_are_judged(how: How, figures: Figures | None, passed: bool | None) -> None:
    result = judge(check(how), figures, DAY)
    assert result.passed is passed
    assert result.fails == (passed is False)
    assert not judge(check(how, Severity.WARN), figures, DAY).fails
    # What was not checked says why, and everything else what it found and expected.
    assert result.detail if passed is None else (result.observed is not None and result.expected)


def test_checks_are_declared_once_and_of_known_tables() -> None:
    assert len({one.name for one in CHECKS}) == len(CHECKS)
    assert {one.table for one in CHECKS} <= set(DAY_COLUMNS)
    assert {one.dimension for one in CHECKS} == set(Dimension)


def test_report_is_one_file_that_shows_every_result() -> None:
    odd = replace(check(BadRows("a < b & c")), name="odd")
    shown = quality_report.Shown(
        DAY,
        [judge(check(Rows()), NOTHING, DAY), judge(odd, Figures(9, {"odd": 2}, {}), DAY), judge(odd, None, DAY)],
        {"events": week(3, 4, 0, 5)},
        [0] * 12 + [7] + [0] * 11,
    )
    text = quality_report.html(shown)
    assert "The line is the median" in text
    assert "The line is the median" not in quality_report.html(replace(shown, volumes={"events": {DAY: 3}}))
    page = ET.fromstring(text.removeprefix("<!doctype html>").replace('<meta charset="utf-8">', ""))  # noqa: S314  # ours
    rows = [[cell.text or "" for cell in line] for line in page.iter("tr")][1:]
    assert [line[0] for line in rows] == ["error", "error", "not checked"]
    assert rows[1][4:] == ["2", "0 rows", "2 rows with a < b & c"]
    bars = [bar[0].text for bar in page.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars.count("12: 7") == 1
    assert bars[-5:] == ["25 Feb: 0", "26 Feb: 5", "27 Feb: 0", "28 Feb: 4", "01 Mar: 3"]
    assert len(bars) == 24 + 8
    assert "src=" not in text


@pytest.mark.parametrize(
    ("highest", "end"), [(0, 2), (1, 2), (3, 4), (9, 10), (10, 20), (2_769, 4_000), (12_001, 20_000), (99_999, 100_000)]
)
def test_axes_end_at_round_numbers_that_have_a_whole_half(highest: int, end: int) -> None:
    assert quality_report._axis_end(highest) == end


def act(number: int, at: datetime) -> Row:
    return {"event_id": f"e-{number}", "client_session_id": "s-1", "event_time": at, "received_at": at}


def session(number: int) -> Row:
    counts = dict.fromkeys(("clicks", "searches", "add_to_carts", "purchases", "revenue_cents"), 0)
    of_one = {"event_count": 1, "page_views": 1, "started_at": NOON, "ended_at": NOON + timedelta(hours=1)}
    return {"session_id": f"s-{number}", **of_one, **counts}


def fill(folder: Path) -> None:
    """Make a lake of one good day, and three before it: commits have rows of two days."""
    events = StreamTable(str(folder), "events")
    for back in range(3):
        at = NOON - timedelta(days=back)
        events.append([act(10 * back + number, at - timedelta(days=number % 2)) for number in range(8)])
    StreamTable(str(folder), "sessions").append([session(number) for number in range(4)])
    StreamTable(str(folder), "transactions").append([{"occurred_at": NOON}])
    zeros = {"revenue_cents": 0, "conversion_rate": 0.0, "bounce_rate": 1.0}
    write_day(folder, "fact_daily_metrics", DAY, [zeros])
    write_day(folder, "product_metrics", DAY, [{"product_id": "p-1"}])
    write_day(folder, "user_segments", DAY, [{"user_id": "u-1"}])


@pytest.fixture(scope="module")
def good(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Path]]:
    """Return a lake after the job, and the folder of the report."""
    folder = tmp_path_factory.mktemp("lake")
    reports = tmp_path_factory.mktemp("reports")
    fill(folder)
    quality.run(spark, Lake(str(folder)), quality.Params(DAY, reports))
    yield Lake(str(folder)), reports


def results(spark: SparkSession, lake: Lake) -> dict[str, Row]:
    rows = lake.read(spark, "quality_results").collect()
    assert {row["check_date"] for row in rows} == {DAY}
    return {row["check_name"]: row.asDict() for row in rows}


@pytest.mark.spark
def test_good_day_holds_and_says_what_was_not_checked(spark: SparkSession, good: tuple[Lake, Path]) -> None:
    lake, reports = good
    found = results(spark, lake)
    assert set(found) == {one.name for one in CHECKS}
    assert not [name for name, row in found.items() if row["severity"] == "error" and row["passed"] is False]
    by_ledger = found["events_by_ledger"]
    assert (by_ledger["passed"], by_ledger["observed"], by_ledger["expected"]) == (True, 4.0, "4 rows")
    assert {name for name, row in found.items() if row["passed"] is None} == {
        *("users_unique", "sessions_volume", "transactions_volume")
    }
    assert found["users_unique"]["detail"] == "there is no table user_daily_metrics"
    assert (found["events_volume"]["passed"], found["events_volume"]["observed"]) == (True, 4.0)
    # Noon is twelve hours before the end: told, and no more.
    assert (found["events_until_the_end"]["passed"], found["events_until_the_end"]["observed"]) == (False, 43_200.0)
    assert f"Quality of {DAY}" in (reports / f"quality-{DAY}.html").read_text()


@pytest.mark.spark
def test_second_run_makes_no_version(spark: SparkSession, good: tuple[Lake, Path]) -> None:
    version = good[0].delta_rs("quality_results").version()
    told = quality.run(spark, good[0], quality.Params(DAY))
    assert good[0].delta_rs("quality_results").version() == version
    assert told.lines[-1] == f"{len(CHECKS) - 6} of {len(CHECKS)} checks hold"


@pytest.mark.spark
def test_rows_that_the_ledger_has_not_fail_the_run(spark: SparkSession, tmp_path: Path) -> None:
    fill(tmp_path)
    lake = Lake(str(tmp_path))
    spec = StreamTable(str(tmp_path), "events").spec
    doubled = [row(spec, 0, act(2, NOON))]
    write_deltalake(lake.table_uri("events"), pa.Table.from_pylist(doubled, schema=spec.schema), mode="append")
    with pytest.raises(QualityError, match="1 checks of 2026-03-01 do not hold.*events_by_ledger 5, expected 4 rows"):
        quality.run(spark, lake, quality.Params(DAY, tmp_path / "reports", OF_EVENTS))
    found = results(spark, lake)
    assert found["events_by_ledger"]["passed"] is False
    assert (found["events_unique"]["passed"], found["events_unique"]["observed"]) == (False, 1.0)
    assert (tmp_path / "reports" / f"quality-{DAY}.html").exists()


@pytest.mark.spark
def test_day_whose_commits_are_gone_is_not_checked(spark: SparkSession, tmp_path: Path) -> None:
    fill(tmp_path)
    lake = Lake(str(tmp_path))
    lake.delta_rs("events").create_checkpoint()
    (tmp_path / "events/_delta_log/00000000000000000000.json").unlink()
    quality.run(spark, lake, quality.Params(DAY, checks=OF_EVENTS))
    by_ledger = results(spark, lake)["events_by_ledger"]
    assert (by_ledger["passed"], by_ledger["observed"]) == (None, None)
    assert "may be gone" in by_ledger["detail"]


@pytest.mark.spark
def test_absent_and_empty_events_are_refused(spark: SparkSession, tmp_path: Path, good: tuple[Lake, Path]) -> None:
    with pytest.raises(MissingTableError, match="no table events"):
        quality.run(spark, Lake(str(tmp_path)), quality.Params(DAY))
    with pytest.raises(EmptyInputError, match="no rows of 2026-03-05"):
        quality.run(spark, good[0], quality.Params(DAY + timedelta(days=4)))
