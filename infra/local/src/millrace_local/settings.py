"""What the local stack can be told by environment variables, and by the commands' options."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace_common.settings import ServiceSettings, load
from millrace_local.ports import Ports, SideDoor


class LocalSettings(BaseSettings):
    """Settings that stay the same from command to command, so they are environment variables only."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    java_home: Path | None = Field(default=None, validation_alias="JAVA_HOME")
    given_cache_dir: Path | None = Field(default=None, validation_alias="MILLRACE_CACHE_DIR")
    user_cache_dir: Path | None = Field(default=None, validation_alias="XDG_CACHE_HOME")
    maven_url: str | None = Field(default=None, validation_alias="MILLRACE_MAVEN_URL")

    @property
    def cache_dir(self) -> Path:
        """Where downloads are kept: MILLRACE_CACHE_DIR, or millrace in the user's cache folder."""
        return self.given_cache_dir or (self.user_cache_dir or Path.home() / ".cache") / "millrace"


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How to run a stack.

    Attributes:
        work_dir: everything the stack writes is under it.
        ports: where it listens.
        side_door: where the first broker listens besides; None: nowhere.
        brokers: how many; the topics of three have as many replicas, two of them in sync.
        local: the rest; by default what the environment says.
    """

    work_dir: Path
    ports: Ports = Ports()
    side_door: SideDoor | None = None
    brokers: int = 1
    local: LocalSettings = field(default_factory=lambda: load(LocalSettings))


class ClientSettings(ServiceSettings):
    """How a command reaches a broker and a registry: the same variables as a service's, none of them required."""

    kafka_bootstrap_servers: str = ""
    schema_registry_url: str = ""
    state_uri: str = ""
