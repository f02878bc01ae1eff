"""A transactional producer that never repeats a call whose outcome it does not know.

librdkafka has no KIP-890 protection: a late answer to an abandoned EndTxn could end a later transaction of the same
epoch. So after a timeout or a transport error the producer is thrown away, and a new one under the same transactional
id takes over: `init_transactions` bumps the epoch, which fences whatever the old one still has on its way.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from millrace_common import failpoints, metrics
from millrace_common.batches import batches_of
from millrace_common.errors import FatalError, FencedError
from millrace_common.failpoints import Failpoint
from millrace_common.records import Output

_log = logging.getLogger(__name__)

# A commit takes about 10 ms; one that takes this long is given up, well inside the session and transaction timeouts.
CALL_SECONDS: Final = 5.0
# For taking over: the coordinator first settles what a predecessor left open.
TAKE_OVER_SECONDS: Final = 30.0
# A call that is not back so long after its own timeout never comes back.
OVERDUE_SECONDS: Final = 2.0

_UNKNOWN_OUTCOME: Final = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


class AbandonedError(Exception):
    """The open transaction is gone, and with it everything since the last commit; the next one may begin."""


def producer_properties(client: dict[str, str | int], transactional_id: str, timeout_seconds: float) -> dict[str, Any]:
    """Return the librdkafka properties of a transactional producer."""
    return client | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": int(timeout_seconds * 1000),
        # While no broker can be reached, send_offsets_to_transaction ends with this and not with its own timeout.
        "socket.timeout.ms": int(CALL_SECONDS * 1000),
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "message.max.bytes": 8_388_608,
        # One commit's records fit: the queue is only ever full for a moment.
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 131_072,
    }


class Caller(Protocol):
    """Makes one producer's calls."""

    def call(self, transaction_call: Callable[[], None], timeout_seconds: float) -> None:
        """Make a call that is meant to end by itself after `timeout_seconds`; raise what it raises."""

    def end(self) -> None:
        """Make no more calls."""


class CallThread:
    """Makes a producer's calls in a thread of its own, so that one that never returns does not keep the process.

    librdkafka 2.16 forgets a send_offsets_to_transaction whose request was outdated by a broker's restart: its handler
    of TxnOffsetCommit returns without a result for __OUTDATED, whatever timeout was given (rdkafka_txnmgr.c).
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        # A daemon: a call that hangs must not keep the process from ending either.
        Thread(target=self._serve, name="transaction calls", daemon=True).start()

    def call(self, transaction_call: Callable[[], None], timeout_seconds: float) -> None:
        """Make a call that is meant to end by itself after `timeout_seconds`.

        Raises:
            KafkaException: what the call raised; timed out, if it is overdue.
        """
        self._calls.put(transaction_call)
        try:
            failure = self._outcomes.get(timeout=timeout_seconds + OVERDUE_SECONDS)
        except Empty:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the call did not return")) from None
        if failure is not None:
            raise failure

    def end(self) -> None:
        """Let the thread end with the call it is in."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (transaction_call := self._calls.get()) is not None:
            try:
                transaction_call()
            except BaseException as failure:  # raised where the call is waited for
                self._outcomes.put(failure)
            else:
                self._outcomes.put(None)


class TransactionalProducer:
    """One transaction after another under one transactional id."""

    def __init__(
        self,
        instance: str,
        make_producer: Callable[[], Producer],
        stopping: Callable[[], bool],
        *,
        make_caller: Callable[[], Caller] = CallThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over `instance`, the transactional id: an open transaction of a predecessor is aborted.

        Raises:
            FatalError: that is not allowed, or the process was told to stop while the broker did not answer.
        """
        self._make_caller = make_caller
        self._clock = clock
        self._instance = instance
        self._make_producer = make_producer
        self._stopping = stopping
        self._producer, self._caller = self._take_over()
        self._batches = batches_of(self._producer, instance)

    def begin(self) -> None:
        """Begin a transaction.

        Raises:
            AbandonedError: try again later.
            FencedError: another process has taken over.
        """
        self._call(self._producer.begin_transaction)

    def produce(self, output: Output, partition: int) -> None:
        """Put records into the open transaction, in order. A full queue makes this wait: that is the back-pressure.

        Raises:
            AbandonedError: they cannot be produced.
            FencedError: another process has taken over.
        """
        keys, values = output.keys, output.values
        deadline = self._clock() + CALL_SECONDS
        failpoints.reach(Failpoint.PRODUCE_BEFORE)
        while (codes := self._batches.produce(output.topic, keys, values, partition)).any():
            refused = np.flatnonzero(codes)
            queued = int(refused[0])
            problem = KafkaError(int(codes[queued]))
            # What was queued must be a prefix, or the order would change.
            if problem.code() != KafkaError._QUEUE_FULL or len(refused) < len(codes) - queued:
                self.abort(f"produce failed: {problem.name()}")
            if self._clock() > deadline:
                self.abort("produce failed: the queue stayed full")
            keys, values = keys[queued:], values[queued:]
            self._producer.poll(0.01)
        failpoints.reach(Failpoint.PRODUCE_AFTER)

    def commit(self, offsets: Sequence[TopicPartition], group_metadata: object) -> None:
        """Commit the open transaction together with `offsets` of the group.

        Raises:
            AbandonedError: it was aborted, or whether it committed is unknown: the committed offsets tell.
            FencedError: another process has taken over.
        """
        failpoints.reach(Failpoint.SEND_OFFSETS_BEFORE)
        self._call(lambda: self._producer.send_offsets_to_transaction(list(offsets), group_metadata, CALL_SECONDS))
        failpoints.reach(Failpoint.SEND_OFFSETS_AFTER)
        failpoints.reach(Failpoint.COMMIT_TRANSACTION_BEFORE)
        self._call(lambda: self._producer.commit_transaction(CALL_SECONDS))
        failpoints.reach(Failpoint.COMMIT_TRANSACTION_AFTER)

    def abort(self, reason: str) -> None:
        """Give up the open transaction.

        Raises:
            AbandonedError: always.
            FencedError: another process has taken over.
        """
        _log.warning("aborting the transaction", extra={"reason": reason})
        try:
            self._caller.call(lambda: self._producer.abort_transaction(CALL_SECONDS), CALL_SECONDS)
        except KafkaException as failure:
            self._refuse_if_fenced(failure)
            self._replace(failure.args[0])
        raise AbandonedError(reason)

    def abort_on_the_way_out(self) -> None:
        """Abort; if that fails, the broker's timeout or the next process does it."""
        try:
            self._caller.call(lambda: self._producer.abort_transaction(CALL_SECONDS), CALL_SECONDS)
        except KafkaException as failure:
            _log.warning("the last abort failed", extra={"error": str(failure)})

    def _call(self, transaction_call: Callable[[], None]) -> None:
        try:
            self._caller.call(transaction_call, CALL_SECONDS)
        except KafkaException as failure:
            self._refuse_if_fenced(failure)
            error: KafkaError = failure.args[0]
            if error.code() in _UNKNOWN_OUTCOME or (error.retriable() and not error.txn_requires_abort()):
                self._replace(error)
            if error.txn_requires_abort():
                self.abort(error.name())
            message = f"a transaction call failed: {error.str()}"
            raise FatalError(message) from failure

    def _refuse_if_fenced(self, failure: KafkaException) -> None:
        error: KafkaError = failure.args[0]
        if error.fatal():
            message = f"{self._instance} was fenced: {error.str()}"
            raise FencedError(message) from failure

    def _replace(self, error: KafkaError) -> None:
        """Fence the producer whose last call has an unknown outcome, by a new one.

        Raises:
            AbandonedError: always.
        """
        _log.warning("the outcome is unknown, replacing the producer", extra={"error": error.str()})
        self._caller.end()
        abandoned = self._producer
        self._producer, self._caller = self._take_over()
        self._batches = batches_of(self._producer, self._instance)
        abandoned.purge()
        message = f"outcome unknown: {error.name()}"
        raise AbandonedError(message)

    def _take_over(self) -> tuple[Producer, Caller]:
        while True:
            producer, caller = self._make_producer(), self._make_caller()
            try:
                caller.call(partial(producer.init_transactions, TAKE_OVER_SECONDS), TAKE_OVER_SECONDS)
            except KafkaException as failure:
                caller.end()
                error: KafkaError = failure.args[0]
                if error.fatal() or not (error.retriable() or error.code() in _UNKNOWN_OUTCOME):
                    message = f"{self._instance} cannot begin transactions: {error.str()}"
                    raise FatalError(message) from failure
                if self._stopping():
                    message = "stopped while the broker did not answer"
                    raise FatalError(message) from failure
                _log.warning("the transaction coordinator does not answer yet", extra={"error": error.str()})
                metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time())
            else:
                return producer, caller
