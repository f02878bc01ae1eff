"""How commands talk to a running supervisor: HTTP on the loopback address, with a token only its owner can read.

GET  /status     what is wanted and what runs, and what the commands noted about the stack
PUT  /processes  what shall run from now on, and that note
POST /release    the stack no longer ends with the command that started it
POST /stop       stop everything, then the supervisor
"""

import hmac
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final, Protocol

from millrace_local.errors import NotRunningError
from millrace_local.ports import LOOPBACK
from millrace_local.processes import Identity, ProcessSpec
from millrace_local.supervision import ProcessState

_TIMEOUT_SECONDS: Final = 10.0
_AUTHORIZATION: Final = "Authorization"

# What the commands keep with a stack: addresses, folders, the services asked for. The supervisor only stores it.
Note = dict[str, Any]


class Controlled(Protocol):
    """What can be asked of a supervisor; called from the threads of the control server."""

    def status(self) -> tuple[list[ProcessState], Note]:
        """Return what is wanted and runs, and the note."""

    def apply(self, specs: Sequence[ProcessSpec], note: Note) -> None:
        """Let exactly `specs` run."""

    def release(self) -> None:
        """Outlive the owner."""

    def stop(self) -> None:
        """Stop everything, soon."""


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where a supervisor listens, and the token that it wants to see."""

    port: int
    token: str


def serve(controlled: Controlled, token: str) -> ThreadingHTTPServer:
    """Return a server on a free port; the caller runs and closes it."""

    class Handler(_Handler):
        """Bound to one supervisor."""

        target = controlled
        expected = f"Bearer {token}"

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    target: ClassVar[Controlled]
    expected: ClassVar[str]
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        if not hmac.compare_digest(self.headers.get(_AUTHORIZATION, "").encode(), self.expected.encode()):
            self._answer(401)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match (self.command, self.path):
            case ("GET", "/status"):
                states, note = self.target.status()
                self._answer(200, {"processes": [_state_as_json(state) for state in states], "note": note})
            case ("PUT", "/processes"):
                asked = json.loads(body)
                self.target.apply([ProcessSpec.of_json(spec) for spec in asked["processes"]], asked["note"])
                self._answer(200)
            case ("POST", "/release"):
                self.target.release()
                self._answer(200)
            case ("POST", "/stop"):
                self.target.stop()
                self._answer(200)
            case _:
                self._answer(404)

    def _answer(self, code: int, content: Mapping[str, Any] | None = None) -> None:
        body = json.dumps(content or {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a request every few hundred milliseconds is not news."""


class ControlClient:
    """Talks to one supervisor.

    Every method raises NotRunningError if it does not answer.
    """

    def __init__(self, address: ControlAddress) -> None:
        """Remember where it listens; nothing is sent yet."""
        self._address = address

    def status(self) -> tuple[list[ProcessState], Note]:
        """Return what is wanted and runs, and the note."""
        answer = self._request("GET", "/status")
        return [_state_of_json(stored) for stored in answer["processes"]], answer["note"]

    def apply(self, specs: Sequence[ProcessSpec], note: Note) -> None:
        """Let exactly `specs` run; returns before they do."""
        self._request("PUT", "/processes", {"processes": [spec.as_json() for spec in specs], "note": note})

    def release(self) -> None:
        """Let the stack outlive the command that started it."""
        self._request("POST", "/release")

    def stop(self) -> None:
        """Stop everything; returns before it has."""
        self._request("POST", "/stop")

    def _request(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, self._address.port, timeout=_TIMEOUT_SECONDS)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {_AUTHORIZATION: f"Bearer {self._address.token}"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            message = f"the supervisor does not answer on port {self._address.port}: {error}"
            raise NotRunningError(message) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            message = f"the supervisor on port {self._address.port} refused {method} {path}: {response.status}"
            raise NotRunningError(message)
        decoded: dict[str, Any] = json.loads(answer)
        return decoded


def _state_as_json(state: ProcessState) -> dict[str, Any]:
    return {**asdict(state), "spec": state.spec.as_json()}


def _state_of_json(stored: Mapping[str, Any]) -> ProcessState:
    identity = stored["identity"]
    return ProcessState(
        spec=ProcessSpec.of_json(stored["spec"]),
        identity=None if identity is None else Identity(**identity),
        restarts=stored["restarts"],
        ready=stored["ready"],
    )
