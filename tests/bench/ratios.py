"""Medians and spreads over rounds, and ratios inside a round; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from running import Run
from windows import Window


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return the spread of `values`, None if there are none."""
        given = list(values)
        return cls(median(given), min(given), max(given), len(given)) if given else None

    def __str__(self) -> str:
        """Return it as MEDIAN (LEAST-MOST)."""
        return f"{self.median:.3g} ({self.least:.3g}-{self.most:.3g})"


def trusted(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, without any figure of a system whose output was wrong in one of the rounds of that job."""
    wrong = {(run.job, run.system) for run in runs if run.wrong}
    return [replace(run, window=None) if (run.job, run.system) in wrong else run for run in runs]


def figures_of(runs: Sequence[Run], figure: Callable[[Window], float]) -> dict[tuple[str, str], Spread]:
    """Return the spread of `figure` by (job, system); systems without a single one are left out."""
    groups: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run.window is not None:
            groups.setdefault((run.job, run.system), []).append(figure(run.window))
    return {key: spread for key, values in groups.items() if (spread := Spread.of(values)) is not None}


def ratios(runs: Sequence[Run], to: str) -> dict[tuple[str, str], Spread]:
    """Return the spread of each system's records per CPU-second as a multiple of those of `to` in the same round.

    A round in which either has no figure has no ratio.
    """
    rates: Mapping[tuple[str, str, int], float] = {
        (run.job, run.system, run.number): run.window.records_per_cpu_second for run in runs if run.window is not None
    }
    groups: dict[tuple[str, str], list[float]] = {}
    for (job, system, number), rate in rates.items():
        base = rates.get((job, to, number))
        if base is not None:
            groups.setdefault((job, system), []).append(rate / base)
    return {key: spread for key, values in groups.items() if (spread := Spread.of(values)) is not None}
