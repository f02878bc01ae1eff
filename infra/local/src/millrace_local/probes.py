"""Asking a process whether it is ready."""

import http.client
import logging
import socket
from typing import Final
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from millrace_local.processes import Probe

_TIMEOUT_SECONDS: Final = 1.0

# librdkafka reports each refused connection; while a broker starts these are no news.
_silent = logging.getLogger(f"{__name__}.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Prober:
    """Runs probes; keeps a connection to each broker between them."""

    def __init__(self) -> None:
        """Begin without connections."""
        self._admins: dict[str, AdminClient] = {}

    def is_ready(self, probe: Probe) -> bool:
        """Return what the probe says; takes a second at most."""
        return self._kafka(probe.target) if probe.kind == "kafka" else http_ok(probe.target)

    def _kafka(self, bootstrap_servers: str) -> bool:
        admin = self._admins.get(bootstrap_servers)
        if admin is None:
            admin = quiet_admin(bootstrap_servers)
            self._admins[bootstrap_servers] = admin
        try:
            # A KRaft broker accepts connections before the controller lets it serve; then it is named. While it is
            # away, another broker may answer, and name it until the controller has noticed.
            found = admin.list_topics(timeout=_TIMEOUT_SECONDS).brokers.values()
        except KafkaException:
            return False
        return any(f"{broker.host}:{broker.port}" == bootstrap_servers for broker in found) and _listens(
            bootstrap_servers
        )


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), _TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def quiet_admin(bootstrap_servers: str) -> AdminClient:
    """Return an admin client that reconnects soon and does not report refused connections."""
    config = {"bootstrap.servers": bootstrap_servers, "reconnect.backoff.max.ms": 250, "log_level": 0}
    return AdminClient(config, logger=_silent)


def http_ok(url: str) -> bool:
    """Return whether `url` answers 200 within a second."""
    return fetch(url) is not None


def metric_samples(probe: Probe) -> dict[str, list[float]]:
    """Return the values of every metric of the service that `probe` asks, by name; empty if it does not answer."""
    page = fetch(probe.target.removesuffix("/readyz") + "/metrics")
    families = text_string_to_metric_families(page or "")
    return {family.name: [sample.value for sample in family.samples] for family in families}


def fetch(url: str) -> str | None:
    """Return what `url` answers with 200 within a second, else None. No proxy is asked: the addresses are local."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
