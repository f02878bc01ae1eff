"""Settings of enrich; see .env.reference for all of them, the shared ones included."""

from pathlib import Path

from millrace_common.settings import ServiceSettings


class EnrichSettings(ServiceSettings):
    """What enrich can be told, from environment variables of the same names in upper case."""

    geo_database: Path | None = None
