"""What people are told of a night."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_WARNING: Final = "warn: "
_BAD: Final = ("failed", "upstream_failed")


@dataclass(frozen=True, slots=True)
class Summary:
    """A night in a line.

    Attributes:
        text: for a person.
        failed: whether something failed.
        worth_telling: whether a person should look.
    """

    text: str
    failed: bool
    worth_telling: bool


def summary(day: str, states: Mapping[str, str | None], quality: Sequence[str], skipped: str | None) -> Summary:
    """Return what to tell of the night of `day`.

    Args:
        day: a UTC day.
        states: of each task by its id.
        quality: what the quality report printed.
        skipped: why there was no night; None if there was one.
    """
    failed = sorted(name for name, state in states.items() if state == _BAD[0])
    if failed or any(state == _BAD[1] for state in states.values()):
        return Summary(f"the night of {day} failed: {', '.join(failed)}", True, True)
    if skipped is not None:
        return Summary(f"the night of {day} was left out: {skipped}", False, True)
    warnings = [line.removeprefix(_WARNING) for line in quality if line.startswith(_WARNING)]
    if warnings:
        return Summary(f"the night of {day} is done, with warnings: {'; '.join(warnings)}", False, True)
    return Summary(f"the night of {day} is done", False, False)
