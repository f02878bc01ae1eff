"""The Avro subjects and the topics of Millrace, as data.

The files live at the top of this folder so that they are found first; a built wheel carries them inside the package.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

SUBJECTS: Final = (
    "dead-letters",
    "ledger",
    "late-events",
    "products",
    "session-metrics",
    "session-updates",
    "transactions",
    "user-events",
    "user-events.enriched",
    "user-profiles",
)

_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Topic:
    """One declared topic. `retention` None means for ever."""

    name: str
    subject: str
    key: str
    partitions: int
    replication_factor: int
    min_insync_replicas: int
    cleanup: str
    retention: timedelta | None
    min_compaction_lag: timedelta | None
    log_append_time: bool
    max_message_bytes: int | None

    def settings(self) -> dict[str, str]:
        """Return the broker's topic settings, names as Kafka spells them."""
        settings = {
            "cleanup.policy": self.cleanup,
            "retention.ms": "-1" if self.retention is None else str(_milliseconds(self.retention)),
            "min.insync.replicas": str(self.min_insync_replicas),
            "message.timestamp.type": "LogAppendTime" if self.log_append_time else "CreateTime",
        }
        if self.min_compaction_lag is not None:
            settings["min.compaction.lag.ms"] = str(_milliseconds(self.min_compaction_lag))
        if self.max_message_bytes is not None:
            settings["max.message.bytes"] = str(self.max_message_bytes)
        return settings


def schema_text(subject: str) -> str:
    """Return the Avro schema of `subject` as JSON text.

    Raises:
        KeyError: the subject is not one of SUBJECTS.
    """
    if subject not in SUBJECTS:
        raise KeyError(subject)
    return (_folder() / f"{subject}.avsc").read_text(encoding="utf-8")


def topics(profile: str = "local", lane: str = "") -> tuple[Topic, ...]:
    """Return every topic as `profile` (local or production) sizes it, in `lane` (empty: the live lane).

    Raises:
        KeyError: no such profile.
    """
    declared: dict[str, Any] = yaml.safe_load((_folder() / "topics.yaml").read_text(encoding="utf-8"))
    replication = declared["profiles"][profile]
    return tuple(
        Topic(
            name=in_lane(entry["name"], lane),
            subject=entry["subject"],
            key=entry["key"],
            partitions=entry["partitions"][profile],
            replication_factor=replication["replication_factor"],
            min_insync_replicas=replication["min_insync_replicas"],
            cleanup=entry["cleanup"],
            retention=None if entry["retention"] == "forever" else _duration(entry["retention"]),
            min_compaction_lag=_duration(entry["min_compaction_lag"]) if "min_compaction_lag" in entry else None,
            log_append_time=entry["timestamps"] == "log_append",
            max_message_bytes=entry.get("max_message_bytes"),
        )
        for entry in declared["topics"]
    )


def in_lane(name: str, lane: str) -> str:
    """Return the name of a topic, group or transactional id in `lane` (empty: the live lane)."""
    return f"{name}.{lane}" if lane else name


@cache
def _folder() -> Path:
    package = Path(__file__).parent
    return package if (package / "topics.yaml").exists() else package.parents[1]


def _duration(text: str) -> timedelta:
    return int(text[:-1]) * _UNITS[text[-1]]


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
