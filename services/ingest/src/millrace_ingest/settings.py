"""Settings of ingest; see .env.reference for all of them, the shared ones included."""

from datetime import timedelta

from pydantic import Field

from millrace_common.settings import PositiveSeconds, Seconds, ServiceSettings
from millrace_ingest.checks import Limits


class IngestSettings(ServiceSettings):
    """What ingest can be told, from environment variables of the same names in upper case."""

    max_age_seconds: Seconds = 7 * 24 * 3600.0
    max_ahead_seconds: PositiveSeconds = 300.0
    max_properties: int = Field(default=1_000, ge=1)
    dedup_window_seconds: float = Field(default=3_600.0, ge=0, le=7 * 24 * 3600)

    @property
    def limits(self) -> Limits:
        """What the rules accept."""
        return Limits(
            max_ahead_ms=round(self.max_ahead_seconds * 1000),
            max_age_ms=round(self.max_age_seconds * 1000),
            max_properties=self.max_properties,
        )

    @property
    def dedup_window(self) -> timedelta:
        """How long an id is remembered, in log time.

        It is also the exact replay horizon: without a snapshot, replaying this much of the log before the committed
        offset rebuilds the state completely.
        """
        return timedelta(seconds=self.dedup_window_seconds)
