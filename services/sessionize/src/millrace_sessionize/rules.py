"""What makes a session: the numbers of design section 7."""

from dataclasses import dataclass
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class SessionRules:
    """When sessions end. All durations are event time.

    Attributes:
        gap_ms: a session is over when nothing comes for longer than this.
        allowed_lateness_ms: the watermark stays this far behind the largest event time of the partition.
        max_duration_ms: a session that would last longer is cut.
        max_events: a session that would have more events is cut.
    """

    gap_ms: int = 30 * MINUTE_MS
    allowed_lateness_ms: int = 5 * MINUTE_MS
    max_duration_ms: int = 12 * HOUR_MS
    max_events: int = 10_000
