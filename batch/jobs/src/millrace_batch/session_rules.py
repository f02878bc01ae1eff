"""What makes a session, as the stream has it (docs/architecture/sessions.md); a test holds the two equal."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionRules:
    """When sessions end. All durations are event time, in milliseconds.

    Attributes:
        gap_ms: a session is over when nothing comes for longer than this.
        allowed_lateness_ms: the stream's watermark stays this far behind the largest event time of a partition.
        max_duration_ms: a session that would last longer is cut.
        max_events: a session that would have more events is cut.
    """

    gap_ms: int = 30 * 60_000
    allowed_lateness_ms: int = 5 * 60_000
    max_duration_ms: int = 12 * 60 * 60_000
    max_events: int = 10_000
