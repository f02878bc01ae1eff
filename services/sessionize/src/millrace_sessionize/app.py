"""sessionize as a process: settings, real parts, flow."""

import threading

from bytewax.dataflow import Dataflow

from millrace_common.service import Parts, StateSpec, run
from millrace_sessionize.flow import build_flow
from millrace_sessionize.processor import Destination, SessionProcessor
from millrace_sessionize.settings import SessionizeSettings
from millrace_sessionize.snapshot import STATE_VERSION


def build(parts: Parts, settings: SessionizeSettings) -> Dataflow:
    """Return the flow over Kafka.

    Raises:
        StartupError: a topic or subject is missing, or partition counts differ.
    """
    events = settings.topic("user-events.enriched")
    processor = make_processor(parts, settings)
    outputs = [destination.topic for destination in (processor.sessions, processor.updates, processor.late_events)]
    parts.refuse_uneven_topics(events, *outputs)
    source = parts.source([events], state=StateSpec(STATE_VERSION, settings.state_horizon))
    return build_flow(source, parts.sink(source, outputs), parts.decoder("user-events.enriched").decode, processor)


def make_processor(parts: Parts, settings: SessionizeSettings) -> SessionProcessor:
    """Return the stateful step.

    Raises:
        StartupError: a subject is not registered.
    """
    sessions, updates, late_events = (
        Destination(settings.topic(subject), parts.encoder(subject))
        for subject in ("session-metrics", "session-updates", "late-events")
    )
    return SessionProcessor(
        rules=settings.rules,
        sessions=sessions,
        updates=updates,
        late_events=late_events,
        idle_timeout_ms=round(settings.idle_timeout_seconds * 1000),
        update_interval_ms=round(settings.update_interval_seconds * 1000),
    )


def main(stopping: threading.Event) -> int:
    """Run sessionize until `stopping` is set; return its exit code."""
    return run("sessionize", SessionizeSettings, build, stopping)
