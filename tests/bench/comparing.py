"""Rounds of runs: every system does a job in turn, and what it wrote is held against the log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaException

import filling
import oracle
from checking import check
from filling import Log
from goals import named
from jobs import Job
from millrace_common.errors import MillraceError
from oracle import Drawn
from process_tree import on_core
from running import BROKER_CORE, Place, Run, run
from shop_log import EVENTS_PER_MS, OPEN_SESSIONS
from systems import CLOSING, System
from windows import Asked

WINDOW_SECONDS: Final = 20.0
QUICK_WINDOW_SECONDS: Final = 3.0
ROUNDS: Final = 3
# Beyond warm-up and window: what is done before the first sample and after the last.
_SPARE_SECONDS: Final = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Form:
    """How a comparison is made.

    Attributes:
        rounds: in each of them every system runs once.
        window_seconds: of measuring in a run.
        quick: whether warm-ups are the short ones.
        every_round: whether systems that no goal speaks of run in every round, and not in the first and the last only.
        checked: whether outputs are held against the log.
        most_events: in a log; None: as many as the fastest system may need.
    """

    rounds: int = ROUNDS
    window_seconds: float = WINDOW_SECONDS
    quick: bool = False
    every_round: bool = False
    checked: bool = True
    most_events: int | None = None

    def asked(self, system: System, job: Job, records: int = 0) -> Asked:
        """Return how a run is to be measured."""
        return Asked(
            warm_seconds=system.quick_warm_seconds if self.quick else system.warm_seconds,
            window_seconds=self.window_seconds,
            first_record=_until_sessions_close(system) if job.name == "session" else 0,
            records=records,
        )

    def events(self, systems: Sequence[System], job: Job) -> int:
        """Return how long the log must be for all of `systems`."""
        asked = [self.asked(system, job) for system in systems]
        needed = max(
            int(one.first_record + system.fastest[job.name] * (one.warm_seconds + one.window_seconds + _SPARE_SECONDS))
            for system, one in zip(systems, asked, strict=True)
        )
        return needed if self.most_events is None else min(needed, self.most_events)

    def able(self, systems: Sequence[System], job: Job) -> list[System]:
        """Return those of `systems` that do `job`; the quick form leaves out those that no goal speaks of."""
        everybody = self.every_round or not self.quick
        return [
            system for system in systems if job.name in system.jobs and (everybody or system.name in named(job.name))
        ]

    def runs(self, systems: Sequence[System], job: Job) -> list[tuple[System, int]]:
        """Return who runs in which round, in order."""
        return [
            (system, number)
            for number in range(1, self.rounds + 1)
            for system in self.able(systems, job)
            if self.takes_part(system, job, number)
        ]

    def takes_part(self, system: System, job: Job, number: int) -> bool:
        """Return whether `system` runs in round `number`: not all do, or the bench would take an hour and a half."""
        if self.every_round or number == 1:
            return True
        if system.name not in named(job.name):
            return False
        return not system.jvm or number == self.rounds


def compare(place: Place, job: Job, systems: Sequence[System], form: Form, say: Say) -> list[Run]:
    """Let each of `systems` that can do `job`, in rounds; a run whose output is wrong has no figure."""
    able = form.able(systems, job)
    if not able:
        return []
    log = filling.filled(place.stack, job, form.events(able, job), place.work_dir, say)
    drawn = Drawn(log)
    per_output = 1.0
    if job.outputs_are == "sessions" and any(job.name in system.seen_by_output for system in able):
        per_output = oracle.events_per_session(drawn.all())
    runs = []
    for system, number in form.runs(systems, job):
        try:
            with on_core(BROKER_CORE):
                done = run(place, system, job, form.asked(system, job, log.records), number, per_output)
            if form.checked and done.window is not None:
                done = _judged(place, job, system, done, log, drawn)
        except (KafkaException, MillraceError) as error:  # this run's figure is lost, not everybody's
            done = Run(job.name, system.name, number, None, f"the bench failed: {error}", (), 0, "")
        if done.output and job.name != "lake" and not system.writes_product_schema:
            filling.delete_topics(place.stack, (done.output,))
        say(line(done))
        runs.append(done)
    return runs


def _until_sessions_close(system: System) -> int:
    """Return how many records are read until sessions close as fast as they open.

    The log begins with all that are open by the job's rule. A system that closes later has more of them open.
    """
    return OPEN_SESSIONS + round((system.closing.after_ms - CLOSING.after_ms) * EVENTS_PER_MS)


def _judged(place: Place, job: Job, system: System, done: Run, log: Log, drawn: Drawn) -> Run:
    wanted = drawn.read_until(done.farthest)
    verdict = check(place.stack, job, system, done, log, wanted)
    if verdict.problem and wanted is not drawn.all():  # perhaps it came further than it could be seen to
        verdict = check(place.stack, job, system, done, log, drawn.all())
    return replace(done, window=None, problem=verdict.problem, wrong=True) if verdict.problem else done


def line(done: Run) -> str:
    """Return a run in one line."""
    who = f"{done.job} round {done.number} {done.system}: "
    found = done.window
    if found is None:
        return who + done.problem
    marks = f" [{'; '.join(found.marks)}]" if found.marks else ""
    return (
        f"{who}{found.records_per_cpu_second:,.0f} records a CPU-second ({found.records:,.0f} records, "
        f"{found.cpu_seconds:.1f} CPU-s in {found.seconds:.1f} s, {found.records_per_second:,.0f}/s, broker "
        f"{found.broker_cpu_seconds:.1f} CPU-s, {found.peak_rss_mib:.0f} MiB){marks}"
    )
