"""What a night does about an interrupt; the night itself is run by the tests of the whole main job."""

from pathlib import Path

import pytest
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from millrace_batch.spark import Jars
from millrace_local import night


def fail_behind(first: BaseException) -> None:
    try:
        raise first
    finally:
        message = "the connection is gone"
        raise Py4JError(message)


@pytest.mark.parametrize(("first", "ends_with"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(), Py4JError)])
def test_interrupt_stays_one_although_the_job_fails_behind_it(
    first: BaseException, ends_with: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_session(jars: Jars, options: object) -> SparkSession:
        return SparkSession.__new__(SparkSession)

    monkeypatch.setattr("millrace_local.night.spark_sessions.session", no_session)
    steps = night._Steps(lambda line: None)
    with pytest.raises(ends_with), night._spark(Jars((), tmp_path), tmp_path / "spark.log", steps):
        fail_behind(first)
