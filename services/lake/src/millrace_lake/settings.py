"""Settings of lake; see .env.reference for all of them, the shared ones included."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from millrace_common.settings import PositiveSeconds, ServiceSettings
from millrace_lake.tables import NAMES


class LakeSettings(ServiceSettings):
    """What lake can be told, from environment variables of the same names in upper case."""

    lake_uri: str
    lake_storage_options: SecretStr = SecretStr("{}")
    lake_retry_seconds: PositiveSeconds = 60.0
    tables: Annotated[tuple[str, ...], NoDecode] = NAMES

    # The state is the table: there are no snapshots.
    state_uri: str = ""
    # An internal topic's record may wrap a record of the broker's largest size.
    max_value_bytes: int = Field(default=8_388_608, ge=1_024)
    # Columns cost by the run as well as by the row, and commits are so far apart that a longer run delays none.
    batch_max_records: int = Field(default=20_000, ge=1, le=1_000_000)
    commit_interval_seconds: PositiveSeconds = 2.0
    commit_max_records: int = Field(default=100_000, ge=1)
    commit_max_bytes: int = Field(default=33_554_432, ge=1_048_576)
    merge_small_files: int = Field(default=32, ge=0)

    @field_validator("tables", mode="before")
    @classmethod
    def _known_tables(cls, given: Any) -> tuple[str, ...]:
        names = tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)
        unknown = sorted(set(names) - set(NAMES))
        if unknown or not names:
            message = f"no such table: {', '.join(unknown) or '(none given)'}; there are {', '.join(NAMES)}"
            raise ValueError(message)
        return names

    @field_validator("lake_storage_options")
    @classmethod
    def _options_are_texts(cls, given: SecretStr) -> SecretStr:
        try:
            options = json.loads(given.get_secret_value())
        except ValueError:
            options = None
        if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
            message = 'must be a JSON object of strings, like {"AWS_REGION": "eu-central-1"}'
            raise ValueError(message)
        return given

    @property
    def storage_options(self) -> Mapping[str, str]:
        """What delta-rs is told about the object store; never printed."""
        options: dict[str, str] = json.loads(self.lake_storage_options.get_secret_value())
        return options
