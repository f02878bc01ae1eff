"""What a measurement has to say about where it was made."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from millrace_local.pins import KAFKA_VERSION, REGISTRY_VERSION

_PACKAGES: Final = ("bytewax", "confluent-kafka", "deltalake", "fastavro", "pyarrow", "pyruhvro")


def circumstances() -> dict[str, Any]:
    """Return when and on what this runs: time in UTC, machine, versions."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "registry": REGISTRY_VERSION,
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
