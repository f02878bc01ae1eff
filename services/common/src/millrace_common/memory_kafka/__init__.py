"""A Kafka in memory, as consumers and transactional producers see it; for tests only.

It keeps what exactly-once rests on: logs with transactions, last stable offsets and offsets that nobody sees; committed
offsets with metadata, stable ones only; transactional ids whose epochs fence; a group whose coordinator refuses the
offsets of those who are not in it; and calls that fail before or after they took effect, or whose effect comes late.
"""

from millrace_common.memory_kafka.broker import MemoryKafka, MemoryMessage, Produced, failure
from millrace_common.memory_kafka.consumer import MemoryConsumer
from millrace_common.memory_kafka.group import MemoryGroup
from millrace_common.memory_kafka.producer import MemoryProducer
from millrace_common.memory_kafka.topology import MemoryTopology

__all__ = [
    "MemoryConsumer",
    "MemoryGroup",
    "MemoryKafka",
    "MemoryMessage",
    "MemoryProducer",
    "MemoryTopology",
    "Produced",
    "failure",
]
