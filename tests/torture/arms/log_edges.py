"""The edges of the log: aborted records, commit markers, gaps, a start that moves, an end that does not."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from prometheus_client.parser import text_string_to_metric_families

from arms.arm import Arm
from arms.snapshots import newest
from bench import Bench, TortureError
from millrace_common.codec import Reason
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_lake import history
from millrace_lake.ledger import app_id
from millrace_local import topics
from millrace_local.lag import Lags
from millrace_local.probes import fetch, quiet_admin
from millrace_local.reading import Library, runs
from millrace_local.stack import Stack
from millrace_schemas import topics as declared_topics
from repairs import runbook_block

_INPUTS: Final = ("user-events", "transactions")
_ENRICHED: Final = "user-events.enriched"
_STATEFUL: Final = ("ingest", "sessionize")
_PARTITIONS: Final = 4
_CALL_SECONDS: Final = 30.0
_OPEN_SECONDS: Final = 1.0
# A stall that a service has to name before anybody does something about it.
_NAMED_AFTER_SECONDS: Final = 3.0
_HANGING: Final = "torture-hanging"
# Long after the arm, short, and the least with which the broker's sweep (every 10 s) has something to do.
_NEVER_MS: Final = 600_000
_SOON_MS: Final = 5_000
_COMPACT_NOW: Final = {"min.cleanable.dirty.ratio": "0.01", "segment.ms": "1000"}
# A cleaning takes less: after it, the log stays as it is.
_CLEANED_SECONDS: Final = 2.0
_RUNBOOK: Final = "hanging-transaction.md"


def interfere(bench: Bench) -> None:
    """Abort and commit transactions of a stranger in every input partition, and have ingest read past them twice."""
    for lap in range(bench.form.rounds):
        stranger = _stranger(bench, "torture-stranger", _NEVER_MS)
        for outcome in ("abort", "commit"):
            stranger.begin_transaction()
            _write(bench, stranger, _input_places(), f"{lap} {outcome}", visible=outcome == "commit")
            bench.last(_OPEN_SECONDS)
            if outcome == "commit":
                stranger.commit_transaction(_CALL_SECONDS)
            else:
                stranger.abort_transaction(_CALL_SECONDS)
            bench.struck[f"a stranger's {outcome} in {len(_input_places())} partitions"] += 1
        _forget_and_kill(bench, "ingest")


def leave_edges(bench: Bench) -> None:
    """Let half of the input partitions end in a commit marker, the others in aborted records."""
    stranger = _stranger(bench, "torture-stranger", _NEVER_MS)
    for outcome, remainder in (("commit", 0), ("abort", 1)):
        places = [place for place in _input_places() if place.index % 2 == remainder]
        stranger.begin_transaction()
        _write(bench, stranger, places, f"last {outcome}", visible=outcome == "commit")
        if outcome == "commit":
            stranger.commit_transaction(_CALL_SECONDS)
        else:
            stranger.abort_transaction(_CALL_SECONDS)
        bench.struck[f"logs that end in a stranger's {outcome}"] += len(places)


def compact(bench: Bench) -> None:
    """Compact orders that ingest has read, then have it build its state from a log with gaps."""
    admin = quiet_admin(bench.stack.bootstrap_servers)
    # Compaction may take what is older than this; ingest is not so far behind while it is at work.
    compact_now = _COMPACT_NOW | {"min.compaction.lag.ms": str(round(bench.form.outage_seconds * 1_000))}
    for _ in range(bench.form.rounds):
        bench.until(partial(_is_live, bench, "ingest"), "ingest does not catch up")
        before = _gaps(bench.stack)
        _configure(bench, ConfigResource(ResourceType.TOPIC, "transactions"), compact_now)
        _configure(bench, ConfigResource(ResourceType.BROKER, "1"), {"log.cleaner.backoff.ms": "500"})
        try:
            bench.until(lambda: _gaps(bench.stack) > before, "nothing is compacted away")  # noqa: B023
        finally:
            _configure(bench, ConfigResource(ResourceType.BROKER, "1"), {"log.cleaner.backoff.ms": None})
            _configure(bench, ConfigResource(ResourceType.TOPIC, "transactions"), dict.fromkeys(compact_now))
            topics.apply(admin, declared_topics())
        bench.last(_CLEANED_SECONDS)
        bench.struck["orders compacted away"] += _gaps(bench.stack) - before
        _forget_and_kill(bench, "ingest")


def move_the_start(bench: Bench) -> None:
    """Delete what is before the newest snapshots of half the partitions: their logs begin behind all the others.

    From the other half the whole state can still be built, and is in the end.
    """
    stack, services = bench.stack, bench.stack.services()
    for _ in range(bench.form.rounds):
        folders = {name: stack.work_dir / "state" / name for name in _STATEFUL}
        for name, folder in folders.items():
            bench.until(lambda: len(newest(folder)) >= _PARTITIONS, f"{name} wrote no snapshots")  # noqa: B023
        stack.stop_services(_STATEFUL)
        paths = [path for folder in folders.values() for path in newest(folder) if not _partition(path).index % 2]
        starts = {_partition(path): int(path.stem) for path in paths}
        bench.until(lambda: _lake_has(stack, starts), "lake does not catch up")  # noqa: B023
        places = [TopicPartition(place.topic, place.index, offset) for place, offset in starts.items()]
        admin = quiet_admin(stack.bootstrap_servers)
        for future in admin.delete_records(places).values():
            future.result(_CALL_SECONDS)
        began = time.monotonic()
        stack.set_services(services)
        stack.wait_ready()
        bench.recoveries_seconds.append(time.monotonic() - began)
        bench.struck["snapshots from before the log's start"] += sum(
            int(older.stem) < int(path.stem) for path in paths for older in path.parent.glob("*.arrow")
        )


def hang(bench: Bench) -> None:
    """Leave a transaction open; the services have to name it, then the runbook ends it, or in the end the broker."""
    for lap in range(bench.form.rounds):
        stalls = {
            Partition("user-events", bench.chance.randrange(_PARTITIONS)): ("ingest",),
            Partition(_ENRICHED, bench.chance.randrange(_PARTITIONS)): ("sessionize", "lake"),
        }
        by_runbook = lap % 2 == 0
        producer = _stranger(bench, _HANGING, _NEVER_MS if by_runbook else _SOON_MS)
        producer.begin_transaction()
        _write(bench, producer, stalls, f"hanging {lap}", visible=False)
        for place, names in stalls.items():
            for name in names:
                bench.until(partial(_names, bench, name, place, _NAMED_AFTER_SECONDS), f"{name} does not name {place}")
        began = time.monotonic()
        if by_runbook:
            _follow_the_runbook(bench, stalls)
        for place, names in stalls.items():
            for name in names:
                bench.until(partial(_is_free, bench, name, place), f"{name} is still held back at {place}")
        bench.recoveries_seconds.append(time.monotonic() - began)
        bench.struck[f"hanging transaction ended by the {'runbook' if by_runbook else 'broker'}"] += 1


def _follow_the_runbook(bench: Bench, stalls: Mapping[Partition, object]) -> None:
    found = _run_block(bench, "Find it")
    for place in stalls:
        if f"{place.topic} {place.index} stable up to" not in found:
            message = f"the runbook does not find {place}: {found}"
            raise TortureError(message)
    _run_block(bench, "End it")


def _run_block(bench: Bench, heading: str) -> str:
    surroundings = {"KAFKA_BOOTSTRAP_SERVERS": bench.stack.bootstrap_servers, "TRANSACTIONAL_ID": _HANGING}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", runbook_block(_RUNBOOK, heading)],
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        check=False,
        timeout=_CALL_SECONDS * 2,
    )
    if done.returncode != 0:
        message = f"{heading} in {_RUNBOOK} fails: {done.stderr}"
        raise TortureError(message)
    return done.stdout


def _stranger(bench: Bench, transactional_id: str, timeout_ms: int) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": bench.stack.bootstrap_servers,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "log_level": 0,
        }
    )
    producer.init_transactions(_CALL_SECONDS)
    return producer


def _input_places() -> list[Partition]:
    return [Partition(topic, index) for topic in _INPUTS for index in range(_PARTITIONS)]


def _write(bench: Bench, producer: Producer, places: Iterable[Partition], name: str, *, visible: bool) -> None:
    """Put a record into each place that ingest would have to set aside if it saw it; it will if it is `visible`."""
    refused: list[str] = []

    def note(error: KafkaError | None, message: object) -> None:
        if error is not None:
            refused.append(error.str())

    for place in places:
        value = f"a stranger's record: {name} {place}".encode()
        # A compacted topic takes no record without a key.
        producer.produce(place.topic, value, key=value, partition=place.index, on_delivery=note)
        if visible:
            bench.dead_besides[place.topic, "decode", Reason.NOT_FRAMED, hashlib.sha256(value).hexdigest()] += 1
    if producer.flush(_CALL_SECONDS) or refused:
        message = f"a stranger's records were not acknowledged: {refused}"
        raise TortureError(message)


def _forget_and_kill(bench: Bench, name: str) -> None:
    """Kill a service and delete its snapshots, so that it reads the whole log again."""
    began = time.monotonic()
    bench.kill([name], signal.SIGKILL)
    for path in (bench.stack.work_dir / "state" / name).glob("*/*/*.arrow"):
        path.unlink()
    bench.start_again([name])
    bench.stack.wait_ready()
    bench.recoveries_seconds.append(time.monotonic() - began)


def _is_live(bench: Bench, title: str) -> bool:
    """Return whether a service is less than a second of traffic behind."""
    services = [service for service in bench.stack.services() if service.title == title]
    with Lags(bench.stack.bootstrap_servers) as lags:
        behind = lags.of(services)[title]
    return behind is not None and behind < bench.form.rate


def _gaps(stack: Stack) -> int:
    """Return how many offsets of transactions have no record any more."""
    places = [Partition("transactions", index) for index in range(_PARTITIONS)]
    held = dict.fromkeys(places, 0)
    reached = dict.fromkeys(places, 0)
    first = {place: kept[0] for place, kept in Topology(quiet_admin(stack.bootstrap_servers)).ranges(places).items()}
    for place, messages in runs(Library(stack.bootstrap_servers, stack.registry_url, stack.lake), places):
        held[place] += len(messages)
        reached[place] = (messages[-1].offset() or 0) + 1
    return sum(reached[place] - first[place] - held[place] for place in places if held[place])


def _configure(bench: Bench, resource: ConfigResource, settings: Mapping[str, str | None]) -> None:
    """Change settings of a topic or a broker; None takes one off."""
    entries = [
        ConfigEntry(
            name,
            value,
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in settings.items()
    ]
    changed = ConfigResource(resource.restype, resource.name, incremental_configs=entries)
    admin = quiet_admin(bench.stack.bootstrap_servers)
    for future in admin.incremental_alter_configs([changed]).values():
        future.result(_CALL_SECONDS)


def _partition(path: Path) -> Partition:
    return Partition(path.parts[-3], int(path.parts[-2]))


def _lake_has(stack: Stack, starts: Mapping[Partition, int]) -> bool:
    """Return whether lake has read what is before `starts`, where it reads that topic."""
    topic_id = Topology(quiet_admin(stack.bootstrap_servers)).topic_ids([_ENRICHED])[_ENRICHED]
    wanted = {app_id(topic_id, place.index): offset for place, offset in starts.items() if place.topic == _ENRICHED}
    held = history.positions(str(stack.lake / "events"), wanted)
    return all((held[app] or 0) >= offset for app, offset in wanted.items())


def _held_back(bench: Bench, name: str) -> dict[Partition, float]:
    """Return for how many seconds a service says that partitions are held back."""
    page = fetch(bench.state(name).spec.probe.target.removesuffix("/readyz") + "/metrics")
    return {
        Partition(sample.labels["topic"], int(sample.labels["partition"])): sample.value
        for family in text_string_to_metric_families(page or "")
        if family.name == "millrace_held_back_seconds"
        for sample in family.samples
    }


def _names(bench: Bench, name: str, place: Partition, seconds: float) -> bool:
    return _held_back(bench, name).get(place, 0.0) >= seconds


def _is_free(bench: Bench, name: str, place: Partition) -> bool:
    return _held_back(bench, name).get(place) == 0.0


_ENDED_BY_RUNBOOK: Final = "hanging transaction ended by the runbook"
ARMS: Final = (
    Arm(
        "strangers",
        "transactions of a stranger in every input partition, committed and aborted, also at the very end of the log; "
        "ingest has to build its state from that",
        interfere,
        fires={
            **{f"a stranger's {outcome} in {len(_input_places())} partitions": 1 for outcome in ("abort", "commit")},
            **{f"logs that end in a stranger's {outcome}": _PARTITIONS for outcome in ("abort", "commit")},
        },
        end=leave_edges,
        snapshots_stay=False,
    ),
    Arm(
        "compaction",
        "orders compacted away that ingest had read; it builds its state from a log with gaps",
        compact,
        fires={"orders compacted away": 1},
        snapshots_stay=False,
    ),
    Arm(
        "log-start",
        "ingest and sessionize begin in a log that starts behind all their snapshots but the newest",
        move_the_start,
        fires={"snapshots from before the log's start": 1},
    ),
    Arm(
        "hanging-transaction",
        "a transaction of a stranger left open in user-events and user-events.enriched: the services name it in a "
        "metric, and the commands of the runbook end it, or the broker does",
        hang,
        fires={_ENDED_BY_RUNBOOK: 1},
    ),
)
