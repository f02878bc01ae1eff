"""The client's side of transactions."""

from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from millrace_common.memory_kafka.broker import MemoryKafka, Produced, failure
from millrace_common.memory_kafka.group import Membership, MemoryGroup
from millrace_common.records import Partition


class MemoryProducer:
    """A transactional producer; the newest one of a transactional id fences the others."""

    def __init__(
        self, kafka: MemoryKafka, transactional_id: str = "service-0", group: MemoryGroup | None = None
    ) -> None:
        """Write to `kafka`; offsets are refused if `group` does not know who sends them."""
        self._kafka = kafka
        self._id = transactional_id
        self._group = group
        self._epoch = -1
        self._sent = False  # something of this transaction: without, a commit asks the broker nothing
        self._room = kafka.queue_room

    def init_transactions(self, timeout: float) -> None:
        """Take over the transactional id."""

        def take_over() -> None:
            self._epoch = self._kafka.take_over(self._id)

        self._kafka.perform("init_transactions", "init", take_over)

    def begin_transaction(self) -> None:
        """Open a transaction."""
        self._refuse_fenced()
        self._kafka.perform("begin_transaction", "begin", lambda: None)
        self._sent = False

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], partition: int) -> int:
        """Queue what there is room for, mark the rest, and raise nothing: the client's own does not either."""
        queued = len(messages) if self._room is None else min(self._room, len(messages))
        code = KafkaError._QUEUE_FULL
        scripted = self._kafka.take_failure("produce_batch")
        if self._is_fenced():
            queued, code = 0, KafkaError._FATAL
        elif scripted is not None:
            queued, code = 0, scripted[0].args[0].code()
        for message in messages[queued:]:
            message["_error"] = KafkaError(code)
        if self._room is not None:
            self._room -= queued
        place = Partition(topic, partition)
        if queued:
            records = [Produced(place, message["key"], message["value"]) for message in messages[:queued]]
            self._kafka.write(self._id, self._epoch, place, records)
            self._sent = True
        self._kafka.effects.append(f"produce {place} {queued}")
        return queued

    def poll(self, timeout: float) -> int:
        """Deliver what is queued."""
        self._room = self._kafka.queue_room
        return 0

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], metadata: object, timeout: float) -> None:
        """Put offsets into the transaction."""
        self._refuse_fenced()
        sent = {Partition(place.topic, place.partition): (place.offset, place.metadata) for place in offsets}
        listed = ", ".join(f"{place} {offset}" for place, (offset, _) in sorted(sent.items()))
        epoch = self._epoch

        def send() -> None:
            if self._group is not None and isinstance(metadata, Membership):
                self._group.refuse_stranger(metadata)
            self._kafka.add_offsets(self._id, epoch, sent)

        self._sent = True
        self._kafka.perform("send_offsets", f"send_offsets {listed}", send)

    def commit_transaction(self, timeout: float) -> None:
        """Make everything visible."""
        self._end("commit_transaction", "commit", commit=True)

    def abort_transaction(self, timeout: float) -> None:
        """Forget everything since the beginning of the transaction."""
        self._end("abort_transaction", "abort", commit=False)

    def purge(self) -> None:
        """Forget what is queued."""
        self._kafka.effects.append("purge")

    def _end(self, call: str, effect: str, *, commit: bool) -> None:
        self._refuse_fenced()
        epoch, sent = self._epoch, self._sent

        def end() -> None:
            if sent:
                self._kafka.end(self._id, epoch, commit=commit)

        self._kafka.perform(call, effect, end)
        self._room = self._kafka.queue_room

    def _is_fenced(self) -> bool:
        return self._kafka.epoch(self._id) != self._epoch

    def _refuse_fenced(self) -> None:
        if self._is_fenced():
            raise failure(KafkaError._FENCED, fatal=True)
