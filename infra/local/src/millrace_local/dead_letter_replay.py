"""Reading dead letters, and sending what they hold back to where it was read, exactly once a replay id.

One Kafka transaction carries the records together with how far the replay is: offsets on topic dead-letters of a group
of its own. Whoever replays under the same id takes over the transactional id first, which ends what a killed run has
left open, and reads the offsets after that.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from millrace_common.codec import RowEncoder
from millrace_common.groups import onlooker
from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Output, Partition
from millrace_common.transactions import AbandonedError, TransactionalProducer, producer_properties
from millrace_local.dead_letter_reading import Reader
from millrace_local.dead_letters import INGEST, Choice, Fate, Kind, Letter, Position, Tally, judge, whole
from millrace_local.errors import LocalStackError
from millrace_local.services import SERVICES
from millrace_schemas import in_lane, schema_text

NAME: Final = "dead-letters-replay"

_LEDGER: Final = "ledger"
_TRANSACTION_RECORDS: Final = 500
# Letters are looked up in the lake together, but no earlier than this before the last of them is sent.
_LOOKUP_LETTERS: Final = 5_000
_LOOKUP_SECONDS: Final = 60
# What a killed run leaves open holds up the readers of the source topics for this long, if nobody resumes it.
_TRANSACTION_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 60.0
_ABANDONED_IN_A_ROW: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay.

    Attributes:
        replay_id: under which it is done once.
        fingerprint: of the options it was asked for with.
        choice: the letters meant.
        limit: deal with at most so many of them.
        rate: send at most so many records a second.
    """

    replay_id: str
    fingerprint: str
    choice: Choice
    limit: int | None = None
    rate: int | None = None

    @property
    def transaction_records(self) -> int:
        """How many letters one transaction deals with: what is sent in a second, at most."""
        return min(_TRANSACTION_RECORDS, self.rate or _TRANSACTION_RECORDS)

    @property
    def lookup_letters(self) -> int:
        """How many letters are looked up in the lake at once."""
        return _LOOKUP_LETTERS if self.rate is None else min(_LOOKUP_LETTERS, self.rate * _LOOKUP_SECONDS)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it.

    Attributes:
        before: dealt with by earlier runs of the same id.
        now: by this one, or what it would do.
        kinds: of the letters that a dry run would send.
    """

    before: Tally
    now: Tally
    kinds: Mapping[Kind, int]


class Replay:
    """One run of a replay."""

    def __init__(
        self, reader: Reader, request: Request, say: Callable[[str], None], wait: Callable[[float], None]
    ) -> None:
        """Prepare; nothing is sent yet. `say` is told warnings, `wait` is called with seconds to keep to the rate."""
        self._reader = reader
        self._request = request
        self._say = say
        self._wait = wait
        self._name = in_lane(f"{NAME}-{request.replay_id}", reader.library.lane)
        self._group = in_lane(f"millrace-{NAME}-{request.replay_id}", reader.library.lane)
        self._client: dict[str, str | int] = {
            **reader.library.client,
            "bootstrap.servers": reader.library.bootstrap_servers,
            "log_level": 0,
        }
        self._partition_counts: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()
        self._topic_id = ""
        self._row_encoder: RowEncoder | None = None

    def look(self) -> Result:
        """Return what `run` would do; nothing is changed."""
        kinds: dict[Kind, int] = {}
        with self._consumer() as consumer:
            positions = self._positions(consumer) or self._beginning()
        before, now = _sum(positions), Tally()
        for batch in self._batches(positions):
            now += Tally.of(fate for _, fate in batch)
            for kind in (Kind.of(letter) for letter, fate in batch if fate is Fate.SENT):
                kinds[kind] = kinds.get(kind, 0) + 1
        return Result(before, now, kinds)

    def run(self) -> Result:
        """Send what is left to send: each letter once, however often this is called or killed.

        Raises:
            LocalStackError: the id was used with other options, a record cannot go back, or the registry or the broker
                does not answer.
            FencedError: somebody else has begun to run the same id.
        """
        producer = TransactionalProducer(self._name, self._producer, stopping=lambda: True)
        with self._consumer() as consumer:
            before: Tally | None = None
            reached, failures = -1, 0
            while True:
                try:
                    positions = self._positions(consumer)
                    if positions is None:
                        positions = self._beginning()
                        producer.begin()
                        producer.commit(_offsets(positions), consumer.consumer_group_metadata())
                    before = before or _sum(positions)
                    for batch in self._batches(positions):
                        started = time.monotonic()
                        self._commit(producer, consumer, batch, positions)
                        self._keep_to_rate(batch, time.monotonic() - started)
                    return Result(before, _sum(positions) - before, {})
                except AbandonedError as error:
                    done = sum(position.next_offset for position in (self._positions(consumer) or {}).values())
                    failures = 1 if done > reached else failures + 1
                    reached = done
                    if failures == _ABANDONED_IN_A_ROW:
                        message = f"a transaction did not get through {failures} times: {error}"
                        raise LocalStackError(message) from error

    def _batches(self, positions: Mapping[Partition, Position]) -> Iterator[list[tuple[Letter, Fate]]]:
        """Yield what is left to deal with, by transaction, each of one partition of dead-letters.

        Partitions and letters come in the same order in every run, and what earlier runs have dealt with is read too:
        so a copy is recognised wherever the run was cut.
        """
        left = None if self._request.limit is None else self._request.limit - _sum(positions).letters
        if left is not None and left <= 0:
            return
        seen: set[bytes] = set()
        for partition in sorted(positions):
            next_offset, end = positions[partition].next_offset, positions[partition].end
            choice = replace(self._request.choice, since_ms=positions[partition].since_ms)
            meant = whole(
                (letter for letter in self._reader.letters(partition) if letter.offset < end and choice.has(letter)),
                self._say,
            )
            for letters in _cut(meant, self._request.lookup_letters):
                due = [letter for letter in letters if letter.offset >= next_offset]
                earlier = letters[: len(letters) - len(due)]
                judged = judge(earlier, due, self._reader.in_lake(due), seen)[:left]
                for start in range(0, len(judged), self._request.transaction_records):
                    batch = judged[start : start + self._request.transaction_records]
                    self._check(batch)
                    yield batch
                left = None if left is None else left - len(judged)
                if left == 0:
                    return

    def _check(self, batch: Sequence[tuple[Letter, Fate]]) -> None:
        """See that what is sent has a place to go to, and say once for each kind what nobody will hold back.

        Raises:
            StartupError: a source topic is gone.
            LocalStackError: a source partition is gone.
        """
        for letter in (letter for letter, fate in batch if fate is Fate.SENT):
            topic = letter.source.topic
            if letter.source.index >= self._partition_count(topic):
                message = f"{letter.source} does not exist any more, its records cannot go back"
                raise LocalStackError(message)
            if letter.service != INGEST and (letter.service, topic) not in self._told:
                self._told.add((letter.service, topic))
                self._say(_warning(letter.service, topic, self._reader.library.lane))

    def _commit(
        self,
        producer: TransactionalProducer,
        consumer: Consumer,
        batch: Sequence[tuple[Letter, Fate]],
        positions: dict[Partition, Position],
    ) -> None:
        """Send a batch and commit how far it gets, in one transaction."""
        last = batch[-1][0]
        position = positions[last.place].past(last, (fate for _, fate in batch))
        sent = [letter for letter, fate in batch if fate is Fate.SENT]
        producer.begin()
        for source, run in groupby(sorted(sent, key=lambda letter: letter.source), key=lambda letter: letter.source):
            letters = list(run)
            values = [letter.value for letter in letters]
            producer.produce(Output(source.topic, [letter.key for letter in letters], values), source.index)
        self._enter_in_ledger(producer, last.place, sent)
        producer.commit(_offsets({last.place: position}), consumer.consumer_group_metadata())
        positions[last.place] = position

    def _enter_in_ledger(self, producer: TransactionalProducer, place: Partition, sent: Sequence[Letter]) -> None:
        """Let the books know of records in topics that otherwise only services write to."""
        topics = [letter.source.topic for letter in sent if letter.service != INGEST]
        if not topics:
            return
        if self._row_encoder is None:
            schema = schema_text(_LEDGER)
            self._row_encoder = RowEncoder(schema, self._reader.registry.schema_id(_LEDGER, schema))
            self._topic_id = self._reader.topology.topic_ids([place.topic])[place.topic]
        row = LedgerRow(
            service=NAME,
            instance=self._request.replay_id,
            partition=place,
            topic_id=self._topic_id,
            first_offset=0,  # no range: another replay may deal with the same letters
            next_offset=0,
            counts=Counts(),
            emitted={topic: topics.count(topic) for topic in sorted(set(topics))},
            committed_at_ms=time.time_ns() // 1_000_000,
        )
        ledger = in_lane(_LEDGER, self._reader.library.lane)
        value = self._row_encoder.encode(row.as_record())
        producer.produce(Output(ledger, [row.key], [value]), place.index % self._partition_count(ledger))

    def _partition_count(self, topic: str) -> int:
        if topic not in self._partition_counts:
            self._partition_counts |= self._reader.topology.partition_counts([topic])
        return self._partition_counts[topic]

    def _keep_to_rate(self, batch: Sequence[tuple[Letter, Fate]], took_seconds: float) -> None:
        if self._request.rate is not None:
            sent = Tally.of(fate for _, fate in batch).sent
            self._wait(max(0.0, sent / self._request.rate - took_seconds))

    def _beginning(self) -> dict[Partition, Position]:
        """Return where a replay begins: what dead-letters holds now is all it will ever deal with."""
        asked, since_ms = self._request.fingerprint, self._request.choice.since_ms
        kept = self._reader.topology.ranges(self._reader.partitions())
        return {partition: Position(first, end, asked, since_ms) for partition, (first, end) in kept.items()}

    def _positions(self, consumer: Consumer) -> dict[Partition, Position] | None:
        """Return how far earlier runs got; None: there was none.

        Raises:
            LocalStackError: they were asked for something else.
        """
        asked = [TopicPartition(partition.topic, partition.index) for partition in self._reader.partitions()]
        positions = {
            Partition(place.topic, place.partition): Position.committed(place.offset, place.metadata)
            for place in consumer.committed(asked, timeout=_SETTLE_SECONDS)
            if place.offset >= 0
        }
        if any(position.fingerprint != self._request.fingerprint for position in positions.values()):
            message = f"replay id {self._request.replay_id} was used with other options: choose another one"
            raise LocalStackError(message)
        return positions or None

    def _consumer(self) -> AbstractContextManager[Consumer]:
        return onlooker(self._client, self._group)

    def _producer(self) -> Producer:
        return Producer(producer_properties(self._client, self._name, _TRANSACTION_SECONDS))


def _cut(letters: Iterator[Letter], size: int) -> Iterator[list[Letter]]:
    part: list[Letter] = []
    for letter in letters:
        part.append(letter)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _offsets(positions: Mapping[Partition, Position]) -> list[TopicPartition]:
    return [
        TopicPartition(partition.topic, partition.index, position.next_offset, position.metadata())
        for partition, position in positions.items()
    ]


def _sum(positions: Mapping[Partition, Position]) -> Tally:
    return sum((position.tally for position in positions.values()), Tally())


def _warning(service: str, topic: str, lane: str) -> str:
    others = [other.name for other in SERVICES if topic in {in_lane(name, lane) for name in other.inputs}]
    second = " and ".join(name for name in others if name != service)
    warning = f"{topic} is written by the pipeline itself: nothing behind it drops what it has seen before"
    return f"{warning}; {second} reads these records a second time" if second else warning
