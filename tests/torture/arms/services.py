"""Processes of the services die, stop, and become more and fewer."""

import signal
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from arms.arm import Arm
from bench import TITLES, Bench, TortureError

_SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM)
_SCALED: Final = ("ingest", "enrich", "sessionize")


def kill_services(bench: Bench) -> None:
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


def change_processes(bench: Bench) -> None:
    """Run more and fewer processes of a service while others of its group are killed."""
    for lap in range(bench.form.rounds):
        scale_to(bench, 2)
        bench.pause(2.0)
        _kill_one_of_each(bench, _SIGNALS[lap % 2])
        scale_to(bench, 3)
        bench.pause(2.0)
        if lap:
            _kill_one_of_each(bench, _SIGNALS[1 - lap % 2])
        # From three to one: a third dies, a third is told to go.
        bench.kill([f"{title}-2" for title in _SCALED], signal.SIGKILL)
        scale_to(bench, 1)
        bench.pause(2.0)


def _is_of(name: str, title: str) -> bool:
    return name == title or name.startswith(f"{title}-")


def _kill_one_of_each(bench: Bench, number: signal.Signals) -> None:
    running = [state.spec.name for state in bench.stack.states()]
    victims = [bench.chance.choice([name for name in running if _is_of(name, title)]) for title in _SCALED]
    began = time.monotonic()
    bench.kill(victims, number)
    bench.stack.wait_ready()
    bench.recoveries_seconds.append(time.monotonic() - began)


def scale_to(bench: Bench, processes: int, titles: Collection[str] = _SCALED) -> None:
    """Run so many processes of each of `titles`, and wait until they are ready."""
    stack = bench.stack
    stack.set_services(
        [replace(service, processes=processes) if service.title in titles else service for service in stack.services()]
    )
    stack.wait_ready()
    running = sum(_is_of(state.spec.name, title) for state in stack.states() for title in titles)
    if running != processes * len(titles):
        message = f"{running} processes run, not {processes} of each"
        raise TortureError(message)
    bench.struck[f"{processes} processes of each"] += 1


_SCALE_FIRES: Final = {f"{count} processes of each": 1 for count in (1, 2, 3)} | {
    f"SIGKILL {title}": 2 for title in _SCALED
}
ARMS: Final = (
    Arm(
        "kills",
        "SIGKILL and SIGTERM of every service, alone and in pairs, also before they are ready",
        kill_services,
        fires={f"{number.name} {title}": 1 for number in _SIGNALS for title in TITLES},
    ),
    Arm(
        "scale",
        "ingest, enrich and sessionize 1, 2, 3, 1 processes, by clean stops and by kills",
        change_processes,
        fires=_SCALE_FIRES,
    ),
    Arm(
        "scale-consumer",
        "the same with GROUP_PROTOCOL=consumer",
        change_processes,
        fires=_SCALE_FIRES,
        environment={"GROUP_PROTOCOL": "consumer"},
        forms=frozenset({"long"}),
    ),
)
