"""enrich with a fault planted on purpose, to show that the torture finds it: offsets outside the transaction.

    python -m planted

The group's offsets are committed by the consumer where they should go into the transaction. Dying between the two loses
the records in between.
"""

from collections.abc import Sequence
from typing import Any, Final
from unittest.mock import patch

from confluent_kafka import Consumer, Producer, TopicPartition

from millrace_common import consumers, service
from millrace_enrich.__main__ import main

_consumers: Final[list[Consumer]] = []


class _KnownConsumer(Consumer):  # type: ignore[misc]  # the client has no types
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        _consumers.append(self)


class _CarelessProducer(Producer):  # type: ignore[misc]  # the client has no types
    def send_offsets_to_transaction(
        self, positions: Sequence[TopicPartition], group_metadata: object, timeout: float
    ) -> None:
        _consumers[-1].commit(offsets=list(positions), asynchronous=False)


if __name__ == "__main__":
    with patch.object(consumers, "Consumer", _KnownConsumer), patch.object(service, "Producer", _CarelessProducer):
        main()
