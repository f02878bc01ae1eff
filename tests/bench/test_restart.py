from collections.abc import Mapping
from typing import Any

import pytest

from millrace_local.open_loop import LoadError
from millrace_sessionize.testing import enriched_schema
from restart import Open, Restart, events, restart, session_key

LOG: list[Mapping[str, Any]] = [
    {"message": "starting", "time": "2026-01-01T00:00:03.000+00:00"},
    {"message": "partitions assigned", "time": "2026-01-01T00:00:05.000+00:00"},
    {"message": "state replayed", "time": "2026-01-01T00:00:06.000+00:00", "offsets": 10, "seconds": 0.5},
    {"message": "state replayed", "time": "2026-01-01T00:00:07.000+00:00", "offsets": 30, "seconds": 1.5},
]
DIED = 1_767_225_600.0


def test_a_restart_is_read_from_the_log() -> None:
    assert restart(LOG, 2.0, DIED, DIED + 9.0) == Restart(40, 2.0, 5.0, 7.0, 9.0)


def test_without_a_replay_the_state_is_back_with_the_partitions() -> None:
    assert restart(LOG[:2], 2.0, DIED, DIED + 9.0) == Restart(0, 2.0, 5.0, 5.0, 9.0)


def test_a_restart_without_partitions_is_none() -> None:
    with pytest.raises(LoadError, match="no partitions"):
        restart(LOG[:1], 2.0, DIED, DIED + 9.0)


def test_memory_of_a_session_is_what_they_add() -> None:
    assert Open(100, 1_000, 51_000, []).bytes_per_session == 500.0


def test_events_fit_the_topic_and_begin_one_after_another() -> None:
    found = events(range(2, 4), 10, 1_000_000, 1)
    assert found.schema.equals(enriched_schema())
    assert found.column("client_session_id").to_pylist() == [session_key(2), session_key(3)]
    assert len(session_key(3)) == 36
    times = found.column("event_time").cast("int64").to_pylist()
    assert times == [1_000_000 + 240_000 + 1_000, 1_000_000 + 360_000 + 1_000]
