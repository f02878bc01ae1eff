"""Settings of a stream processor: environment variables only, read once at start, all mistakes named at once."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from millrace_common.errors import SettingsError
from millrace_common.failpoints import Aim
from millrace_schemas import in_lane

Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class ServiceSettings(BaseSettings):
    """What every stream processor can be told; a service adds its own fields in a subclass.

    The environment variable of a field is its name in upper case. Durations are in seconds.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    kafka_bootstrap_servers: str
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: str | None = None
    kafka_ssl_certificate_location: str | None = None
    kafka_ssl_key_location: str | None = None
    kafka_ssl_key_password: SecretStr | None = None

    schema_registry_url: str
    schema_registry_username: str | None = None
    schema_registry_password: SecretStr | None = None
    schema_registry_ca_location: str | None = None

    instance: str = "0"
    lane: str = ""
    state_uri: str
    group_protocol: Literal["classic", "consumer"] = "classic"
    session_timeout_seconds: PositiveSeconds = 10.0
    transaction_timeout_seconds: PositiveSeconds = 30.0

    batch_max_records: int = Field(default=5_000, ge=1, le=1_000_000)
    commit_interval_seconds: PositiveSeconds = 0.1
    commit_max_records: int = Field(default=50_000, ge=1)
    snapshot_interval_seconds: PositiveSeconds = 30.0
    max_value_bytes: int = Field(default=262_144, ge=1_024)
    brake_window_records: int = Field(default=10_000, ge=100)
    brake_limit: float = Field(default=0.5, gt=0, le=1)

    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    stalled_after_seconds: PositiveSeconds = 60.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    failpoint: Annotated[Aim | None, NoDecode] = None

    @field_validator("failpoint", mode="before")
    @classmethod
    def _known_failpoint(cls, given: Any) -> Any:
        return Aim.parse(given) if isinstance(given, str) else given

    def kafka_client(self) -> dict[str, str | int]:
        """Return the librdkafka properties that say where the broker is and how to get in."""
        given: dict[str, str | None] = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": _revealed(self.kafka_sasl_password),
            "ssl.ca.location": self.kafka_ssl_ca_location,
            "ssl.certificate.location": self.kafka_ssl_certificate_location,
            "ssl.key.location": self.kafka_ssl_key_location,
            "ssl.key.password": _revealed(self.kafka_ssl_key_password),
        }
        return {name: value for name, value in given.items() if value is not None}

    def schema_registry_client(self) -> dict[str, str]:
        """Return the settings of a Confluent-compatible registry client."""
        config = {"url": self.schema_registry_url}
        if self.schema_registry_username is not None:
            password = _revealed(self.schema_registry_password) or ""
            config["basic.auth.user.info"] = f"{self.schema_registry_username}:{password}"
        if self.schema_registry_ca_location is not None:
            config["ssl.ca.location"] = self.schema_registry_ca_location
        return config

    def topic(self, name: str) -> str:
        """Return the name of a topic in this process's lane."""
        return in_lane(name, self.lane)

    def group(self, service: str) -> str:
        """Return the consumer group of `service` in this process's lane."""
        return in_lane(f"millrace-{service}", self.lane)

    def transactional_id(self, service: str) -> str:
        """Return the transactional id of this process; it must be unique among running processes."""
        return in_lane(f"{service}-{self.instance}", self.lane)


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read `settings` from the environment.

    Raises:
        SettingsError: something is missing or wrong; the message has a line for each, values left out.
    """
    try:
        return settings()
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc']).upper() or 'SETTINGS'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        message = "these settings are missing or wrong:\n" + "\n".join(lines)
        raise SettingsError(message) from None


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
