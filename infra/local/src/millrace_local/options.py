"""The command-line options that several commands share; each has an environment variable of the same meaning."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace_local.ports import ANY, Ports

if TYPE_CHECKING:
    from millrace_local.settings import StackSettings


class PortChoice(StrEnum):
    """Where ports come from."""

    FIXED = "fixed"
    AUTO = "auto"


def _port(name: str, whose: str) -> Any:
    variable = f"MILLRACE_{name.upper()}_PORT"
    return typer.Option(f"--{name}-port", envvar=variable, min=0, max=65_000, help=f"{whose}; 0: any free port.")


WorkDir = Annotated[
    Path, typer.Option("--work-dir", envvar="MILLRACE_WORK_DIR", help="Everything the stack writes goes here.")
]
PortsFrom = Annotated[
    PortChoice,
    typer.Option("--ports", envvar="MILLRACE_PORTS", help="auto: any free ports, for stacks side by side."),
]
KafkaPort = Annotated[int, _port("kafka", "Broker")]
ControllerPort = Annotated[int, _port("controller", "The broker's controller")]
RegistryPort = Annotated[int, _port("registry", "Schema registry")]
MetricsPort = Annotated[int, _port("metrics", "Metrics of the first service, the others follow")]
Brokers = Annotated[
    int,
    typer.Option("--brokers", envvar="MILLRACE_BROKERS", min=1, max=5, help="Three keep going when one dies."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

WORK_DIR = Path(".millrace")
PORTS = Ports()


def stack_settings(work_dir: Path, choice: PortChoice, ports: Ports, brokers: int = 1) -> "StackSettings":
    """Put the options of a command that starts a stack, and the environment, together.

    Raises:
        SettingsError: an environment variable is wrong.
    """
    # Imported here: most commands start nothing, and reading settings takes longer to import than all they do.
    from millrace_local.settings import StackSettings  # noqa: PLC0415

    return StackSettings(work_dir, ANY if choice is PortChoice.AUTO else ports, brokers=brokers)
