"""The arms of the torture: what is done to a running stack, and what must hold afterwards."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from bench import TITLES, Bench, Form, TortureError, Traffic, running_stack
from millrace_local import kafka, registry
from millrace_local.draining import close_sessions, wait_until_through
from millrace_local.stack import log_file
from verdict import judge
from witness import Witness

WATCHED: Final = ("user-events.enriched", "session-metrics")
SCALED: Final = ("ingest", "enrich", "sessionize")
STATEFUL: Final = ("sessionize", "ingest")
_SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM)
_BROKER_KILLS: Final = 3
# Of user-events, and so of everything after it.
_PARTITIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Result:
    """What one arm did and found.

    Attributes:
        arm: its name.
        form: short or long.
        rate: records a second that were sent.
        records: sent, bad ones and duplicates included.
        events: distinct valid events among them.
        struck: how often each fault was seen to strike.
        lost: rows missing in any table.
        doubled: rows too many in any table.
        worst_recovery_seconds: from a kill until its victims were ready again.
        seconds: the whole arm, start of the stack included.
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


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of trouble.

    Attributes:
        name: for the command line and the page.
        about: a sentence for the page.
        strike: does it, while traffic flows.
        environment: what every service is told.
        forms: in which it exists.
    """

    name: str
    about: str
    strike: Callable[[Bench], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    forms: frozenset[str] = frozenset({"short", "long"})


def run(arm: Arm, form: Form, work_dir: Path, seed: int) -> Result:
    """Run one arm on a stack of its own in `work_dir`."""
    began = time.monotonic()
    with running_stack(work_dir, arm.environment) as stack:
        bench = Bench(stack, Random(seed), form)
        witness = Witness(stack, WATCHED)
        traffic = Traffic(stack, form, seed)
        try:
            bench.until(traffic.begun, "no traffic")
            arm.strike(bench)
            report = traffic.finish()
        finally:
            traffic.close()
        stack.wait_ready()
        wait_until_through(stack, stack.services())
        close_sessions(stack, "sessionize")
        wait_until_through(stack, stack.services())
        seen = witness.finish()
        verdict = judge(stack, traffic.truth, traffic.sent)
    return Result(
        arm=arm.name,
        form=form.name,
        rate=form.rate,
        records=report.records,
        events=verdict.events,
        struck=dict(sorted(bench.struck.items())),
        lost=verdict.lost,
        doubled=verdict.doubled,
        worst_recovery_seconds=round(max(bench.recoveries_seconds, default=0.0), 1),
        seconds=round(time.monotonic() - began, 1),
        problems=[*seen, *verdict.problems],
    )


def strike_services(bench: Bench) -> None:
    """Kill every service with both signals; now and then two at once, or one again before it is ready."""
    for number in _SIGNALS * bench.form.rounds:
        victims = list(TITLES)
        bench.chance.shuffle(victims)
        while victims:
            together = [victims.pop() for _ in range(min(len(victims), bench.chance.choice((1, 2, 2))))]
            bench.pause(1.0)
            if bench.chance.random() < 0.2:
                bench.kill(together, number)
                bench.pause(2.0)
            bench.kill_and_wait(together, number)


def scale(bench: Bench) -> None:
    """Run more and fewer processes of a service while others of its group are killed."""
    for lap in range(bench.form.rounds):
        _scale_to(bench, 2)
        bench.pause(2.0)
        _kill_one_of_each(bench, _SIGNALS[lap % 2])
        _scale_to(bench, 3)
        bench.pause(2.0)
        if lap:
            _kill_one_of_each(bench, _SIGNALS[1 - lap % 2])
        # From three to one: a third dies, a third is told to go.
        bench.kill([f"{title}-2" for title in SCALED], signal.SIGKILL)
        _scale_to(bench, 1)
        bench.pause(2.0)


def strike_broker(bench: Bench) -> None:
    """Kill the broker again and again; in between the registry is away."""
    for count in range(_BROKER_KILLS):
        bench.pause(3.0)
        bench.kill_and_wait([kafka.NAME], signal.SIGKILL)
        if count == 0:
            _take_registry_away(bench)


def spoil_snapshots(bench: Bench) -> None:
    """Kill stateful services and spoil what they left; then let the store be unwritable while they work."""
    store = bench.stack.work_dir / "state"
    for damage, said in (
        (_delete_all, None),
        (_truncate_newest, "snapshot is unreadable"),
        (_corrupt_one, "snapshot is unreadable"),
    ):
        for name in STATEFUL:
            folder = store / name
            bench.until(partial(_has_snapshots, folder), f"{name} wrote no snapshots")
            said_before = _said(bench, name, said)
            began = time.monotonic()
            bench.kill([name], signal.SIGKILL)
            damage(folder)
            bench.stack.wait_ready()
            bench.recoveries_seconds.append(time.monotonic() - began)
            if said is not None and _said(bench, name, said) == said_before:
                message = f"{name} did not notice: {damage.__name__}"
                raise TortureError(message)
            bench.struck[f"{damage.__name__.strip('_').replace('_', ' ')}: {name}"] += 1
    _make_unwritable(bench, store)


ARMS: Final = (
    Arm(
        "kills", "SIGKILL and SIGTERM of every service, alone and in pairs, also before they are ready", strike_services
    ),
    Arm("scale", "ingest, enrich and sessionize 1, 2, 3, 1 processes, by clean stops and by kills", scale),
    Arm(
        "scale-consumer",
        "the same with GROUP_PROTOCOL=consumer",
        scale,
        environment={"GROUP_PROTOCOL": "consumer"},
        forms=frozenset({"long"}),
    ),
    Arm("broker", "the broker SIGKILLed three times; the registry away in between", strike_broker),
    Arm(
        "snapshots",
        "sessionize and ingest killed, their snapshots deleted, truncated, corrupted; the store unwritable",
        spoil_snapshots,
    ),
)


def _is_of(name: str, title: str) -> bool:
    return name == title or name.startswith(f"{title}-")


def _kill_one_of_each(bench: Bench, number: signal.Signals) -> None:
    running = [state.spec.name for state in bench.stack.states()]
    victims = [bench.chance.choice([name for name in running if _is_of(name, title)]) for title in SCALED]
    began = time.monotonic()
    bench.kill(victims, number)
    bench.stack.wait_ready()
    bench.recoveries_seconds.append(time.monotonic() - began)


def _scale_to(bench: Bench, processes: int) -> None:
    stack = bench.stack
    stack.set_services(
        [replace(service, processes=processes) if service.title in SCALED else service for service in stack.services()]
    )
    stack.wait_ready()
    running = sum(_is_of(state.spec.name, title) for state in stack.states() for title in SCALED)
    if running != processes * len(SCALED):
        message = f"{running} processes run, not {processes} of each"
        raise TortureError(message)
    bench.struck[f"{processes} processes of each"] += 1


def _take_registry_away(bench: Bench) -> None:
    control = bench.stack.control
    before = bench.state(registry.NAME).identity
    states, note = control.status()
    control.apply([state.spec for state in states if state.spec.name != registry.NAME], note)
    try:
        bench.until(lambda: before is None or not before.alive, "the registry does not stop")
        bench.struck[f"registry away for {bench.form.outage_seconds:.0f} s"] += 1
        bench.last(bench.form.outage_seconds)
    finally:
        control.apply([state.spec for state in states], note)
    bench.stack.wait_ready()


def _said(bench: Bench, name: str, words: str | None) -> int:
    return 0 if words is None else log_file(bench.stack.work_dir, name).read_text(encoding="utf-8").count(words)


def _newest(folder: Path) -> list[Path]:
    """Return the newest snapshot of every partition of a service."""
    newest: dict[Path, Path] = {}
    for path in sorted(folder.glob("*/*/*.arrow"), key=lambda path: int(path.stem)):
        newest[path.parent] = path
    return list(newest.values())


def _has_snapshots(folder: Path) -> bool:
    return len(_newest(folder)) >= _PARTITIONS


def _delete_all(folder: Path) -> None:
    for path in folder.glob("*/*/*.arrow"):
        path.unlink()


def _truncate_newest(folder: Path) -> None:
    for path in _newest(folder):
        os.truncate(path, path.stat().st_size // 2)


def _corrupt_one(folder: Path) -> None:
    path = max(_newest(folder), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _make_unwritable(bench: Bench, store: Path) -> None:
    """Let a file stand where the store was, kill a service meanwhile, and put the store back; each is one rename."""
    words = "snapshot was not written"
    before = {name: _said(bench, name, words) for name in STATEFUL}
    began = time.monotonic()
    home = store.readlink()
    spare = store.with_name("spare")
    spare.touch()
    spare.replace(store)
    try:
        bench.until(
            lambda: all(_said(bench, name, words) > before[name] for name in STATEFUL), "snapshots are still written"
        )
        bench.kill(["sessionize"], signal.SIGKILL)
        bench.last(bench.form.outage_seconds - (time.monotonic() - began))
    finally:
        spare.symlink_to(home)
        spare.replace(store)
    bench.struck[f"store unwritable for {bench.form.outage_seconds:.0f} s"] += 1
    bench.start_again(["sessionize"])
    bench.stack.wait_ready()
