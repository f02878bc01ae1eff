"""Requests and answers between the services and the broker are delayed, lost, cut off, repeated, and come too late."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError

from arms.arm import Arm
from bench import SHORT, Bench, TortureError, running_stack
from millrace_local.ports import LOOPBACK, SideDoor, free_port
from millrace_local.stack import Stack
from proxy import Api, Fault, Proxy, Rule, running_proxy

# The least that a broker allows for a session; a transaction has to outlive it.
TIMEOUTS: Final = {"SESSION_TIMEOUT_SECONDS": "6", "TRANSACTION_TIMEOUT_SECONDS": "8"}

_TRANSACTIONAL: Final = ("ingest-0", "enrich-0", "sessionize-0")
_LAKE: Final = "lake-0"
# Requests of a transaction in their order, and those that take over from a producer whose outcome is unknown.
_CALLS: Final = (Api.ADD_PARTITIONS_TO_TXN, Api.PRODUCE, Api.ADD_OFFSETS_TO_TXN, Api.TXN_OFFSET_COMMIT, Api.END_TXN)
_TAKE_OVER: Final = (Api.INIT_PRODUCER_ID, Api.OFFSET_FETCH)
_OF_LAKE: Final = (Api.FETCH, Api.OFFSET_COMMIT, Api.OFFSET_FETCH)
# A delay is shorter or longer than a service waits for a transaction call.
_FAULTS: Final = (
    (Fault.LOSE_ANSWER, 0.0),
    (Fault.DELAY_ANSWER, 7.0),
    (Fault.CUT_ANSWER, 0.0),
    (Fault.LOSE_REQUEST, 0.0),
    (Fault.DUPLICATE, 0.0),
    (Fault.CUT_REQUEST, 0.0),
    (Fault.DELAY_ANSWER, 2.0),
)
# What tells a producer that it has been replaced.
_REFUSALS: Final = frozenset({KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})


@dataclass(frozen=True, slots=True)
class _Blow:
    """A fault for one kind of request."""

    api: Api
    fault: Fault
    seconds: float

    def rules(self, client: str) -> tuple[Rule, ...]:
        """Return what makes it strike `client`: a request of a take-over is only sent when an outcome is unknown."""
        causes = client != _LAKE and self.api in _TAKE_OVER
        cause = (Rule(client, Api.END_TXN, Fault.LOSE_ANSWER),) if causes else ()
        return (*cause, Rule(client, self.api, self.fault, seconds=self.seconds))


_MORE_IN_SHORT: Final = (
    _Blow(Api.PRODUCE, Fault.CUT_ANSWER, 0.0),
    _Blow(Api.TXN_OFFSET_COMMIT, Fault.DUPLICATE, 0.0),
)


@dataclass(frozen=True, slots=True)
class ProxiedStack(Stack):
    """A stack whose services reach the broker through `proxy` only."""

    proxy: Proxy


@contextmanager
def proxied_stack(work_dir: Path, environment: Mapping[str, str]) -> Iterator[Stack]:
    """Run a whole stack with a proxy before the broker's side door; the harness itself goes past it."""
    port = free_port()
    door = SideDoor(port, free_port(frozenset({port})))
    told = {**environment, "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{door.advertised_port}"}
    with running_proxy(door) as proxy, running_stack(work_dir, told, side_door=door) as stack:
        yield ProxiedStack(**{field.name: getattr(stack, field.name) for field in fields(Stack)}, proxy=proxy)


def spoil_requests(bench: Bench) -> None:
    """Let every kind of fault strike requests of every service, of all services at once."""
    blows = _blows((*_CALLS, *_TAKE_OVER), bench, _MORE_IN_SHORT)
    blows_to_lake = _blows(_OF_LAKE, bench)
    while blows or blows_to_lake:
        struck = {client: blows.pop() for client in _TRANSACTIONAL if blows}
        if blows_to_lake:
            struck[_LAKE] = blows_to_lake.pop()
        _strike(bench, struck)


def hold_commits_back(bench: Bench) -> None:
    """Hold an EndTxn of each service back until it is given up, and let it go during the next transaction."""
    for _ in range(bench.form.rounds):
        proxy = _proxy(bench)
        rules = [Rule(client, Api.END_TXN, Fault.HOLD, until=Api.PRODUCE) for client in _TRANSACTIONAL]
        proxy.arm(*rules)
        for rule in rules:
            bench.until(partial(bool, rule.late_errors), f"nobody answered the late EndTxn of {rule.client}")
            error = rule.late_errors[0]
            outcome = "refused" if error in _REFUSALS else "carried out" if error == 0 else KafkaError(error).name()
            bench.struck[f"late END_TXN {outcome}"] += 1
        _await_commits(bench, _TRANSACTIONAL)


def _blows(apis: Sequence[Api], bench: Bench, more_in_short: Sequence[_Blow] = ()) -> list[_Blow]:
    """Return every fault for each of `apis`, in any order; in the short form the lost answers, and `more_in_short`."""
    faults = _FAULTS[:1] if bench.form == SHORT else _FAULTS
    blows = [_Blow(api, fault, seconds) for api in apis for fault, seconds in faults]
    if bench.form == SHORT:
        blows += more_in_short
    bench.chance.shuffle(blows)
    return blows


def _strike(bench: Bench, struck: Mapping[str, _Blow]) -> None:
    """Strike each client that `struck` names at once, and wait until all have committed after it."""
    rules = [rule for client, blow in struck.items() for rule in blow.rules(client)]
    began = time.monotonic()
    _proxy(bench).arm(*rules)
    if _LAKE in struck and struck[_LAKE].api is Api.OFFSET_FETCH:  # it only asks when it begins
        bench.start_again(["lake"])
    for rule in rules:
        bench.until(partial(_has_fired, rule), f"no {rule} for {rule.client}")
        bench.struck[f"{'lake ' if rule.client == _LAKE else ''}{rule}"] += 1
    _await_commits(bench, struck)
    for client in struck:
        times = [began, *(when for when in _proxy(bench).commits[client] if when > began)]
        bench.recoveries_seconds.append(max(after - before for before, after in pairwise(times)))


def _has_fired(rule: Rule) -> bool:
    return rule.fired > 0


def _await_commits(bench: Bench, clients: Iterable[str]) -> None:
    """Wait until each of `clients` has committed something begun from now on: its second commit is."""
    commits = _proxy(bench).commits
    before = {client: len(commits[client]) for client in clients}
    for client, count in before.items():
        bench.until(partial(_has_grown, commits[client], count + 2), f"{client} does not go on")


def _has_grown(commits: Sequence[float], count: int) -> bool:
    return len(commits) >= count


def _proxy(bench: Bench) -> Proxy:
    if not isinstance(bench.stack, ProxiedStack):
        message = "the services do not go through a proxy"
        raise TortureError(message)
    return bench.stack.proxy


ARMS: Final = (
    Arm(
        "proxy",
        "a proxy between services and broker delays, loses, cuts off and repeats: requests of a transaction, of a "
        "take-over and of lake's reading, and their answers",
        spoil_requests,
        fires={f"{Rule('', api, Fault.LOSE_ANSWER)}": 1 for api in (*_CALLS, *_TAKE_OVER)}
        | {f"lake {Rule('', api, Fault.LOSE_ANSWER)}": 1 for api in _OF_LAKE},
        environment=TIMEOUTS,
        running_stack=proxied_stack,
        length=2,
    ),
    Arm(
        "late-commit",
        "an EndTxn of every service comes so late that it was given up, during the next transaction",
        hold_commits_back,
        fires={"late END_TXN refused": len(_TRANSACTIONAL)},
        environment=TIMEOUTS,
        running_stack=proxied_stack,
    ),
)
