"""Reading topics from a broker that never answers."""

import socket
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from millrace_common.records import Partition
from millrace_local import reading
from millrace_local.reading import Library, runs


def test_a_broker_that_falls_silent_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SILENT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and nobody ever answers
        library = Library(f"127.0.0.1:{listener.getsockname()[1]}", "", Path("none"))
        with pytest.raises(KafkaException, match="_TIMED_OUT"):
            list(runs(library, [Partition("user-events", 0)]))
