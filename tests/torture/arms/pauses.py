"""Processes are stopped in their tracks, and wake up in a world where others have done their work."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from arms.arm import Arm
from arms.proxy import TIMEOUTS, proxied_stack
from arms.services import scale_to
from bench import TITLES, Bench
from millrace_local.ports import LOOPBACK, free_port
from millrace_local.probes import metric_samples
from millrace_local.processes import Probe

# Past the timeouts of session and transaction.
_PAUSE_SECONDS: Final = 12.0
# So long at least the heir works before the other wakes up.
_AT_WORK_SECONDS: Final = 2.0
# What a process says that finds out: its group gave the partitions to another; its transactional id was taken over or
# its transaction ended by the broker; somebody else moved a position of its table.
_NOTICES: Final = ("partitions were lost", "was fenced", "another writer fills table")


def pause_services(bench: Bench) -> None:
    """Stop a process of every service until others have done its work for a while, and let it go on.

    First the others are its colleagues; then a double with the same transactional id, which an orchestrator starts
    when it takes a process for dead that is not.
    """
    for _ in range(bench.form.rounds):
        scale_to(bench, 2, TITLES)
        _pause(bench, {f"{title}-1": title for title in TITLES})
        scale_to(bench, 1, TITLES)
        _pause(bench, {title: f"{title}-double" for title in TITLES})


def _pause(bench: Bench, heirs: Mapping[str, str]) -> None:
    """Stop the processes that `heirs` names until each one's heir has all of its service's partitions, then wake them.

    An heir that does not run is started meanwhile, as a double.
    """
    victims = {name: bench.identity(name) for name in heirs}
    partitions = {name: _assigned(bench, name) + _assigned(bench, heir) for name, heir in heirs.items()}
    running = {state.spec.name for state in bench.stack.states()}
    doubles = {name: heir for name, heir in heirs.items() if heir not in running}
    began = time.monotonic()
    try:
        for identity in victims.values():
            os.kill(identity.pid, signal.SIGSTOP)
        _start_doubles(bench, doubles)
        for name, heir in heirs.items():
            bench.until(partial(_owns, bench, heir, partitions[name]), f"{heir} did not take over")
        bench.recoveries_seconds.append(time.monotonic() - began)
        bench.last(max(_AT_WORK_SECONDS, _PAUSE_SECONDS - (time.monotonic() - began)))
        for name, identity in victims.items():
            noticed = _notices(bench, name)
            os.kill(identity.pid, signal.SIGCONT)
            bench.until(partial(_has_noticed, bench, name, noticed), f"{name} noticed nothing")
            bench.struck[f"{name.split('-')[0]} woke up beside {'a double' if name in doubles else 'a colleague'}"] += 1
            _stop(bench, doubles.get(name))
    finally:
        for identity in victims.values():
            if identity.alive:
                os.kill(identity.pid, signal.SIGCONT)
    bench.stack.wait_ready()


def _assigned(bench: Bench, name: str) -> int:
    """Return how many partitions a process has; none if it does not run."""
    probe = next((state.spec.probe for state in bench.stack.states() if state.spec.name == name), None)
    return 0 if probe is None else int(sum(metric_samples(probe).get("millrace_assigned_partitions", [])))


def _owns(bench: Bench, name: str, partitions: int) -> bool:
    return _assigned(bench, name) >= partitions


def _notices(bench: Bench, name: str) -> int:
    return sum(bench.said(name, words) for words in _NOTICES)


def _has_noticed(bench: Bench, name: str, before: int) -> bool:
    return _notices(bench, name) > before


def _start_doubles(bench: Bench, doubles: Mapping[str, str]) -> None:
    """Start processes that are told the very same as those which `doubles` names, but for the port of their metrics."""
    states, note = bench.stack.control.status()
    specs = {state.spec.name: state.spec for state in states}
    for name, double in doubles.items():
        port = free_port()
        specs[double] = replace(
            specs[name],
            name=double,
            probe=Probe("http", f"http://{LOOPBACK}:{port}/readyz"),
            environment={**specs[name].environment, "METRICS_PORT": str(port)},
        )
    bench.stack.control.apply(list(specs.values()), note)


def _stop(bench: Bench, name: str | None) -> None:
    states, note = bench.stack.control.status()
    bench.stack.control.apply([state.spec for state in states if state.spec.name != name], note)


ARMS: Final = (
    Arm(
        "pauses",
        "a process of every service stopped past its session and its transaction, then resumed: beside the colleague "
        "that took over, and beside a double with its transactional id",
        pause_services,
        fires={f"{title} woke up beside {heir}": 1 for title in TITLES for heir in ("a colleague", "a double")},
        environment=TIMEOUTS,
        length=2,
        running_stack=proxied_stack,  # nothing is spoilt: so that it can follow others there
    ),
)
