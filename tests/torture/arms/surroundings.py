"""What the services lean on goes away: broker and registry."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from arms.arm import Arm
from bench import Bench, Form, TortureError
from millrace_common.codec import HEADER_BYTES, Reason, frame
from millrace_generator import Plan
from millrace_generator.traffic import EVENTS, Event, Record, SchemaIds
from millrace_local import kafka, registry, schemas
from millrace_local.lag import Lags
from millrace_local.services import Service
from millrace_schemas import schema_text

_BROKER_KILLS: Final = 3
_WAITING: Final = "waiting for the schema registry"
# With what they know already, these go on; the others are started anew.
_RUNNING: Final = ("ingest", "enrich")
_STARTED: Final = ("sessionize", "lake")
_ADDED: Final = {"name": "addedByTorture", "type": ["null", "string"], "default": None}
_ADDED_NULL: Final = b"\0"


def kill_broker(bench: Bench) -> None:
    """Kill the broker again and again."""
    for _ in range(_BROKER_KILLS):
        bench.pause(3.0)
        bench.kill_and_wait([kafka.NAME], signal.SIGKILL)


def take_registry_away(bench: Bench) -> None:
    """Start services without a registry, and let producers use a schema that the others have not seen."""
    latest = json.loads(schema_text(EVENTS))
    newer = json.dumps({**latest, "fields": [*latest["fields"], _ADDED]})
    registered = schemas.register(schemas.client(bench.stack.registry_url), {EVENTS: newer})[0]
    waited = {name: bench.said(name, _WAITING) for name in (*_RUNNING, *_STARTED)}
    with _without_registry(bench):
        bench.start_again(_STARTED)
        _see_waiting(bench, _STARTED, waited)
        bench.struck["services started without a registry"] += len(_STARTED)
        _see_going_on(bench)
        bench.last(bench.form.outage_seconds / 2)
        _see_going_on(bench)
        bench.struck["known schemas went on"] += 1
        bench.traffic.change_record = lambda record: _written_with(registered.schema_id, record)
        _see_waiting(bench, ["ingest"], waited)
        bench.struck["unknown schema id waited"] += 1
        bench.last(bench.form.outage_seconds / 2)
    bench.until(lambda: bench.said("ingest", f"schema id {registered.schema_id}:") > 0, "ingest waited for another id")
    bench.stack.wait_ready()
    bench.traffic.change_record = lambda record: record


@contextmanager
def _without_registry(bench: Bench) -> Iterator[None]:
    """Stop the registry while the block runs; no service may die of that."""
    control = bench.stack.control
    before = bench.identity(registry.NAME)
    deaths = {state.spec.name: state.restarts for state in bench.stack.states()}
    registry_spec = bench.state(registry.NAME).spec
    states, note = control.status()
    control.apply([state.spec for state in states if state.spec.name != registry.NAME], note)
    try:
        bench.until(lambda: not before.alive, "the registry does not stop")
        bench.struck["registry away"] += 1
        yield
        died = [state.spec.name for state in bench.stack.states() if state.restarts > deaths[state.spec.name]]
        if died:
            message = f"without a registry {', '.join(died)} died"
            raise TortureError(message)
    finally:
        states, note = control.status()
        control.apply([registry_spec, *(state.spec for state in states)], note)


def without_unknown_schemas(plan: Plan, form: Form) -> Plan:
    """Leave out broken records with a schema id that nobody knows: for them alone ingest would have to wait."""

    def known(schema_ids: SchemaIds) -> Iterator[Record]:
        for record in plan.records(schema_ids):
            if record.fault is None or record.fault.reason != Reason.UNKNOWN_SCHEMA:
                yield record

    return replace(plan, records=known)


def _see_waiting(bench: Bench, names: Sequence[str], before: dict[str, int]) -> None:
    for name in names:
        bench.until(partial(_waits, bench, name, before[name]), f"{name} does not wait for the registry")


def _waits(bench: Bench, name: str, said_before: int) -> bool:
    return bench.said(name, _WAITING) > said_before


def _see_going_on(bench: Bench) -> None:
    """See that services without an unknown schema keep up with the traffic."""
    services = [service for service in bench.stack.services() if service.title in _RUNNING]
    with Lags(bench.stack.bootstrap_servers) as lags:
        bench.until(lambda: _keep_up(lags, services, bench.form.rate), "without a registry, known schemas do not go on")


def _keep_up(lags: Lags, services: Sequence[Service], rate: float) -> bool:
    return all(behind is not None and behind < rate for behind in lags.of(services).values())


def _written_with(schema_id: int, record: Record) -> Record:
    """Return an event as a producer with the added field writes it; what it says is the same."""
    if not isinstance(record.about, Event):
        return record
    return record._replace(value=frame(schema_id, record.value[HEADER_BYTES:] + _ADDED_NULL))


ARMS: Final = (
    Arm("broker", "the broker SIGKILLed three times", kill_broker, fires={"SIGKILL kafka": _BROKER_KILLS}),
    Arm(
        "registry",
        "the registry away: services are started meanwhile and wait, known schemas go on, and events of a schema that "
        "nobody has looked up yet wait and are not refused",
        take_registry_away,
        fires={
            "registry away": 1,
            "services started without a registry": len(_STARTED),
            "known schemas went on": 1,
            "unknown schema id waited": 1,
        },
        traffic=without_unknown_schemas,
    ),
)
