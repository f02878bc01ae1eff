import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from millrace_common import metrics
from millrace_common.errors import StartupError
from millrace_common.health import HealthServer


class Switch:
    on = False


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def server(switch: Switch) -> Iterator[HealthServer]:
    server = HealthServer("127.0.0.1", 0, ready=lambda: switch.on, stalled_after_seconds=60.0)
    yield server
    server.close()


def get(server: HealthServer, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{page}", timeout=5) as answer:  # noqa: S310  # ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_healthz_is_progress(server: HealthServer) -> None:
    metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time())
    assert get(server, "/healthz")[0] == 200
    metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time() - 61)
    status, text = get(server, "/healthz")
    assert (status, text) == (503, text)
    assert text.startswith("last progress 61.")


def test_readyz_is_an_assignment(server: HealthServer, switch: Switch) -> None:
    assert get(server, "/readyz") == (503, "no assignment yet\n")
    switch.on = True
    assert get(server, "/readyz") == (200, "ready\n")


def test_metrics_are_served_with_their_help(server: HealthServer) -> None:
    metrics.RECORDS_LATE.inc(0)
    status, text = get(server, "/metrics")
    assert status == 200
    assert "# HELP millrace_records_late_total Input records that came after their session was over." in text


def test_another_page_says_which_ones_there_are(server: HealthServer) -> None:
    assert get(server, "/") == (404, "there are /metrics, /healthz and /readyz\n")


def test_a_taken_port_is_named(server: HealthServer) -> None:
    with pytest.raises(StartupError, match=f"METRICS_PORT {server.port} on 127.0.0.1 cannot be used"):
        HealthServer("127.0.0.1", server.port, ready=lambda: True, stalled_after_seconds=1.0)


def test_a_closed_server_frees_its_port(switch: Switch) -> None:
    first = HealthServer("127.0.0.1", 0, ready=lambda: True, stalled_after_seconds=1.0)
    first.close()
    HealthServer("127.0.0.1", first.port, ready=lambda: True, stalled_after_seconds=1.0).close()


def test_a_probe_that_gave_up_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    asked, gone = threading.Event(), threading.Event()

    def ready() -> bool:
        asked.set()
        return gone.wait(5)

    server = HealthServer("127.0.0.1", 0, ready=ready, stalled_after_seconds=60.0)
    others = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        # Closing sends a reset, so that the answer cannot be written.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert asked.wait(5)
    gone.set()
    for answering in set(threading.enumerate()) - others:
        answering.join(5)
    server.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("spec", metrics.SPECS, ids=lambda spec: spec.name)
def test_every_metric_is_well_named_and_says_what_to_do(spec: metrics.MetricSpec) -> None:
    assert spec.name.startswith("millrace_")
    assert (spec.kind == "counter") == spec.name.endswith("_total")
    assert spec.help.endswith(".")
    assert spec.what_to_do.endswith(".")
    assert not {"user", "url", "session"} & set(spec.labels)
