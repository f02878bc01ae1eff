"""The way between clients and broker, on which a call may be lost, answered late or never, or be the caller's last."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from millrace_common.memory_kafka import MemoryKafka, failure

# The calls that something can happen to on their way; others ask nobody.
CALLS: Final = (
    "committed",
    "init_transactions",
    "produce_batch",
    "send_offsets",
    "commit_transaction",
    "abort_transaction",
)


class Killed(BaseException):
    """The process is gone at this very instruction."""


class Fate(Enum):
    """What becomes of a call."""

    KILLED_BEFORE = auto()
    KILLED_AFTER = auto()
    REQUEST_LOST = auto()
    ANSWER_LOST = auto()
    REQUEST_LATE = auto()  # it times out, and takes effect some time later
    REFUSED = auto()
    PAUSED_BEFORE = auto()
    PAUSED_AFTER = auto()


@dataclass(frozen=True, slots=True)
class Trap:
    """The fate of one call: of the next one of that name after `calls_before` others of the same name.

    If it is `overtaken`, all late requests take effect just before. `meanwhile` is what happens in the world while the
    process is paused.
    """

    call: str
    fate: Fate
    calls_before: int = 0
    overtaken: bool = False
    meanwhile: Callable[[], None] = lambda: None


class SimulatedKafka(MemoryKafka):
    """A Kafka in memory behind a network.

    Attributes:
        traps: what waits for the process that is running; of those for the same call, one after the other.
        late: requests that are still on their way.
    """

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__(counts)
        self.traps: list[Trap] = []
        self.late: list[Callable[[], None]] = []

    def perform(self, call: str, effect: str | None, work: Callable[[], None]) -> None:
        """Do `work`, or let the trap decide what becomes of it."""
        trap = self._sprung(call)
        match trap.fate if trap is not None else None:
            case Fate.KILLED_BEFORE:
                raise Killed
            case Fate.REQUEST_LOST:
                raise failure(KafkaError._TIMED_OUT, retriable=True)
            case Fate.REQUEST_LATE:
                self.late.append(work)
                raise failure(KafkaError._TIMED_OUT, retriable=True)
            case Fate.REFUSED:
                raise failure(KafkaError.ILLEGAL_GENERATION, abort=True)
            case Fate.PAUSED_BEFORE if trap is not None:
                trap.meanwhile()
        work()
        match trap.fate if trap is not None else None:
            case Fate.KILLED_AFTER:
                raise Killed
            case Fate.ANSWER_LOST:
                raise failure(KafkaError._TIMED_OUT, retriable=True)
            case Fate.PAUSED_AFTER if trap is not None:
                trap.meanwhile()

    def take_failure(self, call: str) -> tuple[KafkaException, bool] | None:
        """Let the trap decide about a call that only queues: it is not a request."""
        trap = self._sprung(call)
        match trap.fate if trap is not None else None:
            case Fate.KILLED_BEFORE | Fate.KILLED_AFTER:
                raise Killed
            case Fate.REFUSED:
                return failure(KafkaError.MSG_SIZE_TOO_LARGE), False
            case Fate.PAUSED_BEFORE | Fate.PAUSED_AFTER if trap is not None:
                trap.meanwhile()
        return None

    def deliver(self, number: int) -> None:
        """Let a late request arrive; nobody hears the answer."""
        if self.late:
            try:
                self.late.pop(number % len(self.late))()
            except KafkaException:  # refused, as a late one should be
                return

    def deliver_all(self) -> None:
        """Let all late requests arrive."""
        while self.late:
            self.deliver(0)

    def _sprung(self, call: str) -> Trap | None:
        trap = next((trap for trap in self.traps if trap.call == call), None)
        if trap is None:
            return None
        place = self.traps.index(trap)
        if trap.calls_before:
            self.traps[place] = replace(trap, calls_before=trap.calls_before - 1)
            return None
        del self.traps[place]
        if trap.overtaken:
            self.deliver_all()
        return trap
