"""The job ingest: hold events against the product's rules, drop what was there within the last hour, pass bytes on.

Bad events are left out; where the product writes a dead letter, nothing is written here.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Any, Final

from confluent_kafka import Message

from plain_loop import Emit, decode, parsed, run

_AHEAD_MS: Final = 300_000
_WEEK_MS: Final = 7 * 86_400_000
_HOUR_MS: Final = 3_600_000
_MOST_PROPERTIES: Final = 1_000
_AMOUNT: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,2})?")


@lru_cache(maxsize=100_000)
def is_address(text: str) -> bool:
    """Return whether `text` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_valid(event: dict[str, Any], appended_ms: int) -> bool:
    """Return whether an event keeps the rules of ingest."""
    if not (event["eventId"] and event["sessionId"]) or event["userId"] == "":
        return False
    properties = event["properties"]
    if has_nul(event) or len(properties) > _MOST_PROPERTIES:
        return False
    if not appended_ms - _WEEK_MS <= event["timestamp"] <= appended_ms + _AHEAD_MS:
        return False
    if not is_address(event["context"]["ip"]):
        return False
    return event["eventType"] != "purchase" or _AMOUNT.fullmatch(properties.get("amount", "")) is not None


def has_nul(event: dict[str, Any]) -> bool:
    """Return whether any string of an event contains the character U+0000, which no database takes."""
    texts = [event["eventId"], event["userId"], event["sessionId"]]
    texts += event["context"].values()
    texts += event["properties"].keys()
    texts += event["properties"].values()
    return any("\0" in text for text in texts if text is not None)


class Memory:
    """The ids of the last hour of a partition, by log time: two sets, an older and a younger one."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._older: set[str] = set()
        self._younger: set[str] = set()
        self._since_ms = 0

    def is_new(self, event_id: str, appended_ms: int) -> bool:
        """Return whether the id was not seen, and remember it."""
        if appended_ms - self._since_ms > _HOUR_MS:
            self._older, self._younger, self._since_ms = self._younger, set(), appended_ms
        if event_id in self._younger or event_id in self._older:
            return False
        self._younger.add(event_id)
        return True


def main() -> None:
    """Let events through until told to stop."""
    reads = parsed("BENCH_INPUT_SCHEMA")
    memories: dict[int, Memory] = {}

    def ingest(message: Message, emit: Emit) -> None:
        event = decode(reads, message.value())
        _, appended_ms = message.timestamp()
        if not is_valid(event, appended_ms):
            return
        memory = memories.setdefault(message.partition(), Memory())
        if memory.is_new(event["eventId"], appended_ms):
            emit(message.key(), message.value())

    run(ingest)


if __name__ == "__main__":
    main()
