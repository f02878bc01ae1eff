"""What counts as "no answer" of a schema registry, held against real HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from millrace_common.errors import RegistryUnavailableError, StartupError
from millrace_common.registry import GRACE_SECONDS, NO_SECONDS, SchemaRegistry

SCHEMA = '"string"'
FOUND = json.dumps({"schema": SCHEMA}).encode()
NOT_FOUND = json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()


class Page(ThreadingHTTPServer):
    """Answers every request with the same status and body; status 0 hangs up instead."""

    status = 200
    body = b""
    asked = 0
    ids: set[int] | None = None  # if given, it says what is found


class Answer(BaseHTTPRequestHandler):
    server: Page

    def do_GET(self) -> None:
        self.server.asked += 1
        status, body = self.server.status, self.server.body
        if status == 200 and self.server.ids is not None:
            known = int(self.path.split("?")[0].rsplit("/", 1)[1]) in self.server.ids
            status, body = (200, FOUND) if known else (404, NOT_FOUND)
        if status:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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
    asked = page.asked
    page.status, page.body = 200, FOUND
    now += NO_SECONDS - 0.001
    assert registry.schema(7) is None
    assert page.asked == asked
    now += 0.001
    assert registry.schema(7) == SCHEMA


def test_each_no_is_forgotten_when_its_own_time_is_over(page: Page) -> None:
    now = 100.0
    registry = client(page, lambda: now)
    page.ids = {9}
    assert registry.schema(9) == SCHEMA
    asked = []
    for at, schema_id in ((0.0, 1), (0.3, 2), (0.6, 2), (0.6, 1), (0.6, 2), (1.2, 2)):
        now, before = 100.0 + at, page.asked
        assert registry.schema(schema_id) is None
        asked.append(page.asked - before)
    # At first, and again after half a second, it is seen that the registry knows id 9, and the id is asked for again.
    assert asked == [3, 1, 0, 3, 0, 3]


def test_a_registry_that_has_not_read_its_storage_yet_is_not_believed(page: Page) -> None:
    registry = client(page)
    page.ids = {9, 10}
    assert registry.schema(9) == SCHEMA
    page.ids = set()
    with pytest.raises(RegistryUnavailableError, match="has forgotten schema id 9; 10 is asked for again"):
        registry.schema(10)
    page.ids = {9, 10}
    assert registry.schema(10) == SCHEMA
    assert registry.schema(11) is None


def test_storage_that_is_read_between_two_questions_is_noticed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = client(page)
    page.ids = {9}
    assert registry.schema(9) == SCHEMA
    asked: list[int] = []
    get_schema = registry._client.get_schema

    def read_storage_after_the_first(schema_id: int) -> object:
        page.ids = {9, 10} if asked else set()
        asked.append(schema_id)
        return get_schema(schema_id)

    monkeypatch.setattr(registry._client, "get_schema", read_storage_after_the_first)
    assert registry.schema(10) == SCHEMA
    assert asked == [10, 9, 10]


def test_a_registry_that_has_just_come_back_is_not_believed_for_some_seconds(page: Page) -> None:
    now = 100.0
    registry = client(page, lambda: now)
    page.status = 503
    with pytest.raises(RegistryUnavailableError):
        registry.schema(7)
    page.status, page.ids = 200, set()
    now += GRACE_SECONDS - 0.001
    with pytest.raises(RegistryUnavailableError, match="answers again only now, and does not know schema id 7 yet"):
        registry.schema(7)
    now += 0.001
    assert registry.schema(7) is None
    page.ids = {8}
    assert registry.schema(8) == SCHEMA


def test_no_answer_is_not_remembered_as_no(page: Page) -> None:
    registry = client(page)
    page.status = 503
    with pytest.raises(RegistryUnavailableError, match="schema id 7"):
        registry.schema(7)
    page.status, page.body = 200, FOUND
    assert registry.schema(7) == SCHEMA
