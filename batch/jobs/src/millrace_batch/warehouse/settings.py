"""Where the warehouse is."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace_batch.warehouse.errors import WarehouseError
from millrace_common.settings import load


class WarehouseSettings(BaseSettings):
    """How the warehouse is reached; the password in it is never printed."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    dsn: SecretStr | None = Field(default=None, validation_alias="MILLRACE_WAREHOUSE_DSN")


def given_dsn() -> str | None:
    """Return how the environment says to reach the warehouse; None: it does not say."""
    dsn = load(WarehouseSettings).dsn
    return None if dsn is None else dsn.get_secret_value()


def required_dsn() -> str:
    """Return how the environment says to reach the warehouse.

    Raises:
        WarehouseError: it does not say.
    """
    dsn = given_dsn()
    if dsn is None:
        message = "no warehouse is given: set MILLRACE_WAREHOUSE_DSN, like `host=... user=... password=... dbname=...`"
        raise WarehouseError(message)
    return dsn
