"""The brake on dead letters: when most of the recent input is dead, somebody should look before more is set aside."""

from collections import deque
from collections.abc import Sequence

from millrace_common.errors import BrakeError

_BLOCKS = 10


class Brake:
    """Counts the dead among the last `window` records, in ten blocks, so that the count fits commit metadata.

    It outlives the process: what was counted is committed with the offsets and restored on assignment. Otherwise each
    restart would set aside another half window of records before it stopped again. A limit of 1 switches it off: then
    it counts nothing and forgets what it knew, as whoever lets dead records pass has seen them.
    """

    def __init__(self, window: int, limit: float) -> None:
        """Trip when more than `limit` (0 to 1; 1: never) of the last `window` records are dead."""
        self._window = window
        self._limit = limit
        self._blocks: deque[tuple[int, int]] = deque([(0, 0)])
        self._kept = tuple(self._blocks)

    def restore(self, counts: Sequence[int]) -> None:
        """Begin with `counts` of a committed brake if they hold more dead records than what is known here."""
        if self._limit >= 1:
            return
        blocks = list(zip(counts[::2], counts[1::2], strict=False))
        if sum(dead for _, dead in blocks) > self._dead():
            self._blocks = deque(blocks)
            self.keep()

    def keep(self) -> None:
        """Take what was counted as final: it is committed."""
        self._kept = tuple(self._blocks)

    def go_back(self) -> None:
        """Forget what was counted since the last `keep`: those records will be read, and counted, again."""
        self._blocks = deque(self._kept)

    def counts(self) -> tuple[int, ...]:
        """Return records and dead records of each block, oldest first; empty if none is dead."""
        return tuple(number for block in self._blocks for number in block) if self._dead() else ()

    def add(self, read: int, dead: int, reason: str) -> None:
        """Count a run of records; `reason` is the commonest one among the dead.

        Raises:
            BrakeError: too many of the recent records are dead.
        """
        if self._limit >= 1:
            return
        records, dead_before = self._blocks[-1]
        self._blocks[-1] = (records + read, dead_before + dead)
        if dead and self._dead() > self._limit * self._window:
            message = (
                f"{self._dead()} of the last {self._records()} records are dead, most recently because of {reason!r}: "
                f"stopped before more are set aside. Mend the producer, or set BRAKE_LIMIT=1 to let them through as "
                f"dead letters"
            )
            raise BrakeError(message)
        if self._blocks[-1][0] >= self._window // _BLOCKS:
            self._blocks.append((0, 0))
            while self._records() - self._blocks[0][0] >= self._window:
                self._blocks.popleft()

    def _dead(self) -> int:
        return sum(dead for _, dead in self._blocks)

    def _records(self) -> int:
        return sum(records for records, _ in self._blocks)
