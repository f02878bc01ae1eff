"""The lake gets a second writer, runs out of room, loses a table, and loses what it has not read yet."""

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from confluent_kafka import TopicPartition

from arms.arm import Arm
from bench import Bench, TortureError
from millrace_common.groups import committed_offsets, onlooker
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_lake import history
from millrace_lake.ledger import app_id
from millrace_local import topics
from millrace_local.probes import quiet_admin
from millrace_local.reading import Library, decoded
from millrace_local.services import SERVICES, Service
from millrace_schemas import topics as declared_topics
from repairs import refusals, repair

_LAKE: Final = next(service for service in SERVICES if service.name == "lake")
_STRANGER: Final = "stranger"
_FENCED: Final = "another writer fills table"
_FULL: Final = "No space left on device"
_GAVE_UP: Final = "cannot be written to"
_ROOMY: Final = "2g"
_PAGE_BYTES: Final = 4_096
# Shorter than the time without room, so that a process gives up and its successor finds the disk full as well.
_RETRY_SECONDS: Final = "4"
_PARTITIONS: Final = 4
_ORDERS: Final = "transactions.valid"
_DROPPED: Final = (("events", "user-events.enriched"), ("transactions", _ORDERS), ("sessions", "session-metrics"))
_CALL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Unread:
    """An order that lake has not read yet, by its offset and by what makes its row."""

    offset: int
    row: tuple[str, str]


TakeAway = Callable[[Bench, Mapping[Partition, Sequence[Unread]]], Counter[Any]]
"""Takes records away from the broker, and returns the rows that will be missing."""


def start_second_lake(bench: Bench) -> None:
    """Start a lake with another group on the same tables, again and again; one of the two has to go each time."""
    stranger = Service(
        _STRANGER,
        "stranger",
        _LAKE.inputs,
        environment={"INSTANCE": _STRANGER, "PYTHONPATH": str(Path(__file__).parents[1]), **_environment(bench)},
    )
    for _ in range(bench.form.rounds):
        before = _fenced(bench)
        bench.stack.add_services([stranger])
        try:
            bench.until(lambda: _fenced(bench) > before, "two lakes fill the same tables")  # noqa: B023
            bench.pause(2.0)
        finally:
            bench.stack.stop_services({_STRANGER})
        bench.struck["one of two lakes refused"] += _fenced(bench) - before
        began = time.monotonic()
        bench.start_again(["lake"])
        bench.stack.wait_ready()
        bench.recoveries_seconds.append(time.monotonic() - began)


def _environment(bench: Bench) -> Mapping[str, str]:
    return next(service.environment for service in bench.stack.services() if service.name == "lake")


def _fenced(bench: Bench) -> int:
    """Return how many processes have stopped because of another writer, by what they said last."""
    lines = [line for name in ("lake", _STRANGER) for line in bench.log(name).splitlines()]
    return sum(_FENCED in line and '"kind": "FencedError"' in line for line in lines)


def fill_disk(bench: Bench) -> None:
    """Leave the lake no room until a process has given up and its successor has found the disk full; then make room."""
    topology = Topology(quiet_admin(bench.stack.bootstrap_servers))
    enriched = [Partition("user-events.enriched", index) for index in range(_PARTITIONS)]
    with _disk_of_its_own(bench) as disk:
        for _ in range(bench.form.rounds):
            gave_up, refused = bench.said("lake", _GAVE_UP), bench.said("lake", _FULL)
            began = time.monotonic()
            _leave_no_room(bench, disk)
            try:
                bench.until(lambda: bench.said("lake", _FULL) > refused, "the disk does not get full")  # noqa: B023
                ends = topology.ends(enriched, _CALL_SECONDS)
                bench.until(lambda: bench.said("lake", _GAVE_UP) > gave_up, "lake does not give up")  # noqa: B023
                refused = bench.said("lake", _FULL)
                bench.until(lambda: bench.said("lake", _FULL) > refused, "the next lake finds room")  # noqa: B023
                bench.last(bench.form.outage_seconds - (time.monotonic() - began))
                grown = topology.ends(enriched, _CALL_SECONDS)
                if not all(grown[partition] > end for partition, end in ends.items()):
                    message = "the other services did not go on while the lake had no room"
                    raise TortureError(message)
            finally:
                _mount("-o", f"remount,size={_ROOMY}", str(disk))
            bench.struck["disk full"] += 1
            freed = time.monotonic()
            bench.start_again(["lake"])
            bench.stack.wait_ready()
            bench.recoveries_seconds.append(time.monotonic() - freed)


@contextmanager
def _disk_of_its_own(bench: Bench) -> Iterator[Path]:
    """Have the lake on a file system in memory, whose size can be changed; lake is stopped while it moves."""
    stack, services = bench.stack, bench.stack.services()
    lake, disk = stack.lake, stack.lake.with_name("disk")
    disk.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={_ROOMY}", "millrace-torture", str(disk))
    try:
        stack.stop_services({"lake"})
        shutil.copytree(lake, disk / "lake")
        shutil.rmtree(lake)
        lake.symlink_to(disk / "lake")
        stack.set_services(
            [
                replace(service, environment={**service.environment, "LAKE_RETRY_SECONDS": _RETRY_SECONDS})
                if service.name == "lake"
                else service
                for service in services
            ]
        )
        stack.wait_ready()
        yield disk
        stack.stop_services({"lake"})
        lake.unlink()
        shutil.copytree(disk / "lake", lake)
        stack.set_services(services)
        stack.wait_ready()
    finally:
        if lake.is_symlink():  # what is left has no lake any more
            stack.stop_services({"lake"})
        _unmount(disk)


def _leave_no_room(bench: Bench, disk: Path) -> None:
    """Make the file system as large as what is in it."""

    def shrunk() -> bool:
        used = max(shutil.disk_usage(disk).used, _PAGE_BYTES)
        return _try_mount("-o", f"remount,size={used}", str(disk)) is None

    # Not while there is more in it by then: lake writes.
    bench.until(shrunk, f"the file system at {disk} cannot be made smaller")


def drop_table(bench: Bench) -> None:
    """Drop a table while lake writes to it; then fill it again, by the command that lake names."""
    for lap in range(bench.form.rounds):
        table, topic = _DROPPED[lap % len(_DROPPED)]
        bench.until(partial(_is_begun, bench, topic), f"lake has committed nothing of {topic}")
        refused = len(refusals(bench, "lake"))
        began = time.monotonic()
        gone = bench.stack.lake / f"{table}.dropped"
        (bench.stack.lake / table).rename(gone)  # at once: lake puts files where it looks
        shutil.rmtree(gone)
        repair(bench, "lake", refused)
        bench.recoveries_seconds.append(time.monotonic() - began)
        bench.struck["table dropped"] += 1


def _is_begun(bench: Bench, topic: str) -> bool:
    """Return whether lake's group stands somewhere in `topic`: before that, it may fill a new table from the start."""
    with onlooker({"bootstrap.servers": bench.stack.bootstrap_servers}, _LAKE.group) as consumer:
        partitions = [Partition(topic, index) for index in range(_PARTITIONS)]
        return bool(committed_offsets(consumer, partitions, _CALL_SECONDS))


def lose_input(bench: Bench) -> None:
    """Take records away that lake has not read: delete them, then delete and create their topic.

    What is lost is counted from the broker before.
    """
    for _ in range(bench.form.rounds):
        _lose(bench, "input deleted", _delete_unread)
        _lose(bench, "topic created again", _create_again)


def _lose(bench: Bench, name: str, take_away: TakeAway) -> None:
    stack, services = bench.stack, bench.stack.services()
    refused = len(refusals(bench, "lake"))
    stack.stop_services({"lake"})
    bench.until(lambda: all(_unread(bench).values()), "no orders come")
    stack.stop_services({"ingest"})
    unread = _unread(bench)
    given_up = take_away(bench, unread)
    bench.given_up.setdefault("transactions", Counter()).update(given_up)
    stack.set_services(services)
    began = time.monotonic()
    repair(bench, "lake", refused)
    stack.wait_ready()
    bench.recoveries_seconds.append(time.monotonic() - began)
    bench.struck[name] += 1
    bench.struck["orders knowingly given up"] += given_up.total()


def _unread(bench: Bench) -> dict[Partition, list[Unread]]:
    """Return the orders behind the lake's positions."""
    stack = bench.stack
    topic_id = Topology(quiet_admin(stack.bootstrap_servers)).topic_ids([_ORDERS])[_ORDERS]
    found: dict[Partition, list[Unread]] = {Partition(_ORDERS, index): [] for index in range(_PARTITIONS)}
    apps = {partition: app_id(topic_id, partition.index) for partition in found}
    positions = history.positions(str(stack.lake / "transactions"), apps.values())
    library = Library(stack.bootstrap_servers, stack.registry_url, stack.lake)
    for run in decoded(library, SchemaRegistry({"url": stack.registry_url}), "transactions", list(found)):
        partition, records = run.polled.span.partition, run.polled.records
        ids, statuses = (run.columns[name].to_pylist() for name in ("transactionId", "status"))
        found[partition] += [
            Unread(records[row].offset(), (order, status))
            for row, order, status in zip(map(int, run.rows), ids, statuses, strict=True)
            if records[row].offset() >= (positions[apps[partition]] or 0)
        ]
    return found


def _delete_unread(bench: Bench, unread: Mapping[Partition, Sequence[Unread]]) -> Counter[Any]:
    """Delete half of what is unread in one partition, as retention does."""
    partition = bench.chance.choice(sorted(unread))
    orders = unread[partition]
    lost = orders[: (len(orders) + 1) // 2]
    place = TopicPartition(partition.topic, partition.index, lost[-1].offset + 1)
    admin = quiet_admin(bench.stack.bootstrap_servers)
    admin.delete_records([place])[place].result(_CALL_SECONDS)
    return Counter(order.row for order in lost)


def _create_again(bench: Bench, unread: Mapping[Partition, Sequence[Unread]]) -> Counter[Any]:
    """Delete the topic and create another one of that name."""
    admin = quiet_admin(bench.stack.bootstrap_servers)
    admin.delete_topics([_ORDERS])[_ORDERS].result(_CALL_SECONDS)
    bench.until(lambda: _ORDERS not in admin.list_topics(timeout=_CALL_SECONDS).topics, f"{_ORDERS} is still there")
    topics.apply(admin, declared_topics())
    return Counter(order.row for orders in unread.values() for order in orders)


@cache
def cannot_mount() -> str | None:
    """Return why this process may not mount a file system; None: it may."""
    with tempfile.TemporaryDirectory() as folder:
        problem = _try_mount("-t", "tmpfs", "-o", "size=1m", "millrace-torture", folder)
        if problem is None:
            _unmount(Path(folder))
    return problem


def _mount(*arguments: str) -> None:
    problem = _try_mount(*arguments)
    if problem is not None:
        raise TortureError(problem)


def _try_mount(*arguments: str) -> str | None:
    """Mount; return why not."""
    return _problem("mount", *arguments)


def _unmount(folder: Path) -> None:
    problem = _problem("umount", str(folder))
    if problem is not None:
        raise TortureError(problem)


def _problem(command: str, *arguments: str) -> str | None:
    path = shutil.which(command)
    if path is None:
        return f"there is no {command} here"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return None if done.returncode == 0 else f"{command} says: {done.stderr.strip()}"


_REPAIRED: Final = "lake refused, repaired by the command it named"
ARMS: Final = (
    Arm(
        "second-lake",
        "a second lake, of another consumer group, on the same tables: one of the two is refused",
        start_second_lake,
        fires={"one of two lakes refused": 1},
    ),
    Arm(
        "disk-full",
        "the lake's disk is full, also for the process that comes after the one that gave up; then it has room again",
        fill_disk,
        fires={"disk full": 1},
        lacks=cannot_mount,
    ),
    Arm(
        "table-dropped",
        "a table dropped while lake writes to it, then filled again by the command that the refusal names",
        drop_table,
        fires={"table dropped": 1, _REPAIRED: 1},
    ),
    Arm(
        "lost-input",
        "orders that lake has not read deleted, then their topic deleted and created again; the refusals repaired by "
        "the commands they name, and exactly the orders that were counted before are missing",
        lose_input,
        fires={"input deleted": 1, "topic created again": 1, "orders knowingly given up": 2},
        length=2,
    ),
)
