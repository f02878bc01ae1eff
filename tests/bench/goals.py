"""What was promised of the comparison, and whether it is kept; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ratios import Spread, ratios
from running import Run
from systems import YARDSTICK

OURS: Final = "millrace"


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that Millrace's median must reach.

    Attributes:
        job: name.
        least: as a multiple of `of`, or records per CPU-second.
        of: a system; empty: no multiple.
    """

    job: str
    least: float
    of: str = YARDSTICK

    @property
    def text(self) -> str:
        """Return it in words."""
        return f"{self.least:g} × {self.of}" if self.of else f"{self.least:,.0f} records a CPU-second"


GOALS: Final = (
    Goal("ingest", 4),
    Goal("enrich", 4),
    Goal("session", 3),
    Goal("lake", 300_000, of=""),
    Goal("enrich", 1, of="kafka-streams"),
    Goal("session", 3, of="flink-sql"),
    Goal("session", 5, of="kafka-streams"),
)


def named(job: str) -> frozenset[str]:
    """Return the systems that the goals of `job` speak of."""
    return frozenset((OURS, *(goal.of for goal in GOALS if goal.job == job)))


def reached(goal: Goal, runs: Sequence[Run]) -> Spread | None:
    """Return what was measured of `goal`; None: it was not."""
    if goal.of:
        return ratios(runs, goal.of).get((goal.job, OURS))
    rates = (
        run.window.records_per_cpu_second for run in runs if run.window and (run.job, run.system) == (goal.job, OURS)
    )
    return Spread.of(rates)


def missed(runs: Sequence[Run]) -> list[str]:
    """Return a sentence for each goal that was measured and not reached."""
    found = [(goal, reached(goal, runs)) for goal in GOALS]
    return [
        f"{goal.job}: {spread.median:,.{0 if not goal.of else 2}f} where the goal is {goal.text}"
        for goal, spread in found
        if spread is not None and spread.median < goal.least
    ]
