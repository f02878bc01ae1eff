"""A dead letter: a record that could not be processed, with its exact bytes, its place and the reason."""

from typing import Final

from millrace_common.records import Partition, RawRecord, Reject

# A broker bounds what a batch has on its disk, not what it is when it is unpacked: a few kilobytes can be a record of
# hundreds of megabytes, which no producer would send on. A record that a broker takes uncompressed (1 MiB unless it was
# told otherwise) is never cut; the largest letter, with its key twice, is below the 8 MiB that the topic takes.
MOST_VALUE_BYTES: Final = 4_194_304
MOST_KEY_BYTES: Final = 1_048_576
MOST_LETTER_BYTES: Final = 8_388_608
_CUT: Final = "cut: "


def dead_letter(
    service: str, partition: Partition, record: RawRecord, reject: Reject, occurred_at_ms: int
) -> dict[str, object]:
    """Return a rejected record as the Avro subject `dead-letters` spells it: exact bytes, place and reason.

    Of a key or value too large to be sent on, the first bytes are kept, and the detail says how many there were.
    """
    key, value = record.key(), record.value()
    sizes = (("key", key, MOST_KEY_BYTES), ("value", value, MOST_VALUE_BYTES))
    cuts = [f"{name} of {len(data)} bytes to {most}" for name, data, most in sizes if data and len(data) > most]
    return {
        "service": service,
        "stage": reject.stage,
        "reason": str(reject.reason),
        "detail": f"{_CUT}{', '.join(cuts)}; {reject.detail}" if cuts else reject.detail,
        "source_topic": partition.topic,
        "source_partition": partition.index,
        "source_offset": record.offset(),
        "source_timestamp": record.timestamp()[1],
        "key": kept_key(record),
        "value": value[:MOST_VALUE_BYTES] if value else value,
        "occurred_at": occurred_at_ms,
    }


def kept_key(record: RawRecord) -> bytes | None:
    """Return the key under which a dead letter of `record` is sent."""
    key = record.key()
    return key[:MOST_KEY_BYTES] if key else key


def is_cut(detail: str) -> bool:
    """Return whether the dead letter with this detail lacks bytes of its record, which so cannot be sent again."""
    return detail.startswith(_CUT)
