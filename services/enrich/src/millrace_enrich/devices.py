"""What a user agent string says about the device: each distinct agent is parsed once."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pyarrow as pa
import ua_parser

# Distinct agents kept: a big shop sees some ten thousand a day, at about 0.4 KB each.
_REMEMBERED: Final = 16_384
# An honest agent is below 512 characters; what a regular expression may be fed is bounded.
_LONGEST: Final = 1_024

_BOT: Final = re.compile(
    r"bot\b|crawl|spider|slurp|headless|scrap|monitor|preview|^(curl|wget|python|java|go-http|okhttp)", re.IGNORECASE
)
_TELEVISION: Final = re.compile(r"\btv\b|smarttv|bravia|\baft[a-z]", re.IGNORECASE)
_TABLET: Final = re.compile(r"ipad|tablet|kindle|silk/|playbook|nexus (7|9|10)\b", re.IGNORECASE)
_PHONE: Final = re.compile(r"mobi|iphone|ipod|windows phone|blackberry|opera mini", re.IGNORECASE)
_DESKTOP_SYSTEMS: Final = frozenset(
    (
        "Windows",
        "Mac OS X",
        "Linux",
        "Ubuntu",
        "Fedora",
        "Debian",
        "Chrome OS",
        "FreeBSD",
        "OpenBSD",
        "NetBSD",
        "Solaris",
    )
)


class DeviceType(StrEnum):
    """What the visitor held in hand."""

    DESKTOP = "desktop"
    MOBILE = "mobile"
    TABLET = "tablet"
    BOT = "bot"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of an agent; os and browser are families without versions."""

    device_type: DeviceType
    os: str | None
    browser: str | None

    @property
    def is_bot(self) -> bool:
        """Whether no person clicked."""
        return self.device_type is DeviceType.BOT


FACTS: Final = pa.schema(
    {"device_type": pa.string(), "os": pa.string(), "browser": pa.string(), "is_bot": pa.bool_()},
)


class DeviceTable:
    """What is known of each agent, in columns. An agent is parsed once for as long as it is remembered."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        """Begin without agents; with more than `remembered` of them, begin anew."""
        self._remembered = remembered
        self._row_of: dict[str, int] = {}
        self._facts = pa.RecordBatch.from_pylist([], schema=FACTS)

    def join(self, agents: pa.StringArray) -> pa.RecordBatch:
        """Return the FACTS for each of `agents`; each distinct one is looked up once."""
        encoded = agents.dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        new = [agent for agent in distinct if agent not in self._row_of]
        if len(self._row_of) + len(new) > self._remembered:
            self._row_of, self._facts, new = {}, self._facts.slice(0, 0), distinct
        if new:
            self._learn(new)
        rows = np.fromiter(map(self._row_of.__getitem__, distinct), dtype=np.int64, count=len(distinct))
        return self._facts.take(pa.array(rows).take(encoded.indices))

    def _learn(self, agents: list[str]) -> None:
        found = [parse(agent) for agent in agents]
        columns = (
            [device.device_type.value for device in found],
            [device.os for device in found],
            [device.browser for device in found],
            [device.is_bot for device in found],
        )
        learnt = pa.RecordBatch.from_arrays(
            [pa.array(column, kind) for column, kind in zip(columns, FACTS.types, strict=True)], schema=FACTS
        )
        self._row_of.update(zip(agents, range(self._facts.num_rows, self._facts.num_rows + len(agents)), strict=True))
        self._facts = pa.concat_batches([self._facts, learnt])


def parse(agent: str) -> Device:
    """Return what `agent` says; an empty or unknown one is `other` without os and browser."""
    agent = agent[:_LONGEST]
    result = ua_parser.parse(agent)
    system = result.os.family if result.os else None
    browser = result.user_agent.family if result.user_agent else None
    is_spider = result.device is not None and result.device.family == "Spider"
    if is_spider or _BOT.search(agent):
        kind = DeviceType.BOT
    elif _TELEVISION.search(agent):
        kind = DeviceType.OTHER
    elif _TABLET.search(agent) or (system == "Android" and not _PHONE.search(agent)):
        kind = DeviceType.TABLET  # Android tablets are those that do not say "Mobile"
    elif _PHONE.search(agent):
        kind = DeviceType.MOBILE
    elif system in _DESKTOP_SYSTEMS:
        kind = DeviceType.DESKTOP
    else:
        kind = DeviceType.OTHER
    return Device(kind, system, browser)
