"""Trying again what another writer's commit has refused.

A commit of Spark that only adds rows goes on by itself behind the stream's. One that also removes files (OPTIMIZE,
MERGE, DELETE) is refused if another commit removed one of them, and nothing of it is committed: it reads anew.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from millrace_batch.errors import ConflictError

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Delta's exception for a commit that somebody else's has overtaken; its kinds say what of it.
_CONFLICT: Final = "DeltaConcurrentModificationException"
# What Delta throws when it was overtaken as often as `spark.databricks.delta.maxCommitAttempts` allows.
_OVERTAKEN: Final = "DELTA_MAX_COMMIT_RETRIES_EXCEEDED"
# Six tries with pauses of 1, 2, 4, 8, 16 s: the stream commits a table every 2 s and merges files once a minute.
TRIES: Final = 6


def retried(what: str, action: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what `action` returns, calling it again with growing pauses while other writers' commits refuse it.

    Args:
        what: names the action in messages, like "OPTIMIZE of events, 2026-03-01".
        action: commits to one table, all or nothing.
        pause: called with seconds between two tries.

    Raises:
        ConflictError: it was refused every time; the table is as the others have left it.
    """
    number = 0
    while True:
        number += 1
        try:
            return action()
        except (Py4JJavaError, PySparkException) as error:
            if not is_conflict(error):
                raise
            if number == TRIES:
                message = (
                    f"{what} was overtaken by other writers {TRIES} times, and is not done: try when they write less"
                )
                raise ConflictError(message) from error
            _log.info("a commit of another writer came first", extra={"action": what, "try": number})
        pause(2.0 ** (number - 1))


def is_conflict(error: Py4JJavaError | PySparkException) -> bool:
    """Say whether another writer's commit is why Spark refused; then a second try may succeed."""
    if isinstance(error, Py4JJavaError):
        thrown = error.java_exception
        return _is_named(thrown.getClass(), _CONFLICT) or _OVERTAKEN in str(thrown.getMessage())
    condition = error.getCondition() or ""
    return condition.startswith("DELTA_CONCURRENT_") or condition == _OVERTAKEN


def _is_named(java_class: Any, name: str) -> bool:
    while java_class is not None:
        if java_class.getSimpleName() == name:
            return True
        java_class = java_class.getSuperclass()
    return False
