"""How long a restart would take now: an estimate from what this process has measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from millrace_common.records import Partition
from millrace_common.snapshots import Snapshot

# What a process assumes until it has measured it: offsets a second replayed, bytes of state a second loaded.
ASSUMED_OFFSETS_PER_SECOND = 100_000.0
ASSUMED_BYTES_PER_SECOND = 20_000_000.0
# A poll of so many records tells what a record costs; a smaller one, what a poll does.
TELLING_RECORDS = 1_000
# Of what was measured before, when something new is.
_WEIGHT_OF_THE_PAST = 0.8


@dataclass(slots=True)
class Speed:
    """Units a second, the latest measurements counting most; `assumed` until there is one."""

    assumed: float
    _units: float = 0.0
    _seconds: float = 0.0

    def measured(self, units: float, seconds: float) -> None:
        """Take note that so many units took so many seconds of work."""
        self._units = self._units * _WEIGHT_OF_THE_PAST + units
        self._seconds = self._seconds * _WEIGHT_OF_THE_PAST + seconds

    @property
    def per_second(self) -> float:
        """Return the speed."""
        return self._units / self._seconds if self._units > 0 and self._seconds > 0 else self.assumed


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a partition would be restored from: the offset where a replay begins, and the size of the state there."""

    offset: int
    state_bytes: int = 0


@dataclass(slots=True)
class RestartEstimate:
    """Seconds from the death of this process until another one has its state at the committed offsets.

    takeover_seconds + bytes of the newest snapshots / loading speed + offsets behind them / replay speed

    - takeover_seconds: the session timeout. A killed process keeps its partitions that long; the new one starts
      meanwhile. After a clean stop it is only the start of the process.
    - The loading speed is that of this process when it was assigned state: listing, reading, checking, restoring.
      A process that never was has at least written some, which takes the same steps the other way.
    - The replay speed is that of large polls, live or replayed: records over the time until the next poll. What a
      replay leaves out (output, commits) pays for what is left out here (fetching).

    All partitions of the process are added up: one thread loads and replays them. Snapshots are written by another
    thread; each call replaces values whole, so that nothing is locked.
    """

    takeover_seconds: float = 0.0
    replaying: Speed = field(default_factory=lambda: Speed(ASSUMED_OFFSETS_PER_SECOND))
    loading: Speed = field(default_factory=lambda: Speed(ASSUMED_BYTES_PER_SECOND))
    writing: Speed = field(default_factory=lambda: Speed(ASSUMED_BYTES_PER_SECOND))
    _saved: dict[Partition, _Saved] = field(default_factory=dict)
    _polled_at: float = 0.0
    _fetched_bytes: int = 0
    _fetching_seconds: float = 0.0

    def begun(self, partition: Partition, offset: int, state: pa.Table | None) -> None:
        """Take note of where `partition` begins, and with which state; the flow gets it with this poll."""
        self._saved[partition] = _Saved(offset, 0 if state is None else state.nbytes)
        self._fetched_bytes += self._saved[partition].state_bytes

    def fetched(self, seconds: float) -> None:
        """Take note of how long it took to find out where partitions begin, and to read their states."""
        self._fetching_seconds += seconds

    def polled(self, now: float) -> None:
        """Take note that the flow gets what was polled."""
        self._polled_at = now

    def worked(self, now: float, records: int) -> None:
        """Take note that the flow has done what it got: so many records, or state to begin with."""
        seconds = now - self._polled_at
        if self._fetched_bytes:
            self.loading.measured(self._fetched_bytes, self._fetching_seconds + seconds)
        elif records >= TELLING_RECORDS:
            self.replaying.measured(records, seconds)
        self._fetched_bytes, self._fetching_seconds = 0, 0.0

    def written(self, snapshot: Snapshot, seconds: float) -> None:
        """Take note of a snapshot that was written, in so many seconds."""
        self._saved[snapshot.partition] = _Saved(snapshot.offset, snapshot.state.nbytes)
        self.writing.measured(snapshot.state.nbytes, seconds)
        self.loading.assumed = self.writing.per_second

    def seconds(self, positions: Mapping[Partition, int]) -> float:
        """Return the estimate for a process that owns the keys of `positions`, each read up to that offset."""
        state_bytes, behind = 0, 0
        for partition, offset in positions.items():
            saved = self._saved.get(partition, _Saved(offset))
            state_bytes += saved.state_bytes
            behind += max(0, offset - saved.offset)
        loading_seconds = state_bytes / self.loading.per_second
        return self.takeover_seconds + loading_seconds + behind / self.replaying.per_second
