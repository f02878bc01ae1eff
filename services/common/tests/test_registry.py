"""What counts as "no answer" of a schema registry, held against real HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from millrace_common.errors import RegistryUnavailableError, StartupError
from millrace_common.registry import NO_SECONDS, SchemaRegistry

SCHEMA = '"string"'
FOUND = json.dumps({"schema": SCHEMA}).encode()
NOT_FOUND = json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()


class Page(ThreadingHTTPServer):
    """Answers every request with the same status and body; status 0 hangs up instead."""

    status = 200
    body = b""
    asked = 0


class Answer(BaseHTTPRequestHandler):
    server: Page

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.status:
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(self.server.body)))
            self.end_headers()
            self.wfile.write(self.server.body)

    do_POST = do_GET  # noqa: N815  # the name that http.server looks for

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[Page]:
    with Page(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client(page: Page, clock: Callable[[], float] = time.monotonic) -> SchemaRegistry:
    return SchemaRegistry({"url": f"http://127.0.0.1:{page.server_port}", "max.retries": 0, "timeout": 0.5}, clock)


def test_a_known_id_is_asked_for_once(page: Page) -> None:
    page.body = FOUND
    registry = client(page)
    assert registry.schema(7) == SCHEMA
    page.status = 500
    assert registry.schema(7) == SCHEMA


def test_404_is_a_no(page: Page) -> None:
    page.status, page.body = 404, NOT_FOUND
    assert client(page).schema(7) is None
    with pytest.raises(StartupError, match="millrace schemas register"):
        client(page).schema_id("user-events", SCHEMA)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_status_that_is_no_success_is_no_answer(page: Page, status: int) -> None:
    page.status = status
    with pytest.raises(RegistryUnavailableError, match=f"status code {status}"):
        client(page).schema(7)
    with pytest.raises(RegistryUnavailableError, match=f"status code {status}"):
        client(page).schema_id("user-events", SCHEMA)


def test_a_page_that_is_not_the_registrys_is_no_answer(page: Page) -> None:
    page.body = b"<html>back soon</html>"
    with pytest.raises(RegistryUnavailableError):
        client(page).schema(7)


def test_a_connection_that_is_cut_or_refused_is_no_answer(page: Page) -> None:
    page.status = 0
    registry = client(page)
    with pytest.raises(RegistryUnavailableError):
        registry.schema(7)
    page.server_close()
    with pytest.raises(RegistryUnavailableError):
        registry.schema(7)


def test_a_registry_that_accepts_and_says_nothing_is_no_answer(page: Page) -> None:
    hanging, page.finish_request = threading.Event(), lambda request, address: hanging.wait(5)  # type: ignore[assignment]
    with pytest.raises(RegistryUnavailableError, match="timed out"):
        client(page).schema(7)
    hanging.set()


def test_a_defect_is_not_taken_for_silence(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = client(page)
    monkeypatch.setattr(registry, "_client", None)
    with pytest.raises(AttributeError):
        registry.schema(7)
    with pytest.raises(AttributeError):
        registry.schema_id("user-events", SCHEMA)


def test_a_no_is_believed_for_a_moment_only(page: Page) -> None:
    now = 100.0
    registry = client(page, lambda: now)
    page.status, page.body = 404, NOT_FOUND
    assert registry.schema(7) is None
    page.status, page.body = 200, FOUND
    now += NO_SECONDS - 0.001
    assert registry.schema(7) is None
    assert page.asked == 1
    now += 0.001
    assert registry.schema(7) == SCHEMA


def test_each_no_is_forgotten_when_its_own_time_is_over(page: Page) -> None:
    now = 100.0
    registry = client(page, lambda: now)
    page.status, page.body = 404, NOT_FOUND
    asked = []
    for at, schema_id in ((0.0, 1), (0.3, 2), (0.6, 2), (0.6, 1), (0.6, 2), (1.1, 2), (1.1, 1)):
        now = 100.0 + at
        assert registry.schema(schema_id) is None
        asked.append(page.asked)
    assert asked == [1, 2, 2, 3, 3, 4, 5]


def test_no_answer_is_not_remembered_as_no(page: Page) -> None:
    registry = client(page)
    page.status = 503
    with pytest.raises(RegistryUnavailableError, match="schema id 7"):
        registry.schema(7)
    page.status, page.body = 200, FOUND
    assert registry.schema(7) == SCHEMA
