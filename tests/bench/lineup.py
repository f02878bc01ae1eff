"""All systems that the bench knows."""

from jvm_peers import flink, kafka_streams
from python_peers import bytewax, quix
from systems import PLAIN, System, millrace


def all_systems() -> dict[str, System]:
    """Return every system by name, in the order of a round."""
    systems = (
        PLAIN,
        millrace(),
        bytewax(),
        quix("quix", "exactly-once"),
        quix("quix-at-least-once", "at-least-once"),
        kafka_streams("kafka-streams", "exactly_once_v2"),
        kafka_streams("kafka-streams-at-least-once", "at_least_once"),
        flink(),
    )
    return {system.name: system for system in systems}
