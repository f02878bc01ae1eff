"""Services die at chosen instructions: on both sides of every step that makes something durable."""

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from confluent_kafka import Producer

from arms.arm import Arm
from bench import Bench, TortureError
from millrace_common.codec import RowEncoder
from millrace_common.failpoints import LAST_WORDS, Aim, Failpoint
from millrace_common.registry import SchemaRegistry
from millrace_local.stack import wait_until
from millrace_schemas import schema_text

_TRANSACTION: Final = (
    Failpoint.PRODUCE_BEFORE,
    Failpoint.PRODUCE_AFTER,
    Failpoint.SEND_OFFSETS_BEFORE,
    Failpoint.SEND_OFFSETS_AFTER,
    Failpoint.COMMIT_TRANSACTION_BEFORE,
    Failpoint.COMMIT_TRANSACTION_AFTER,
)
_SNAPSHOT: Final = (Failpoint.SNAPSHOT_BEFORE, Failpoint.SNAPSHOT_BEFORE_RENAME, Failpoint.SNAPSHOT_AFTER)
_TABLE: Final = (
    Failpoint.DELTA_COMMIT_BEFORE,
    Failpoint.DELTA_COMMIT_AFTER,
    Failpoint.GROUP_COMMIT_BEFORE,
    Failpoint.GROUP_COMMIT_AFTER,
)
# Every failpoint that a service passes. The transactions of lake are those of its dead letters.
_EDGES: Final[Mapping[str, tuple[Failpoint, ...]]] = {
    "ingest": (*_TRANSACTION, *_SNAPSHOT),
    "enrich": _TRANSACTION,
    "sessionize": (*_TRANSACTION, *_SNAPSHOT),
    "lake": (*_TRANSACTION, *_TABLE),
}
# The latest passage to die at: about a second of work.
_LATEST_PASSAGE: Final = {
    "produce": 20,
    "send_offsets": 8,
    "commit_transaction": 8,
    "snapshot": 3,
    "delta_commit": 3,
    "group_commit": 20,
}
# An order over so much fits no table of lake, and ingest lets it pass.
_UNPAYABLE: Final = 2.0e14
_UNPAYABLE_ORDERS: Final = 4
_SEND_AGAIN_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 300.0


def die_at_every_edge(bench: Bench) -> None:
    """Let each service die at each of its failpoints, all services at the same time and each in an order of its own."""
    orders = _UnpayableOrders(bench)
    victims = [_Victim(bench, title, edges, orders) for title, edges in _EDGES.items()]
    while alive := [victim for victim in victims if not victim.done]:
        wait_until(partial(_one_has_died, alive), _SEND_AGAIN_SECONDS)
        for victim in alive:
            victim.go_on()
    began = time.monotonic()
    bench.stack.wait_ready()
    bench.recoveries_seconds.append(time.monotonic() - began)


class _Victim:
    """One service on its way through its failpoints."""

    def __init__(self, bench: Bench, title: str, edges: Sequence[Failpoint], orders: "_UnpayableOrders") -> None:
        self._bench = bench
        self._title = title
        self._orders = orders
        self._edges = list(edges) * bench.form.rounds
        bench.chance.shuffle(self._edges)
        self._next()

    def has_died(self) -> bool:
        """Return whether it died, and where it should."""
        return self._bench.state(self._title).restarts > self._restarts and self._said() > self._said_before

    def go_on(self) -> None:
        """Send it to the next failpoint if it died at this one.

        Raises:
            TortureError: it takes too long to.
        """
        if self.has_died():
            self._bench.struck[f"{self._aim.failpoint} {self._title}"] += 1
            self._next()
        elif time.monotonic() > self._deadline:
            message = f"{self._title} did not die at {self._aim}:\n{self._bench.stack.log_tail(self._title)}"
            raise TortureError(message)
        elif self._waits_for_orders:
            self._orders.send()

    def _next(self) -> None:
        self.done = not self._edges
        if self.done:
            self._bench.stack.change_service(self._title, {"FAILPOINT": ""})
            return
        edge = self._edges.pop()
        # The dead letters of lake are few.
        self._waits_for_orders = self._title == "lake" and edge in _TRANSACTION
        latest = 1 if self._waits_for_orders else _LATEST_PASSAGE[edge.partition(".")[0]]
        self._aim = Aim(edge, self._bench.chance.randint(1, latest))
        self._restarts, self._said_before = self._bench.state(self._title).restarts, self._said()
        self._bench.stack.change_service(self._title, {"FAILPOINT": str(self._aim)})
        self._deadline = time.monotonic() + _PATIENCE_SECONDS

    def _said(self) -> int:
        """Return how often it has said that it dies there."""
        return self._bench.said(self._title, f'"message": "{LAST_WORDS}", "failpoint": "{self._aim.failpoint}"')


def _one_has_died(victims: Sequence[_Victim]) -> bool:
    return any(victim.has_died() for victim in victims)


class _UnpayableOrders:
    """Sends orders that become dead letters of lake, and of no other service."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._producer = Producer(
            {"bootstrap.servers": bench.stack.bootstrap_servers, "enable.idempotence": True, "log_level": 0}
        )
        schema = schema_text("transactions")
        registry = SchemaRegistry({"url": bench.stack.registry_url})
        self._encoder = RowEncoder(schema, registry.schema_id("transactions", schema))

    def send(self) -> None:
        """Send a few, and note what is to be expected of them."""
        for _ in range(_UNPAYABLE_ORDERS):
            order_id = str(uuid.uuid4())
            value = self._encoder.encode(
                {
                    "transactionId": order_id,
                    "userId": "somebody",
                    "orderItems": [{"productId": "p", "quantity": 1, "price": _UNPAYABLE, "category": "c"}],
                    "totalAmount": _UNPAYABLE,
                    "currency": "USD",
                    "paymentMethod": "card",
                    "status": "created",
                    "timestamp": int(time.time() * 1_000),
                }
            )
            self._producer.produce("transactions", key=order_id.encode(), value=value)
            digest = hashlib.sha256(value).hexdigest()
            self._bench.dead_besides["transactions.valid", "lake", "out_of_range", digest] += 1
        if self._producer.flush(_PATIENCE_SECONDS):
            message = "orders could not be sent"
            raise TortureError(message)


ARMS: Final = (
    Arm(
        "failpoints",
        "every service dies on both sides of each step that makes something durable: produce, send_offsets, "
        "commit_transaction, snapshot, Delta commit, group commit",
        die_at_every_edge,
        fires={f"{edge} {title}": 1 for title, edges in _EDGES.items() for edge in edges},
        # The least that brokers allow: until then the group waits for the dead, and there are many.
        environment={"SESSION_TIMEOUT_SECONDS": "6"},
        length=3,
    ),
)
