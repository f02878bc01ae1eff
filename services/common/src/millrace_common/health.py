"""The HTTP side of a service: /metrics, /healthz (progress, not an open port) and /readyz (an assignment)."""

import contextlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from millrace_common import metrics
from millrace_common.errors import StartupError


class HealthServer:
    """Serves the three pages from a daemon thread."""

    def __init__(self, host: str, port: int, *, ready: Callable[[], bool], stalled_after_seconds: float) -> None:
        """Listen on `host`:`port` (0: any free one).

        Raises:
            StartupError: the port is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one of the pages."""
                if self.path == "/metrics":
                    self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
                elif self.path == "/healthz":
                    silent_seconds = time.time() - _last_progress()
                    healthy = silent_seconds < stalled_after_seconds
                    self._answer(200 if healthy else 503, f"last progress {silent_seconds:.1f} s ago\n".encode())
                elif self.path == "/readyz":
                    is_ready = ready()
                    self._answer(200 if is_ready else 503, b"ready\n" if is_ready else b"no assignment yet\n")
                else:
                    self._answer(404, b"there are /metrics, /healthz and /readyz\n")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
                """Say nothing: probes come every few seconds."""

            def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
                # Who asked may have given up: a probe does after a second, and this process may have been paused.
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            message = f"METRICS_PORT {port} on {host} cannot be used: {error.strerror}"
            raise StartupError(message) from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _last_progress() -> float:
    return float(metrics.LAST_PROGRESS_TIMESTAMP_SECONDS._value.get())
