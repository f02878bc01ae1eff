"""What a part of the bench contributes to the report: figures, and a section of the page. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the report, of one or more runs; units are in the metric's name.

    Attributes:
        job: what was done.
        system: who did it.
        metric: what was measured.
        median, min, max: over the runs.
    """

    job: str
    system: str
    metric: str
    median: float
    min: float
    max: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        lines: Markdown.
        figures: the same, to compute with.
        missed: a sentence for each goal that was missed.
    """

    title: str
    lines: Sequence[str]
    figures: Sequence[Figure]
    missed: Sequence[str] = ()


def figure(job: str, system: str, metric: str, *values: float) -> Figure:
    """Return the figure of one or more runs."""
    return Figure(job, system, metric, median(values), min(values), max(values))
