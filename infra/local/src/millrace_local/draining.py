"""The end of a history: waiting until every record is through, then closing the sessions that are still open.

The event times of history are not the wall clock's, so an idle partition must not move the watermark to the clock while
traffic flows: a stall of a few seconds would cut every session. Once everything is through, it may (docs/adr/0010).
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from confluent_kafka import IsolationLevel, KafkaException

from millrace_local.errors import LocalStackError
from millrace_local.lag import Lags
from millrace_local.probes import metric_samples
from millrace_local.services import Service
from millrace_local.stack import Stack

_IDLE_TIMEOUT: Final = "IDLE_TIMEOUT_SECONDS"
_POLL_SECONDS: Final = 0.25
# Without any progress for so long, something is broken and the wait would never end.
_STUCK_SECONDS: Final = 120.0


def without_idle_advance(services: Iterable[Service]) -> tuple[Service, ...]:
    """Return `services` so that an idle partition of sessionize keeps its watermark."""
    return tuple(
        replace(service, environment={**service.environment, _IDLE_TIMEOUT: "0"})
        if service.name == "sessionize"
        else service
        for service in services
    )


def wait_until_through(stack: Stack, services: Sequence[Service]) -> None:
    """Return when each of `services` has committed everything it could read.

    They come in the order of the pipeline: once a service has caught up for good, what the next one reads is final.

    Raises:
        LocalStackError: a service makes no progress.
    """
    # Behind the open transaction of a process that was killed, committed records wait for the broker to abort it.
    with Lags(stack.bootstrap_servers, IsolationLevel.READ_UNCOMMITTED) as lags:
        for service in services:
            progress = _Progress()
            while (behind := _behind(lags, service)) != 0:
                if progress.stuck(behind):
                    message = f"{service.title} makes no progress:\n{stack.log_tail(service.title)}"
                    raise LocalStackError(message)
                time.sleep(_POLL_SECONDS)


def _behind(lags: Lags, service: Service) -> int | None:
    """Return the lag of `service`; None while it is not known: a broker may be starting again."""
    try:
        return lags.of([service])[service.title]
    except KafkaException:
        return None


def close_sessions(stack: Stack, title: str) -> None:
    """Let idle partitions of the sessionize service `title` follow the clock, and wait until no session is open.

    Sessions that ended within the gap and the allowed lateness before now stay open; this is for older traffic.

    Raises:
        LocalStackError: sessions stay open.
    """
    stack.change_service(title, {_IDLE_TIMEOUT: "1"})
    stack.wait_ready()
    progress = _Progress()
    while (still_open := _open_sessions(stack, title)) != 0:
        if progress.stuck(still_open):
            message = f"{still_open} sessions do not close:\n{stack.log_tail(title)}"
            raise LocalStackError(message)
        time.sleep(_POLL_SECONDS)


class _Progress:
    """Whether a number still falls."""

    def __init__(self) -> None:
        self._lowest: int | None = None
        self._changed_at = time.monotonic()

    def stuck(self, number: int | None) -> bool:
        """Take the number as it is now (None: not known) and return whether it has not fallen for too long."""
        if number is not None and (self._lowest is None or number < self._lowest):
            self._lowest, self._changed_at = number, time.monotonic()
        return time.monotonic() - self._changed_at > _STUCK_SECONDS


def _open_sessions(stack: Stack, title: str) -> int | None:
    """Return how many sessions the first process of `title` holds open; None while it does not know them all yet."""
    values = metric_samples(next(state.spec.probe for state in stack.states() if state.spec.name == title))
    found = values.get("millrace_sessionize_open_sessions", [])
    assigned = values.get("millrace_assigned_partitions", [])
    return int(sum(found)) if found and assigned == [len(found)] else None
