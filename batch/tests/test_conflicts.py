from collections.abc import Iterator

import pytest
from pyspark.errors import PySparkException

from millrace_batch.conflicts import TRIES, retried
from millrace_batch.errors import ConflictError


class RefusedError(PySparkException):
    def __init__(self, condition: str) -> None:
        super().__init__(message="refused")
        self.condition = condition

    def getCondition(self) -> str:
        return self.condition


OVERTAKEN = RefusedError("DELTA_CONCURRENT_APPEND.WITH_PARTITION_HINT")


class Commit:
    """Is refused with each of the given errors in turn, and then succeeds."""

    def __init__(self, *errors: PySparkException) -> None:
        self.errors: Iterator[PySparkException] = iter(errors)

    def __call__(self) -> str:
        for error in self.errors:
            raise error
        return "done"


def test_commit_that_was_overtaken_is_tried_again_after_growing_pauses() -> None:
    pauses: list[float] = []
    assert retried("MERGE", Commit(*[OVERTAKEN] * 5), pauses.append) == "done"
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_commit_that_is_always_overtaken_is_given_up() -> None:
    pauses: list[float] = []
    with pytest.raises(ConflictError, match="MERGE was overtaken by other writers 6 times"):
        retried("MERGE", Commit(*[OVERTAKEN] * TRIES), pauses.append)
    assert len(pauses) == TRIES - 1


@pytest.mark.parametrize("number_of_conflicts", [0, 5])
def test_other_errors_are_raised_at_once(number_of_conflicts: int) -> None:
    conflicts = [OVERTAKEN] * number_of_conflicts
    with pytest.raises(RefusedError, match="refused"):
        retried("MERGE", Commit(*conflicts, RefusedError("DELTA_TABLE_NOT_FOUND")), lambda seconds: None)


def test_commit_overtaken_as_often_as_delta_allows_is_tried_again() -> None:
    overtaken = RefusedError("DELTA_MAX_COMMIT_RETRIES_EXCEEDED")
    assert retried("MERGE", Commit(overtaken), lambda seconds: None) == "done"
