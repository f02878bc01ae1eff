import json
import logging
import sys
from datetime import datetime, timedelta

import pytest

from millrace_common.logs import JsonFormatter


def format_line(level: int, message: str, *, extra: dict[str, object] | None = None, failed: bool = False) -> str:
    record = logging.getLogger("millrace.somewhere").makeRecord(
        "millrace.somewhere", level, __file__, 1, message, (), sys.exc_info() if failed else None, extra=extra
    )
    return JsonFormatter("ingest").format(record)


def test_a_line_is_one_json_object_with_constant_message_and_fields() -> None:
    line = format_line(logging.WARNING, "partitions were lost", extra={"partitions": ["a[0]"], "seconds": 1.5})
    assert "\n" not in line
    fields = json.loads(line)
    moment = datetime.fromisoformat(fields.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert fields == {
        "level": "warning",
        "service": "ingest",
        "logger": "millrace.somewhere",
        "message": "partitions were lost",
        "partitions": ["a[0]"],
        "seconds": 1.5,
    }


def test_an_exception_stays_on_the_one_line() -> None:
    try:
        raise ValueError("broken\nin two")  # noqa: EM101  # the text is the test
    except ValueError:
        line = format_line(logging.ERROR, "stopped by a defect", failed=True)
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["exception"]


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), ValueError("x")])
def test_a_field_that_json_does_not_know_does_not_lose_the_line(value: object) -> None:
    assert json.loads(format_line(logging.INFO, "m", extra={"value": value}))["message"] == "m"
