"""When to commit: often enough for fresh tables, seldom enough that committing does not become the work."""

from dataclasses import dataclass
from typing import Final

# A commit may take at most this share of the time.
_COMMITS_TO_INTERVAL: Final = 4
_WEIGHT_OF_LATEST: Final = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may grow to.

    Attributes:
        rows: commit at once when as many wait.
        size_bytes: in memory; likewise.
        interval_seconds: commit when the oldest row has waited as long.
    """

    rows: int
    size_bytes: int
    interval_seconds: float


class Pace:
    """Decides when a table's waiting rows are due; the clock is given."""

    def __init__(self, limits: Limits) -> None:
        """Begin without having seen a commit."""
        self._limits = limits
        self._commit_seconds = 0.0

    @property
    def interval_seconds(self) -> float:
        """How long rows may wait: as configured, but never under four times what a commit takes."""
        return max(self._limits.interval_seconds, _COMMITS_TO_INTERVAL * self._commit_seconds)

    def due(self, rows: int, size_bytes: int, waited_seconds: float) -> bool:
        """Return whether a batch of `rows` that has waited as long is to be committed now."""
        return (
            rows >= self._limits.rows
            or size_bytes >= self._limits.size_bytes
            or waited_seconds >= self.interval_seconds
        )

    def committed(self, seconds: float) -> None:
        """Learn what a commit took; a single slow one counts for a fifth."""
        if not self._commit_seconds:
            self._commit_seconds = seconds
        self._commit_seconds += _WEIGHT_OF_LATEST * (seconds - self._commit_seconds)
