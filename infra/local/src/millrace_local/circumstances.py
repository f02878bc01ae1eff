"""What a measurement has to say about where it was made."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from millrace_local.pins import KAFKA_VERSION, REGISTRY_VERSION

_PACKAGES: Final = ("bytewax", "confluent-kafka", "deltalake", "pyarrow")


def circumstances() -> dict[str, Any]:
    """Return when and on what this runs: time in UTC, system, cores, versions."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "registry": REGISTRY_VERSION,
        **{package: version(package) for package in _PACKAGES},
    }
