"""Places where the process kills itself if it was told to: how the tests die at an exact instruction.

Off unless the setting FAILPOINT names one of them; then passing by costs one call that returns at once.
"""

import logging
import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final

_log = logging.getLogger(__name__)

# What the log says last; the failpoint's name follows.
LAST_WORDS: Final = "killing this process at a failpoint"


class Failpoint(StrEnum):
    """Both sides of every step that makes something durable: the closed list."""

    PRODUCE_BEFORE = "produce.before"
    PRODUCE_AFTER = "produce.after"
    SEND_OFFSETS_BEFORE = "send_offsets.before"
    SEND_OFFSETS_AFTER = "send_offsets.after"
    COMMIT_TRANSACTION_BEFORE = "commit_transaction.before"
    COMMIT_TRANSACTION_AFTER = "commit_transaction.after"
    SNAPSHOT_BEFORE = "snapshot.before"
    SNAPSHOT_BEFORE_RENAME = "snapshot.before_rename"
    SNAPSHOT_AFTER = "snapshot.after"
    DELTA_COMMIT_BEFORE = "delta_commit.before"
    DELTA_COMMIT_AFTER = "delta_commit.after"
    GROUP_COMMIT_BEFORE = "group_commit.before"
    GROUP_COMMIT_AFTER = "group_commit.after"


@dataclass(frozen=True, slots=True)
class Aim:
    """Where to die: when `failpoint` is passed for the time number `passage`, counted from 1."""

    failpoint: Failpoint
    passage: int = 1

    def __str__(self) -> str:
        """Return the text that `parse` understands."""
        return f"{self.failpoint}:{self.passage}"

    @classmethod
    def parse(cls, text: str) -> "Aim":
        """Return what `name` or `name:passage` says.

        Raises:
            ValueError: there is no such failpoint, or the passage is not a number from 1 on.
        """
        name, _, passage = text.partition(":")
        if name not in list(Failpoint):
            message = f"no such failpoint; there are {', '.join(Failpoint)}"
            raise ValueError(message)
        if passage and not (passage.isdecimal() and int(passage) >= 1):
            message = "the passage behind the colon must be a number from 1 on"
            raise ValueError(message)
        return cls(Failpoint(name), int(passage or 1))


class _Trap:
    """What this process was told."""

    def __init__(self) -> None:
        self.aim: Aim | None = None
        self.passages = count(1)

    def spring(self, aim: Aim) -> None:
        if next(self.passages) == aim.passage:
            _log.critical(LAST_WORDS, extra={"failpoint": aim.failpoint, "passage": aim.passage})
            os.kill(os.getpid(), signal.SIGKILL)


_trap: Final = _Trap()


def arm(aim: Aim | None) -> None:
    """Die at `aim` from now on; None: nowhere."""
    _trap.aim, _trap.passages = aim, count(1)
    if aim is not None:
        _log.warning("a failpoint is armed", extra={"failpoint": aim.failpoint, "passage": aim.passage})


def reach(failpoint: Failpoint) -> None:
    """Pass by `failpoint`; the process ends here if it was told to. Callable from any thread."""
    aim = _trap.aim
    if aim is not None and aim.failpoint is failpoint:
        _trap.spring(aim)
