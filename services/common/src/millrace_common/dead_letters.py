"""A dead letter: a record that could not be processed, with its exact bytes, its place and the reason."""

from millrace_common.records import Partition, RawRecord, Reject


def dead_letter(
    service: str, partition: Partition, record: RawRecord, reject: Reject, occurred_at_ms: int
) -> dict[str, object]:
    """Return a rejected record as the Avro subject `dead-letters` spells it: exact bytes, place and reason."""
    return {
        "service": service,
        "stage": reject.stage,
        "reason": str(reject.reason),
        "detail": reject.detail,
        "source_topic": partition.topic,
        "source_partition": partition.index,
        "source_offset": record.offset(),
        "source_timestamp": record.timestamp()[1],
        "key": record.key(),
        "value": record.value(),
        "occurred_at": occurred_at_ms,
    }
