"""What the services lean on goes away: broker and registry."""

import signal
from typing import Final

from arms.arm import Arm
from bench import Bench
from millrace_local import kafka, registry

_BROKER_KILLS: Final = 3


def kill_broker(bench: Bench) -> None:
    """Kill the broker again and again; in between the registry is away."""
    for count in range(_BROKER_KILLS):
        bench.pause(3.0)
        bench.kill_and_wait([kafka.NAME], signal.SIGKILL)
        if count == 0:
            _take_registry_away(bench)


def _take_registry_away(bench: Bench) -> None:
    control = bench.stack.control
    before = bench.state(registry.NAME).identity
    states, note = control.status()
    control.apply([state.spec for state in states if state.spec.name != registry.NAME], note)
    try:
        bench.until(lambda: before is None or not before.alive, "the registry does not stop")
        bench.struck["registry away"] += 1
        bench.last(bench.form.outage_seconds)
    finally:
        control.apply([state.spec for state in states], note)
    bench.stack.wait_ready()


ARMS: Final = (
    Arm(
        "broker",
        "the broker SIGKILLed three times; the registry away in between",
        kill_broker,
        fires={"SIGKILL kafka": _BROKER_KILLS, "registry away": 1},
    ),
)
