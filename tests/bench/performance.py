"""Writing down what was measured: the page, its numbers, its picture, and the short report."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

import performance_page
import performance_picture
import pipeline
from figures import Figure, Section
from millrace_local.pins import KAFKA_VERSION, REGISTRY_VERSION
from running import Run
from systems import System

PARTS: Final[tuple[Callable[[bool, Path], Sequence[Section]], ...]] = (pipeline.measured,)
"""What is measured besides the comparison: each is called with whether it is to be quick, and where to work."""

_PACKAGES: Final = ("bytewax", "confluent-kafka", "deltalake", "fastavro", "pyarrow", "pyruhvro")


@dataclass(frozen=True, slots=True)
class Measured:
    """All there is to write down.

    Attributes:
        circumstances: when and on what.
        runs: of the comparison.
        systems: by name.
        sections: what was measured besides.
    """

    circumstances: Mapping[str, Any]
    runs: Sequence[Run]
    systems: Mapping[str, System]
    sections: Sequence[Section]

    def figures(self) -> list[Figure]:
        """Return every figure."""
        return [*performance_page.figures(self.runs), *(each for section in self.sections for each in section.figures)]


def write(page: Path, report: Path, measured: Measured) -> None:
    """Write the page, its numbers and its picture beside it, and the report, which has the figures alone."""
    figures = measured.figures()
    text = performance_page.render(measured.circumstances, measured.runs, measured.systems, measured.sections)
    numbers = {
        "circumstances": measured.circumstances,
        "figures": [figure.as_json() for figure in figures],
        "missed": performance_page.all_missed(measured.runs, measured.sections),
        "runs": [asdict(run) for run in measured.runs],
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    page.with_name(performance_page.PICTURE).write_text(performance_picture.draw(figures), encoding="utf-8")
    page.with_suffix(".json").write_text(_json(numbers), encoding="utf-8")
    report.write_text(_json([figure.as_json() for figure in figures]), encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def circumstances(*, quick: bool) -> dict[str, Any]:
    """Return when and on what this runs."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "form": "quick" if quick else "full",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "registry": REGISTRY_VERSION,
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
