"""Dead letters as people ask for them: which ones, in which groups, and what a replay has done with them so far. Pure.

A letter is the record of topic `dead-letters` that wraps a record which could not be processed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from millrace_common.dead_letters import is_cut
from millrace_common.records import Partition
from millrace_local.errors import LocalStackError

# The only service that knows what it has seen, and whose input is not written by the pipeline itself.
INGEST: Final = "ingest"

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Bytes of a value that a person is shown.
_SHOWN_BYTES: Final = 512


class ChoiceError(LocalStackError):
    """What was asked for cannot be meant."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        place: its own partition, of dead-letters.
        offset: its own.
        service: who refused the record.
        stage: at what.
        reason: one of the stage's closed list.
        detail: what exactly was wrong.
        source: where the record was read.
        source_offset: likewise.
        source_timestamp_ms: the record's, epoch ms.
        key: the record's exact bytes; None: it had none.
        value: likewise; None: a tombstone.
        occurred_at_ms: when it was refused, epoch ms.
    """

    place: Partition
    offset: int
    service: str
    stage: str
    reason: str
    detail: str
    source: Partition
    source_offset: int
    source_timestamp_ms: int
    key: bytes | None
    value: bytes | None
    occurred_at_ms: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is None does not matter.

    Attributes:
        reason: exact.
        service: exact.
        topic: the source topic, in its lane.
        partition: of the source topic.
        offset: in that partition.
        since_ms: refused at or after this, epoch ms.
    """

    reason: str | None = None
    service: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    since_ms: int | None = None

    def has(self, letter: Letter) -> bool:
        """Return whether `letter` is meant."""
        asked_and_found = (
            (self.reason, letter.reason),
            (self.service, letter.service),
            (self.topic, letter.source.topic),
            (self.partition, letter.source.index),
            (self.offset, letter.source_offset),
        )
        return all(asked is None or asked == found for asked, found in asked_and_found) and (
            self.since_ms is None or letter.occurred_at_ms >= self.since_ms
        )


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What letters of one group have in common."""

    service: str
    stage: str
    reason: str
    topic: str

    @classmethod
    def of(cls, letter: Letter) -> "Kind":
        """Return that of `letter`."""
        return cls(letter.service, letter.stage, letter.reason, letter.source.topic)


@dataclass(frozen=True, slots=True)
class Group:
    """The letters of one kind: how many, and when the first and the last was written (epoch ms)."""

    kind: Kind
    count: int
    first_ms: int
    last_ms: int


def grouped(letters: Iterable[Letter]) -> list[Group]:
    """Return the groups, the largest first."""
    groups: dict[Kind, Group] = {}
    for letter in letters:
        kind, at_ms = Kind.of(letter), letter.occurred_at_ms
        known = groups.get(kind, Group(kind, 0, at_ms, at_ms))
        groups[kind] = Group(kind, known.count + 1, min(known.first_ms, at_ms), max(known.last_ms, at_ms))
    return sorted(groups.values(), key=lambda group: (-group.count, group.kind))


def parse_since(text: str, now: datetime) -> int:
    """Return epoch ms of an ISO 8601 time (UTC if it names no zone), or of 90s, 30m, 2h, 7d before `now`.

    Raises:
        ChoiceError: it is neither.
    """
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        since = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text)
        return int((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        message = f"--since takes a time like 2026-01-31T08:00 (UTC) or 90s, 30m, 2h, 7d, not {text}"
        raise ChoiceError(message) from None


def fingerprint(asked: Mapping[str, str | int | None]) -> str:
    """Return 12 characters that stand for the options a replay was asked for with, as they were typed."""
    given = {name: value for name, value in asked.items() if value is not None}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]


def check_replay_id(replay_id: str) -> str:
    """Return `replay_id`.

    Raises:
        ChoiceError: it cannot be part of the name of a group.
    """
    if not _ID.fullmatch(replay_id):
        message = f"--replay-id takes up to 64 letters, digits, dots, dashes and underscores, not {replay_id!r}"
        raise ChoiceError(message)
    return replay_id


class Fate(StrEnum):
    """What a replay does with a letter of its choice."""

    SENT = "sent"
    COPY = "copy"
    IN_LAKE = "in_lake"


def judge(
    earlier: Iterable[Letter], due: Sequence[Letter], in_lake: Sequence[bool], seen: set[bytes]
) -> list[tuple[Letter, Fate]]:
    """Return what to do with each of `due`.

    Copies come from a replay whose records were refused again. ingest judges them itself, and a refused record does
    not make its copy a duplicate there; behind ingest nobody would hold them back.

    Args:
        earlier: letters before them that earlier runs have dealt with.
        due: letters to deal with, in order.
        in_lake: for each of `due` whether the lake has a record of the same id.
        seen: what letters before all of these hold; these are added.
    """
    seen.update(_digest(letter) for letter in earlier if letter.service != INGEST)
    judged = []
    for letter, stored in zip(due, in_lake, strict=True):
        digest = None if letter.service == INGEST else _digest(letter)
        fate = Fate.IN_LAKE if stored else Fate.COPY if digest in seen else Fate.SENT
        if digest is not None:
            seen.add(digest)
        judged.append((letter, fate))
    return judged


def whole(letters: Iterable[Letter], say: Callable[[str], None]) -> Iterator[Letter]:
    """Yield the letters that have every byte of their records; `say` of each other one that it is not sent."""
    for letter in letters:
        if is_cut(letter.detail):
            say(f"{letter.source} offset {letter.source_offset} is not sent, its dead letter is {letter.detail}")
        else:
            yield letter


def _digest(letter: Letter) -> bytes:
    """Return 16 bytes that stand for the record's topic, key and value."""
    content = repr((letter.source.topic, letter.key, letter.value))
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many letters had which fate."""

    sent: int = 0
    copy: int = 0
    in_lake: int = 0

    @classmethod
    def of(cls, fates: Iterable[Fate]) -> "Tally":
        """Count `fates`."""
        listed = list(fates)
        return cls(*(listed.count(fate) for fate in (Fate.SENT, Fate.COPY, Fate.IN_LAKE)))

    @property
    def letters(self) -> int:
        """How many in all."""
        return self.sent + self.copy + self.in_lake

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sums."""
        return Tally(self.sent + other.sent, self.copy + other.copy, self.in_lake + other.in_lake)

    def __sub__(self, other: "Tally") -> "Tally":
        """Return what has come since `other`."""
        return Tally(self.sent - other.sent, self.copy - other.copy, self.in_lake - other.in_lake)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a replay is in one partition of dead-letters; everything is committed with the records it is about.

    Attributes:
        next_offset: letters below it are dealt with.
        end: letters from here on came after the replay had begun and are not part of it.
        fingerprint: of the options it was begun with.
        since_ms: what --since meant when it was begun.
        tally: of the letters that are dealt with.
    """

    next_offset: int
    end: int
    fingerprint: str
    since_ms: int | None = None
    tally: Tally = field(default_factory=Tally)

    def past(self, letter: Letter, fates: Iterable[Fate]) -> "Position":
        """Return the position behind `letter`, the last of those that had `fates`."""
        return replace(self, next_offset=letter.offset + 1, tally=self.tally + Tally.of(fates))

    def metadata(self) -> str:
        """Return what is committed beside the offset: JSON, ASCII."""
        tally = [self.tally.sent, self.tally.copy, self.tally.in_lake]
        fields = {"end": self.end, "asked": self.fingerprint, "since": self.since_ms, "tally": tally}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def committed(cls, offset: int, metadata: str | None) -> "Position":
        """Return the position that was committed.

        Raises:
            LocalStackError: no replay has committed this.
        """
        try:
            fields = json.loads(metadata or "")
            return cls(offset, fields["end"], fields["asked"], fields["since"], Tally(*fields["tally"]))
        except (ValueError, KeyError, TypeError):
            message = f"the replay's group holds offset {offset} with metadata that no replay writes: {metadata!r}"
            raise LocalStackError(message) from None


def text_view(value: bytes | None) -> str:
    """Return bytes as a person can read them: text if it is printable UTF-8, else hexadecimal; long ones are cut."""
    if value is None:
        return "null"
    shown = value[:_SHOWN_BYTES]
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = ""
    view = json.dumps(text, ensure_ascii=False) if text.isprintable() and text else f"hex {shown.hex(' ')}".strip()
    return view if len(shown) == len(value) else f"{view} ... ({len(value)} bytes)"


def as_data(letter: Letter) -> dict[str, Any]:
    """Return the letter as JSON's types, its bytes in hexadecimal."""
    return {
        "source_topic": letter.source.topic,
        "source_partition": letter.source.index,
        "source_offset": letter.source_offset,
        "source_timestamp": iso(letter.source_timestamp_ms),
        "service": letter.service,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "occurred_at": iso(letter.occurred_at_ms),
        "key_hex": None if letter.key is None else letter.key.hex(),
        "value_hex": None if letter.value is None else letter.value.hex(),
    }


def iso(at_ms: int) -> str:
    """Return epoch ms as ISO 8601 in UTC; as the number where it is no time at all."""
    try:
        return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return str(at_ms)
