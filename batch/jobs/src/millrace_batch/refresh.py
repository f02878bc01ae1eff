"""Computing again what is due: the days one by one, so that one that fails does not hold the others up."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from millrace_batch import jobs
from millrace_batch.due import JOBS_IN_ORDER, Days, Due, due_jobs, due_loads
from millrace_batch.errors import BatchError, RefreshError
from millrace_batch.night import Night


def refresh_tables(night: Night, days: Days) -> int:
    """Run every job for the days that it is due for, in the order in which they read each other.

    Args:
        night: its day does not matter.
        days: to look at.

    Returns:
        How many runs there were.

    Raises:
        RefreshError: some failed; the jobs behind them were not run for their days, and all others were.
    """
    failed: dict[date, BatchError] = {}
    runs = 0
    for name in JOBS_IN_ORDER:
        # Looked up now: the jobs before may have changed what this one reads.
        runs += _run(night, (one for one in due_jobs(night.lake, days, [name]) if one.day not in failed), failed)
    _refuse(failed)
    return runs


def refresh_warehouse(night: Night, days: Days) -> int:
    """Load every day that the warehouse has otherwise than the lake.

    Returns:
        How many days were loaded.

    Raises:
        RefreshError: some could not be loaded; all others were.
    """
    failed: dict[date, BatchError] = {}
    loads = _run(night, due_loads(night.warehouse(), night.lake, days), failed)
    _refuse(failed)
    return loads


def _run(night: Night, due: Iterable[Due], failed: dict[date, BatchError]) -> int:
    runs = 0
    for one in due:
        night.tell(f"{one.job} of {one.day}")
        try:
            outcome = jobs.run(one.job, replace(night, day=one.day))
        except BatchError as error:
            night.tell(str(error))
            failed[one.day] = error
            continue
        runs += 1
        for line in outcome.lines:
            night.tell(line)
    return runs


def _refuse(failed: dict[date, BatchError]) -> None:
    if failed:
        told = "; ".join(f"{day}: {error}" for day, error in sorted(failed.items()))
        message = f"{len(failed)} days could not be refreshed, the others were: {told}"
        raise RefreshError(message) from next(iter(failed.values()))
