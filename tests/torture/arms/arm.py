"""What an arm of the torture is, and how arms are run: on one stack, under one traffic, with one verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from bench import Bench, Form, Traffic, running_stack
from millrace_generator import Plan
from millrace_local.draining import close_sessions, wait_until_through
from millrace_local.stack import Stack
from rebuild import STATEFUL, newest_snapshots, rebuilt_differently
from tables import table_problems
from verdict import judge
from witness import Witness

_WATCHED: Final = ("user-events.enriched", "session-metrics")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one stack and its traffic.

    Attributes:
        arm: the names of the arms that struck it.
        form: short or long.
        rate: records a second that were sent.
        records: sent, bad ones and duplicates included.
        events: distinct valid events among them.
        struck: how often each fault was seen to strike.
        lost: rows missing in any table.
        doubled: rows too many in any table.
        worst_recovery_seconds: from a kill until its victims were ready again.
        seconds: all of it, start of the stack included.
        problems: what did not hold, a sentence each.
    """

    arm: str
    form: str
    rate: float
    records: int
    events: int
    struck: Mapping[str, int]
    lost: int
    doubled: int
    worst_recovery_seconds: float
    seconds: float
    problems: Sequence[str]


def _as_it_is(plan: Plan, form: Form) -> Plan:
    return plan


def _nothing_more(bench: Bench) -> None:
    pass


def _nothing() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of trouble.

    Attributes:
        name: for the command line and the page.
        about: a sentence for the page.
        strike: does it, while traffic flows.
        fires: what must be seen to strike at least, and how often.
        environment: what every service is told.
        running_stack: runs the stack that is struck.
        traffic: makes the plan another one; the truth follows.
        end: does what comes when the traffic is over.
        lacks: says why this machine cannot do it; None: it can.
        forms: in which it exists.
        snapshots_stay: it takes no snapshots away.
        length: for how many times the least length traffic is planned; an arm that needs it longer says so.
        needs_previous: it runs only beside an installation of the previous release.
    """

    name: str
    about: str
    strike: Callable[[Bench], None]
    fires: Mapping[str, int]
    environment: Mapping[str, str] = field(default_factory=dict)
    running_stack: Callable[[Path, Mapping[str, str]], AbstractContextManager[Stack]] = running_stack
    traffic: Callable[[Plan, Form], Plan] = _as_it_is
    end: Callable[[Bench], None] = _nothing_more
    lacks: Callable[[], str | None] = _nothing
    forms: frozenset[str] = frozenset({"short", "long"})
    snapshots_stay: bool = True
    length: int = 1
    needs_previous: bool = False

    def can_follow(self, other: "Arm") -> bool:
        """Return whether both can strike the same stack."""
        return (self.environment, self.running_stack, self.traffic) == (
            other.environment,
            other.running_stack,
            other.traffic,
        )


def run(arms: Sequence[Arm], form: Form, work_dir: Path, seed: int, previous: Path | None = None) -> Result:
    """Let `arms` strike, one after another, a stack of their own in `work_dir`, and judge what became of the records.

    Raises:
        ValueError: they cannot share a stack.
        TortureError: a fault could not be put to work.
    """
    first = arms[0]
    if not all(arm.can_follow(first) for arm in arms):
        message = f"{', '.join(arm.name for arm in arms)} cannot share a stack"
        raise ValueError(message)
    began = time.monotonic()
    with first.running_stack(work_dir, first.environment) as stack:
        witness = Witness(stack, _WATCHED, snapshots_stay=all(arm.snapshots_stay for arm in arms))
        traffic = Traffic(stack, form, seed, length=sum(arm.length for arm in arms), change=first.traffic)
        bench = Bench(stack, traffic, Random(seed), form, previous)
        try:
            bench.until(traffic.begun, "no traffic")
            for arm in arms:
                arm.strike(bench)
            _wait_for_snapshots(bench)
            report = traffic.finish()
            for arm in arms:
                arm.end(bench)
        finally:
            traffic.close()
        stack.wait_ready()
        wait_until_through(stack, stack.services())
        rebuilt = rebuilt_differently(stack)
        close_sessions(stack, "sessionize")
        wait_until_through(stack, stack.services())
        seen = witness.finish(bench.moved)
        in_logs = table_problems(stack.lake)
        verdict = judge(stack, traffic.truth, traffic.sent, bench.dead_besides, bench.given_up)
    fires = {fault: times for arm in arms for fault, times in arm.fires.items()}
    quiet = [
        f"{fault} struck {bench.struck[fault]} times, not {times}"
        for fault, times in fires.items()
        if bench.struck[fault] < times
    ]
    return Result(
        arm=" + ".join(arm.name for arm in arms),
        form=form.name,
        rate=form.rate,
        records=report.records,
        events=verdict.events,
        struck=dict(sorted(bench.struck.items())),
        lost=verdict.lost,
        doubled=verdict.doubled,
        worst_recovery_seconds=round(max(bench.recoveries_seconds, default=0.0), 1),
        seconds=round(time.monotonic() - began, 1),
        problems=[*quiet, *seen, *rebuilt, *verdict.problems, *in_logs],
    )


def _wait_for_snapshots(bench: Bench) -> None:
    """Let the traffic flow until every service with state has written it down after the last fault."""
    state = bench.stack.work_dir / "state"
    before = newest_snapshots(state)

    def written() -> bool:
        newer = [place for place, offset in newest_snapshots(state).items() if offset > before.get(place, -1)]
        return all(any(place.startswith(f"{name}/") for place in newer) for name in STATEFUL)

    bench.until(written, "the services write no snapshots after the faults")
