"""Whether a day's figures hold against a check; plain Python, no rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Final

from millrace_batch.ledger_sums import Committed
from millrace_batch.quality_checks import AgainstLedger, BadRows, Check, Newest, Repeated, Rows, Severity, Volume

DAYS_BEFORE: Final = 7
"""So many days before the day its volume is compared with."""

_FEWEST_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """What a table has of a day.

    Attributes:
        rows: of the day.
        observed: by check: the number of bad or repeated rows, or the newest time in epoch milliseconds.
        rows_by_day: of the day and the seven before it; days without rows are left out.
        committed: what the stream committed to the day; None if no check asks.
    """

    rows: int
    observed: Mapping[str, int]
    rows_by_day: Mapping[date, int]
    committed: Committed | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check.

    Attributes:
        check: that was made.
        observed: the number that was judged; None if there is none.
        expected: what it should be, for a person.
        passed: None: it was not checked, and `detail` says why.
        detail: for a person; may be empty.
    """

    check: Check
    observed: float | None
    expected: str
    passed: bool | None
    detail: str = ""

    @property
    def fails(self) -> bool:
        """Whether the run fails for it."""
        return self.passed is False and self.check.severity is Severity.ERROR

    def __str__(self) -> str:
        """Return a line."""
        word = {True: "holds", False: self.check.severity.value, None: "not checked"}[self.passed]
        found = "" if self.observed is None else f" {number(self.observed)}, expected {self.expected}"
        detail = f" ({self.detail})" if self.detail else ""
        return f"{word}: {self.check.table} {self.check.name}{found}{detail}"


def number(value: float) -> str:
    """Return a number as a person reads it: whole ones without decimals."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def judge(check: Check, figures: Figures | None, day: date) -> Result:  # noqa: PLR0911  # one line a kind
    """Return what comes of `check`; `figures` is None if the lake has not the table."""
    how = check.how
    if isinstance(how, Rows):
        return _judge_rows(check, how, figures)
    if figures is None:
        return Result(check, None, "", None, f"there is no table {check.table}")
    if isinstance(how, AgainstLedger):
        return _judge_ledger(check, figures, day)
    if isinstance(how, Volume):
        return _judge_volume(check, how, figures, day)
    if not figures.rows:
        return Result(check, None, "", None, f"no rows of {day}")
    if isinstance(how, Newest):
        return _judge_newest(check, how, figures, day)
    return _judge_share(check, how, figures)


def _judge_rows(check: Check, how: Rows, figures: Figures | None) -> Result:
    rows = figures.rows if figures else 0
    most = how.most
    if most is None:
        expected = f"rows: {how.least} or more"
    else:
        expected = f"rows: {how.least}" if how.least == most else f"rows: {how.least} to {most}"
    detail = "" if figures else f"there is no table {check.table}"
    return Result(check, rows, expected, how.least <= rows and (most is None or rows <= most), detail)


def _judge_share(check: Check, how: BadRows | Repeated, figures: Figures) -> Result:
    bad = figures.observed[check.name]
    what = f"with {how.where}" if isinstance(how, BadRows) else f"with the {', '.join(how.key)} of another"
    expected = f"at most {how.share:.1%} of {figures.rows:,} rows" if how.share else "0 rows"
    return Result(check, bad, expected, bad <= how.share * figures.rows, f"{bad:,} rows {what}" if bad else "")


def _judge_newest(check: Check, how: Newest, figures: Figures, day: date) -> Result:
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    newest = datetime.fromtimestamp(figures.observed[check.name] / 1000, UTC)
    before = end - newest
    expected = f"at most {how.within.total_seconds():,.0f} seconds before the end of the day"
    detail = f"newest {how.column}: {newest:%Y-%m-%d %H:%M:%S} UTC"
    return Result(check, before.total_seconds(), expected, before <= how.within, detail)


def _judge_volume(check: Check, how: Volume, figures: Figures, day: date) -> Result:
    before = [rows for other, rows in figures.rows_by_day.items() if other < day]
    if len(before) < _FEWEST_DAYS:
        detail = f"{len(before)} of the {DAYS_BEFORE} days before have rows, and {_FEWEST_DAYS} are needed"
        return Result(check, None, "", None, detail)
    usual = median(before)
    lowest, highest = how.lowest * usual, how.highest * usual
    expected = f"{lowest:,.0f} to {highest:,.0f} rows"
    detail = f"the median of {len(before)} days before is {number(usual)}"
    return Result(check, figures.rows, expected, lowest <= figures.rows <= highest, detail)


def _judge_ledger(check: Check, figures: Figures, day: date) -> Result:
    found = figures.committed
    if found is None or not found.is_whole_for(day):
        return Result(check, None, "", None, f"commits to {day} may be gone: the log is kept for 7 days")
    if found.uncounted_files:
        return Result(check, None, "", None, f"{found.uncounted_files} files do not say how many rows they have")
    expected = f"{found.day_rows:,} rows"
    if found.added_rows != found.ledger_rows:
        detail = f"the ledger has {found.ledger_rows:,} records for {found.added_rows:,} rows of the same commits"
        return Result(check, figures.rows, expected, False, detail)
    return Result(check, figures.rows, expected, figures.rows == found.day_rows)
