"""Settings of sessionize; see .env.reference for all of them, the shared ones included."""

from datetime import timedelta

from pydantic import Field

from millrace_common.settings import PositiveSeconds, Seconds, ServiceSettings
from millrace_sessionize.rules import SessionRules


class SessionizeSettings(ServiceSettings):
    """What sessionize can be told, from environment variables of the same names in upper case."""

    session_gap_seconds: PositiveSeconds = 1_800.0
    allowed_lateness_seconds: Seconds = 300.0
    max_session_duration_seconds: PositiveSeconds = 43_200.0
    max_session_events: int = Field(default=10_000, ge=1)
    # an enriched event is larger than the raw one it was made from; the topic's max.message.bytes
    max_value_bytes: int = Field(default=4_194_304, ge=1_024)
    # a poll brings runs of a few partitions, and half of what a run of 1,250 costs does not depend on its length;
    # 20,000 would be 5 % faster and take 30 MiB more
    batch_max_records: int = Field(default=10_000, ge=1, le=1_000_000)
    idle_timeout_seconds: Seconds = 60.0
    update_interval_seconds: Seconds = 10.0
    state_horizon_seconds: PositiveSeconds | None = None

    @property
    def rules(self) -> SessionRules:
        """What makes a session."""
        return SessionRules(
            gap_ms=round(self.session_gap_seconds * 1000),
            allowed_lateness_ms=round(self.allowed_lateness_seconds * 1000),
            max_duration_ms=round(self.max_session_duration_seconds * 1000),
            max_events=self.max_session_events,
        )

    @property
    def state_horizon(self) -> timedelta | None:
        """How far back state is rebuilt when there is no snapshot; None: from the first record kept, which is exact."""
        return None if self.state_horizon_seconds is None else timedelta(seconds=self.state_horizon_seconds)
