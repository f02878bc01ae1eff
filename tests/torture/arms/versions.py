"""Two releases at once: services of the previous one beside those of this one, forth and back.

The previous release is another installation, named by its interpreter (`torture.py --arm versions --previous PYTHON`).
Both read what the other has written: snapshots, commit metadata, ledger, positions in tables, records.
"""

import signal
import sys
from dataclasses import replace
from typing import Final

from arms.arm import Arm
from bench import TITLES, Bench, TortureError

_SHARED: Final = ("ingest", "enrich", "sessionize")
_OLD, _NEW = "previous", "this"
# Who runs after each step. Two run side by side in a group, and so take over each other's partitions.
_STEPS: Final[tuple[tuple[str, ...], ...]] = ((_NEW, _OLD), (_OLD,), (_OLD, _NEW), (_NEW,))


def change_releases(bench: Bench) -> None:
    """Go back to the previous release and forth to this one, each time by way of both, and kill some in between."""
    if bench.previous is None:
        message = "nothing was said of a previous release (--previous)"
        raise TortureError(message)
    pythons = {_NEW: sys.executable, _OLD: str(bench.previous)}
    for _ in range(bench.form.rounds):
        for step in _STEPS:
            _run_with(bench, tuple(pythons[release] for release in step))
            bench.struck[" and ".join(f"{release} release" for release in step)] += 1
            bench.pause(2.0)
            victims = [service.process_names()[-1] for service in bench.stack.services()]
            bench.kill(victims, signal.SIGKILL)
            bench.stack.wait_ready()
            bench.pause(2.0)


def _run_with(bench: Bench, pythons: tuple[str, ...]) -> None:
    """Run one process of each service with each of `pythons`; lake, which has a table to itself, with the last one."""
    stack = bench.stack
    stack.set_services(
        [
            replace(service, pythons=pythons, processes=len(pythons))
            if service.title in _SHARED
            else replace(service, pythons=pythons[-1:])
            for service in stack.services()
        ]
    )
    stack.wait_ready()
    running = [state.spec.argv[0] for state in stack.states()]
    for python in pythons:
        if running.count(python) < len(_SHARED):
            message = f"{running.count(python)} processes run with {python}, not one of each service"
            raise TortureError(message)


ARMS: Final = (
    Arm(
        "versions",
        "services of the previous release beside this one's, forth and back, killed in between (the previous one is "
        "an installation of its own, `--previous`)",
        change_releases,
        fires={" and ".join(f"{release} release" for release in step): 1 for step in _STEPS}
        | {f"SIGKILL {title}": len(_STEPS) for title in TITLES},
        needs_previous=True,
        length=2,
    ),
)
