"""Settings of enrich; see .env.reference for all of them, the shared ones included."""

from pathlib import Path

from pydantic import Field

from millrace_common.settings import ServiceSettings


class EnrichSettings(ServiceSettings):
    """What enrich can be told, from environment variables of the same names in upper case."""

    geo_database: Path | None = None
    # about a millisecond of a run's CPU time does not depend on its length: the most of all services
    batch_max_records: int = Field(default=10_000, ge=1, le=1_000_000)
