"""When each record of a plan is due."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from millrace_generator.traffic import Record

Rate = float | Literal["max", "live"]
"""Records a second; or as fast as the broker takes them; or each at its own time in the shop."""

_AHEAD_SECONDS: Final = 10.0
_AHEAD_RECORDS: Final = 150_000  # some 200 MB, and only before a rush
_PREPARED_AT_ONCE: Final = 20  # a fraction of a millisecond: what is due meanwhile is not held up


class Schedule:
    """Records in sending order with their intended times, in seconds after the first one's.

    They are made when they are taken, or before, by `prepare`.
    """

    def __init__(self, records: Iterable[Record], rate: Rate) -> None:
        """Begin at the first of `records`."""
        self._coming = _with_due_times(records, rate)
        self._ready: deque[tuple[float, Record]] = deque()

    def next_due(self) -> float | None:
        """Return when the next record is due; None at the end."""
        return self._ready[0][0] if self._ready or self._make() else None

    def take(self, until_seconds: float, at_most: int) -> list[Record]:
        """Return the next records that are due by then."""
        taken: list[Record] = []
        while len(taken) < at_most and (self._ready or self._make()) and self._ready[0][0] <= until_seconds:
            taken.append(self._ready.popleft()[1])
        return taken

    def prepare(self) -> bool:
        """Make a few more records of the near future; False if enough are ready."""
        for _ in range(_PREPARED_AT_ONCE):
            ready = self._ready
            if ready and (ready[-1][0] - ready[0][0] > _AHEAD_SECONDS or len(ready) >= _AHEAD_RECORDS):
                return False
            if not self._make():
                return False
        return True

    def _make(self) -> bool:
        coming = next(self._coming, None)
        if coming is None:
            return False
        self._ready.append(coming)
        return True


def _with_due_times(records: Iterable[Record], rate: Rate) -> Iterator[tuple[float, Record]]:
    origin_ms: int | None = None
    for index, record in enumerate(records):
        if origin_ms is None:
            origin_ms = record.at_ms
        if rate == "max":
            yield 0.0, record
        elif rate == "live":
            yield (record.at_ms - origin_ms) / 1000, record
        else:
            yield index / rate, record
