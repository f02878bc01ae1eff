"""What holds for every DAG and task; a test checks that it does."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from millrace_dags.notification import tell_of_failed_run
from millrace_dags.settings import Settings

OWNER: Final = "millrace"
TIMEOUT: Final = timedelta(hours=1)
LONGEST_RETRY_DELAY: Final = timedelta(minutes=30)
# Before all history: without catching up, only a run that is due counts, and Airflow runs no task of a day before the
# start, but calls such a run a success.
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def default_args(settings: Settings) -> dict[str, Any]:
    """Return what a task has unless it says otherwise: an owner, retries that wait longer each time, a timeout."""
    return {
        "owner": OWNER,
        "retries": settings.retries,
        "retry_delay": settings.retry_delay,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": LONGEST_RETRY_DELAY,
        "execution_timeout": TIMEOUT,
    }


def dag_args(settings: Settings) -> dict[str, Any]:
    """Return what a DAG has unless it says otherwise: one run at a time, days made up for only if settings say so."""
    return {
        "default_args": default_args(settings),
        "start_date": settings.catch_up_from or _LONG_AGO,
        "catchup": settings.catch_up_from is not None,
        "max_active_runs": 1,
        "on_failure_callback": tell_of_failed_run,
    }
