"""Job `quality`: whether a day can be trusted, check by check (quality_checks.py)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import quality_report, writing
from millrace_batch.errors import QualityError
from millrace_batch.lake import Lake
from millrace_batch.ledger_sums import committed
from millrace_batch.night import Outcome
from millrace_batch.quality_checks import CHECKS, DAY_COLUMNS, AgainstLedger, BadRows, Check, Newest, Repeated, Volume
from millrace_batch.quality_results import DAYS_BEFORE, Figures, Result, judge

_RESULTS: Final = (
    "check_date date, check_name string, table_name string, dimension string, severity string, observed double, "
    "expected string, passed boolean, detail string"
)
_ROWS: Final = "rows"


@dataclass(frozen=True, slots=True)
class Params:
    """What `quality` is asked.

    Attributes:
        day: a UTC day.
        report_dir: gets `quality-<day>.html`; None: no report.
        checks: their names differ.
    """

    day: date
    report_dir: Path | None = None
    checks: Sequence[Check] = CHECKS


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Check the day, write its rows of table quality_results, and the report.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: there is no table events.
        QualityError: a check of severity error does not hold; results and report are written.
    """
    day = params.day
    events = lake.days_with_rows(spark, "events", "event_date", day, day)
    by_table = {table: _figures(spark, lake, table, params) for table in sorted({one.table for one in params.checks})}
    results = [judge(check, by_table[check.table], day) for check in params.checks]
    writing.replace_day(spark, lake, "quality_results", "check_date", day, as_rows(spark, results, day))
    lines = [str(result) for result in results if not result.passed]
    if params.report_dir is not None:
        plotted = {check.table for check in params.checks if isinstance(check.how, Volume)}
        volumes = {table: found.rows_by_day for table, found in by_table.items() if found and table in plotted}
        shown = quality_report.Shown(day, results, volumes, _by_hour(events))
        lines.append(f"report: {quality_report.write(params.report_dir, shown)}")
    _refuse(results, day)
    counts = {word: sum(result.passed is word for result in results) for word in (True, False, None)}
    lines.append(f"{counts[True]} of {len(results)} checks hold")
    return Outcome(tuple(lines), {"checks_failed": counts[False], "checks_not_made": counts[None]})


def result(spark: SparkSession, lake: Lake, check: Check, params: Params) -> Result:
    """Return what comes of one check; nothing is written."""
    return judge(check, _figures(spark, lake, check.table, params), params.day)


def measured(rows: DataFrame, checks: Iterable[Check]) -> DataFrame:
    """Return one row about the rows of a day: their number, and what each check observes that looks at rows."""
    columns = {check.name: _observed(check) for check in checks}
    asked = (column.alias(name) for name, column in columns.items() if column is not None)
    return rows.agg(f.count("*").alias(_ROWS), *asked)


def as_rows(spark: SparkSession, results: Sequence[Result], day: date) -> DataFrame:
    """Return `results` as rows of table quality_results."""
    rows = [
        (
            *(day, result.check.name, result.check.table, result.check.dimension.value, result.check.severity.value),
            *(None if result.observed is None else float(result.observed), result.expected, result.passed),
            result.detail,
        )
        for result in results
    ]
    return spark.createDataFrame(rows, _RESULTS)


def _figures(spark: SparkSession, lake: Lake, table: str, params: Params) -> Figures | None:
    if not lake.has(spark, table):
        return None
    day, column = params.day, DAY_COLUMNS[table]
    checks = [check for check in params.checks if check.table == table]
    # One version for all: the stream may append a late row meanwhile.
    version = lake.delta_rs(table).version()
    rows = spark.read.format("delta").option("versionAsOf", version).load(lake.table_uri(table))
    (found,) = measured(rows.filter(f.col(column) == f.lit(day)), checks).collect()
    observed = {name: value for name, value in found.asDict().items() if name != _ROWS and value is not None}
    first = day - timedelta(days=DAYS_BEFORE)
    by_day = rows.filter(f.col(column).between(f.lit(first), f.lit(day))).groupBy(column).count().collect()
    asks_ledger = any(isinstance(check.how, AgainstLedger) for check in checks)
    return Figures(
        rows=found[_ROWS],
        observed=observed,
        rows_by_day={row[column]: row["count"] for row in sorted(by_day, key=lambda row: str(row[column]))},
        committed=committed(spark, lake, table, version, column, day) if asks_ledger else None,
    )


def _observed(check: Check) -> Column | None:
    how = check.how
    if isinstance(how, BadRows):
        return f.count_if(f.expr(how.where))
    if isinstance(how, Repeated):
        return f.count("*") - f.count_distinct(f.struct(*how.key))
    if isinstance(how, Newest):
        return f.max(f.unix_millis(how.column))
    return None


def _by_hour(events: DataFrame) -> tuple[int, ...]:
    rows = events.groupBy(f.hour("event_time").alias("hour")).count().collect()
    by_hour = {row["hour"]: row["count"] for row in rows}
    return tuple(by_hour.get(hour, 0) for hour in range(24))


def _refuse(results: Sequence[Result], day: date) -> None:
    failed = [str(result) for result in results if result.fails]
    if failed:
        message = (
            f"{len(failed)} checks of {day} do not hold, all of them in table quality_results: {'; '.join(failed)}"
        )
        raise QualityError(message)
