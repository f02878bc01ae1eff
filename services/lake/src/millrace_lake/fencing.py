"""Who owns a partition's position in a table: pure decisions, without I/O."""

from collections.abc import Mapping
from enum import Enum, auto


class Standing(Enum):
    """Where a table stands with the positions that a commit starts from and leads to."""

    UNTOUCHED = auto()
    """Nobody moved a position of ours: the commit may be tried."""
    REACHED = auto()
    """Every position is where the commit leads: it, or a commit just like it, is in the table."""
    MOVED = auto()
    """Somebody else moved a position: rows of the commit may be in the table already."""


def standing(held: Mapping[str, int | None], begin: Mapping[str, int | None], end: Mapping[str, int]) -> Standing:
    """Compare the positions a table holds with where a commit begins and ends.

    All mappings are by application id; None: the table has no position yet.
    """
    if all(held[app] == begin[app] for app in end):
        return Standing.UNTOUCHED
    if all(held[app] == end[app] for app in end):
        return Standing.REACHED
    return Standing.MOVED


def moved(held: Mapping[str, int | None], begin: Mapping[str, int | None]) -> str:
    """Return, for a message, which positions are not where they were left."""
    return ", ".join(
        f"{app} was left at {begin[app]} and is at {held[app]}" for app in sorted(begin) if held[app] != begin[app]
    )
