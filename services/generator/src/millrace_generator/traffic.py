"""What flows from a source of traffic through the faults to the sender.

A source is a `Plan`: products to upsert first, then records in the order in which they are to be sent. Every record
carries its exact bytes and, beside them, what the truth needs to know. All times are epoch milliseconds, UTC; money is
in cents.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import chain
from typing import Final, Literal, NamedTuple

EVENTS: Final = "user-events"
ORDERS: Final = "transactions"
PRODUCTS: Final = "products"
PROFILES: Final = "user-profiles"
TOPICS: Final = (EVENTS, ORDERS, PRODUCTS, PROFILES)

Kind = Literal["page_view", "click", "purchase", "add_to_cart", "search"]
KINDS: Final[tuple[Kind, ...]] = ("page_view", "click", "purchase", "add_to_cart", "search")


class FaultKind(StrEnum):
    """What is wrong with a record, or with the moment at which it is sent."""

    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    INVALID = "invalid"
    HELD_BACK = "held_back"
    OUT_OF_ORDER = "out_of_order"


HARMLESS: Final = frozenset({FaultKind.HELD_BACK, FaultKind.OUT_OF_ORDER})
"""Faults of the moment only: the record itself is good and counts."""


class Fault(NamedTuple):
    """One injected fault; stage and reason are those of the dead letter to expect, empty where none is."""

    kind: FaultKind
    stage: str = ""
    reason: str = ""


class Event(NamedTuple):
    """What sessions are made of."""

    event_id: str
    user_id: str | None
    session_id: str
    kind: Kind
    time_ms: int
    product_id: str | None = None
    page: str | None = None
    amount_cents: int | None = None


class Order(NamedTuple):
    """One status of an order."""

    transaction_id: str
    status: str
    time_ms: int
    total_cents: int


class Record(NamedTuple):
    """One Kafka record to send.

    Attributes:
        topic: without its lane.
        key: exact bytes.
        value: exact bytes.
        at_ms: the shop's time at which it is sent; never falls along a stream. A held-back event's own time is earlier.
        about: what a good record says, or what a duplicate repeats.
        fault: None for a plain good record.
    """

    topic: str
    key: bytes
    value: bytes
    at_ms: int
    about: Event | Order | None = None
    fault: Fault | None = None

    @property
    def good(self) -> bool:
        """Whether the pipeline must take it, once."""
        return self.fault is None or self.fault.kind in HARMLESS


SchemaIds = Mapping[str, int]
"""The registry's id of each subject in TOPICS."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Traffic that can be opened again and again, each time with the same records.

    Attributes:
        title: a few words for the progress bar.
        expected_events: good events in `records`, about; never far off.
        upserts: products, sent and acknowledged before the first of `records`.
        records: everything else, in sending order.
        disorder: how far an event's time may lie behind the largest one before it.
        facts: what made the plan (seed, file, counts), for the truth's first line.
    """

    title: str
    expected_events: int
    upserts: Callable[[SchemaIds], Iterator[Record]]
    records: Callable[[SchemaIds], Iterator[Record]]
    disorder: timedelta = timedelta(0)
    facts: Mapping[str, object] = field(default_factory=dict)


def one_after_another(plans: Sequence[Plan]) -> Plan:
    """Return the traffic of `plans`, one sent after another; all upserts come first.

    Raises:
        ValueError: there is no plan.
    """
    if not plans:
        message = "no plan to send"
        raise ValueError(message)
    if len(plans) == 1:
        return plans[0]
    return Plan(
        title=" + ".join(plan.title for plan in plans),
        expected_events=sum(plan.expected_events for plan in plans),
        upserts=lambda schema_ids: chain.from_iterable(plan.upserts(schema_ids) for plan in plans),
        records=lambda schema_ids: chain.from_iterable(plan.records(schema_ids) for plan in plans),
        disorder=max(plan.disorder for plan in plans),
        facts={"parts": [dict(plan.facts) for plan in plans]},
    )
