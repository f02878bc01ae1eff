"""How long a comparison will take, from what its parts have been seen to take; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from comparing import Form
from jobs import Job
from systems import System
from windows import LEAST_STEPS

# Seen on two cores. Of a run: starting, joining the group, the last sample, stopping, topics made and deleted.
_AROUND_SECONDS: Final = 7.0
_AROUND_JVM_SECONDS: Final = 12.0
# Of an output that is an event: reading it and holding it against the log. Closed sessions and rows are far fewer.
_CHECK_SECONDS: Final = 1.2e-6
# Of an event of the log: drawing, encoding and sending it, and drawing it again for the oracle.
_FILL_SECONDS: Final = 7e-6
_DRAW_SECONDS: Final = 1e-6
_STACK_SECONDS: Final = 20.0
PIPELINE_SECONDS: Final = 480.0
QUICK_PIPELINE_SECONDS: Final = 150.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a bench takes.

    Attributes:
        runs: how many there are.
        run_seconds: of all of them, outputs checked.
        fill_seconds: until the logs are long enough.
        other_seconds: the stack, and what is measured besides.
    """

    runs: int
    run_seconds: float
    fill_seconds: float
    other_seconds: float

    def __str__(self) -> str:
        """Return it in a line."""
        total = self.run_seconds + self.fill_seconds + self.other_seconds
        return (
            f"about {total / 60:.0f} minutes: {self.runs} runs {self.run_seconds / 60:.0f}, "
            f"filling logs {self.fill_seconds / 60:.0f}, everything else {self.other_seconds / 60:.0f}"
        )


def budget(
    form: Form, jobs: Sequence[Job], systems: Sequence[System], filled: Mapping[str, int], *, pipeline: bool
) -> Budget:
    """Return how long a bench takes when the log of each lane in `filled` has so many events already."""
    runs, run_seconds, missing = 0, 0.0, dict[str, int]()
    for job in jobs:
        able = form.able(systems, job)
        planned = [system for system, _ in form.runs(systems, job)]
        runs += len(planned)
        events = form.events(able, job) if able else 0
        run_seconds += sum(_run_seconds(form, system, job) for system in planned) + events * _DRAW_SECONDS
        missing[job.lane] = max(missing.get(job.lane, 0), events - filled.get(job.lane, 0))
    other = _STACK_SECONDS
    if pipeline:
        other += QUICK_PIPELINE_SECONDS if form.quick else PIPELINE_SECONDS
    return Budget(runs, run_seconds, _sum(missing.values()) * _FILL_SECONDS, other)


def _run_seconds(form: Form, system: System, job: Job) -> float:
    asked = form.asked(system, job)
    measured = asked.warm_seconds + max(asked.window_seconds, LEAST_STEPS * system.step_seconds)
    # The warm-up begins with the first record, what must be read before the window may take longer.
    before = max(0.0, asked.first_record / system.fastest[job.name] - asked.warm_seconds)
    outputs = (measured + before) * system.fastest[job.name] if job.outputs_are == "events" and job.output else 0.0
    around = _AROUND_JVM_SECONDS if system.jvm else _AROUND_SECONDS
    return around + before + measured + (outputs * _CHECK_SECONDS if form.checked else 0.0)


def _sum(missing: Iterable[int]) -> int:
    return sum(max(0, count) for count in missing)
