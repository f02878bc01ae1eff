"""Turns good traffic into traffic as it really comes: repeated, broken, wrong, late and out of order.

Duplicates, malformed and invalid records are sent in addition to the good ones; late and out-of-order ones are good
ones held back. Everything depends on the seed and the plan alone.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final

from millrace_generator.broken import Breaker
from millrace_generator.errors import InputError
from millrace_generator.sessions import Rules
from millrace_generator.traffic import EVENTS, ORDERS, Event, Fault, FaultKind, Plan, Record, SchemaIds

OUT_OF_ORDER_SHARE: Final = 0.1
"""Of the good events, when events out of order are asked for."""

_MS: Final = timedelta(milliseconds=1)
_SHORTEST_REPEAT_MS: Final = 100
_LONGEST_REPEAT_MS: Final = 20_000

# Past gap and allowed lateness (35 minutes together) by enough for most sessions to be over by then.
_SHORTEST_LATE: Final = timedelta(minutes=36)
_LONGEST_LATE: Final = timedelta(minutes=90)


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults to add, as shares of the good records.

    Attributes:
        duplicates: records sent again, the same bytes, up to 20 s of the shop's time later.
        malformed: additional records that cannot be decoded.
        invalid: additional records that break a rule.
        late: events held back 36 to 90 minutes of event time. Most of them come after their session is over; the truth
            says which.
        out_of_order: a tenth of the events is held back by up to this much event time; below the allowed lateness.
        seed: of the choice.
    """

    duplicates: float = 0.0
    malformed: float = 0.0
    invalid: float = 0.0
    late: float = 0.0
    out_of_order: timedelta = timedelta(0)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: a share is not between 0 and 1, or the delay is not what the pipeline repairs.
        """
        for name in ("duplicates", "malformed", "invalid", "late"):
            if not 0 <= getattr(self, name) <= 1:
                message = f"{name} is {getattr(self, name)}: a share lies between 0 and 1"
                raise InputError(message)
        allowed = timedelta(milliseconds=Rules().allowed_lateness_ms)
        if not timedelta(0) <= self.out_of_order < allowed:
            message = (
                f"out_of_order is {self.out_of_order}: a delay below {allowed} is repaired, for more there is late"
            )
            raise InputError(message)

    @property
    def any(self) -> bool:
        """Whether there is anything to add."""
        return self != replace(Faults(), seed=self.seed)


def with_faults(plan: Plan, faults: Faults) -> Plan:
    """Return `plan` with `faults` in it."""
    if not faults.any:
        return plan
    longest = max(_LONGEST_LATE if faults.late else timedelta(0), faults.out_of_order)
    described = asdict(faults) | {"out_of_order": faults.out_of_order.total_seconds()}
    return replace(
        plan,
        records=partial(_with_faults, plan.records, faults),
        disorder=plan.disorder + longest,
        facts={**plan.facts, "faults": described},
    )


class _HeldBack:
    """Records to be sent at a later time of the shop, earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Record]] = []
        self._serial = 0

    def add(self, release_ms: int, record: Record) -> None:
        self._serial += 1  # among equal times the first one added comes first
        heapq.heappush(self._heap, (release_ms, self._serial, record._replace(at_ms=release_ms)))

    def until(self, at_ms: int) -> Iterator[Record]:
        while self._heap and self._heap[0][0] <= at_ms:
            yield heapq.heappop(self._heap)[2]

    def rest(self, at_ms: int) -> Iterator[Record]:
        """Yield all that is left, at one time: nobody waits for an hour after the end of the traffic."""
        while self._heap:
            yield heapq.heappop(self._heap)[2]._replace(at_ms=at_ms)


def _with_faults(
    good: Callable[[SchemaIds], Iterator[Record]], faults: Faults, schema_ids: Mapping[str, int]
) -> Iterator[Record]:
    chance = Random(faults.seed)  # noqa: S311 - reproducible, not secret
    breaker = Breaker(schema_ids, chance)
    held = _HeldBack()
    at_ms = 0
    for record in good(schema_ids):
        at_ms = record.at_ms
        yield from held.until(at_ms)
        if record.topic not in (EVENTS, ORDERS) or not record.good:
            yield record
            continue
        release_ms, fault = _release(record, faults, chance)
        if fault is None:
            yield record
        else:
            held.add(release_ms, record._replace(fault=fault))
        if chance.random() < faults.duplicates:
            repeat_ms = _between(chance, _SHORTEST_REPEAT_MS, _LONGEST_REPEAT_MS)
            held.add(release_ms + repeat_ms, record._replace(fault=Fault(FaultKind.DUPLICATE)))
        if chance.random() < faults.malformed:
            yield breaker.malformed(record)
        if chance.random() < faults.invalid:
            yield breaker.invalid(record)
    yield from held.rest(at_ms)


def _release(record: Record, faults: Faults, chance: Random) -> tuple[int, Fault | None]:
    """Return the shop's time at which `record` is sent, and as what it is held back until then."""
    if not isinstance(record.about, Event):
        return record.at_ms, None
    draw = chance.random()
    if draw < faults.late:
        delay_ms, kind = _between(chance, _SHORTEST_LATE // _MS, _LONGEST_LATE // _MS), FaultKind.HELD_BACK
    elif faults.out_of_order and draw < faults.late + OUT_OF_ORDER_SHARE:
        delay_ms, kind = _between(chance, 1, faults.out_of_order // _MS), FaultKind.OUT_OF_ORDER
    else:
        return record.at_ms, None
    # What is out of order as it is comes no later for it than another event.
    return max(record.at_ms, record.about.time_ms + delay_ms), Fault(kind)


def _between(chance: Random, lowest: int, highest: int) -> int:
    return lowest + int(chance.random() * (highest - lowest + 1))
