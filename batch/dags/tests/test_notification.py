"""People are told by the webhook if there is one, in the log otherwise."""

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from urllib.error import HTTPError

import pytest

from millrace_dags import notification


class Slack(HTTPServer):
    """Takes what is posted; answers `/broken` with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.taken: list[str] = []


class _Take(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append(json.loads(body)["text"])
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def slack() -> Iterator[Slack]:
    server = Slack()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_failed_run_is_told_by_the_webhook(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_DAGS_SLACK_WEBHOOK", f"http://127.0.0.1:{slack.server_port}/x")
    notification.tell_of_failed_run({"dag_run": SimpleNamespace(dag_id="nightly", run_id="r1")})
    assert slack.taken == ["nightly failed: run r1"]


def test_late_run_is_told_by_what_the_scheduler_knows_of_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notification.tell_of_late_run(context={"dag_run": {"dag_id": "nightly", "dag_run_id": "r1"}})
    assert caplog.messages == ["nightly is late: run r1 goes on"]


def test_webhook_that_does_not_take_it_is_an_error(slack: Slack) -> None:
    with pytest.raises(HTTPError):
        notification.tell("x", f"http://127.0.0.1:{slack.server_port}/broken")


def test_without_a_webhook_it_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notification.tell("the night failed")
    assert caplog.messages == ["the night failed"]
