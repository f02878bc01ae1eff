"""Writing down what was measured: the page, its numbers, its picture, and the short report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import performance_page
import performance_picture
import pipeline
from figures import Figure, Section
from running import Run
from systems import System

Part = Callable[[bool, Path], Sequence[Section]]
PARTS: Final[tuple[Part, ...]] = (pipeline.measured,)
"""What is measured besides the comparison: each is called with whether it is to be quick, and where to work."""


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
        "runs": [asdict(replace(run, output=Path(run.output).name)) for run in measured.runs],
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    page.with_name(performance_page.PICTURE).write_text(performance_picture.draw(figures), encoding="utf-8")
    page.with_suffix(".json").write_text(_json(numbers), encoding="utf-8")
    report.write_text(_json([figure.as_json() for figure in figures]), encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
