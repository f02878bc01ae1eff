"""Which partitions this process owns: shared by the source that gains and loses them and the sink that commits."""

from collections.abc import Callable, Collection, Mapping

from millrace_common.records import Committed, Partition

Handler = Callable[[Collection[Partition]], None]


class Assignments:
    """The owned partitions, each with its generation: a number that grows with every assignment and every rewind.

    One thread: the source and the sink of a single-worker flow, and the client's rebalance callbacks inside a poll.
    """

    def __init__(self) -> None:
        """Begin without a partition."""
        self._generations: dict[Partition, int] = {}
        self._latest_generation = 0
        self._rewind_reason: str | None = None
        self.on_revoke: Handler = lambda partitions: None
        self.on_lost: Handler = lambda partitions: None
        # Called once a poll, told whether the one before brought no record: a sink only hears of items, and what it
        # holds may be due when none come.
        self.on_poll: Callable[[bool], None] = lambda nothing_waits: None
        # Called before owned partitions go back: what is read again must not join, in one transaction, what was taken.
        self.on_rewind: Callable[[], object] = lambda: None
        self.committed: dict[Partition, Committed | None] = {}
        self.topic_ids: dict[str, str] = {}

    def begin(self, positions: Mapping[Partition, Committed | None]) -> dict[Partition, int]:
        """Own the partitions of `positions` from their committed offsets on; return their new generations."""
        for partition, committed in positions.items():
            self._latest_generation += 1
            self._generations[partition] = self._latest_generation
            self.committed[partition] = committed
        return {partition: self._generations[partition] for partition in positions}

    def end(self, partitions: Collection[Partition]) -> None:
        """Own `partitions` no more; whatever is still on its way for them will be dropped."""
        for partition in partitions:
            self._generations.pop(partition, None)
            self.committed.pop(partition, None)

    def is_current(self, partition: Partition, generation: int) -> bool:
        """Return whether effects of this generation may still be made durable."""
        return self._rewind_reason is None and self._generations.get(partition) == generation

    def owned(self) -> tuple[Partition, ...]:
        """Return the owned partitions, sorted."""
        return tuple(sorted(self._generations))

    def request_rewind(self, reason: str) -> None:
        """Have the source take every owned partition back to its committed offset; until then nothing is current."""
        self._rewind_reason = self._rewind_reason or reason

    def take_rewind_request(self) -> str | None:
        """Return why a rewind was asked for, once; None if it was not."""
        reason, self._rewind_reason = self._rewind_reason, None
        return reason
