"""A proxy between Kafka clients and a broker that spoils chosen requests and answers.

It knows of the protocol only what it needs: every frame begins with its size, a request goes on with API key, version,
correlation id and client id, an answer with the correlation id. Everything else is passed on as it came, in order; what
waits makes all behind it on its connection wait, as on a wire.
"""

import asyncio
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from threading import Thread
from typing import Final

from millrace_local.ports import LOOPBACK, SideDoor

# Fetches bring up to 8 MiB.
_BUFFER_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct(">hhih")
_SIZE: Final = struct.Struct(">i")
_START_SECONDS: Final = 10.0


class Api(IntEnum):
    """The requests that can be spoilt, by their API key (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Fault(Enum):
    """What can happen to a request and its answer."""

    DELAY_ANSWER = "answer delayed"
    LOSE_ANSWER = "answer lost"
    """The broker has done it, and the client waits in vain."""
    CUT_ANSWER = "answer cut off"
    """The broker has done it, and the connection breaks."""
    LOSE_REQUEST = "request lost"
    CUT_REQUEST = "request cut off"
    DUPLICATE = "request sent twice"
    """The client gets the first answer."""
    HOLD = "request held back"
    """Until the same client's next request of the rule's kind `until` was answered; it outlives its connection."""


@dataclass(slots=True, eq=False)
class Rule:
    """One fault for one kind of request of one client.

    Attributes:
        client: its client id.
        api: the kind of request.
        fault: what happens to it.
        times: so often; then the rule rests.
        seconds: how long an answer is delayed.
        until: what a held request waits for.
        fired: how often it has happened.
        fired_seconds: when it happened last, monotonic.
        late_errors: what the broker answered to held requests: error codes, 0: it was done.
    """

    client: str
    api: Api
    fault: Fault
    times: int = 1
    seconds: float = 0.0
    until: Api | None = None
    fired: int = 0
    fired_seconds: float = 0.0
    late_errors: list[int] = field(default_factory=list)
    _release: asyncio.Event = field(default_factory=asyncio.Event)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    def __str__(self) -> str:
        """Return what it does, for the page."""
        waits = f" {self.seconds:g} s" if self.seconds else ""
        return f"{self.api.name} {self.fault.value}{waits}"


@dataclass(frozen=True, slots=True)
class _Request:
    """What has to be remembered of a request until its answer comes."""

    client: str
    api: Api
    version: int
    commits: bool
    rule: Rule | None


class Proxy:
    """Listens where the broker's side door is said to be; every connection gets one of its own to the broker."""

    def __init__(self, door: SideDoor) -> None:
        """Begin with no rules."""
        self._door = door
        self._rules: tuple[Rule, ...] = ()
        self._held: set[Rule] = set()
        self.commits: defaultdict[str, list[float]] = defaultdict(list)
        """When clients were told that a transaction was committed, or offsets were: monotonic seconds, by client id."""

    def arm(self, *rules: Rule) -> None:
        """Let `rules` fire from now on, in place of others."""
        self._rules = rules

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        try:
            broker, to_broker = await asyncio.open_connection(LOOPBACK, self._door.port, limit=_BUFFER_BYTES)
        except OSError:
            to_client.close()
            return
        connection = _Connection(self, client, to_client, broker, to_broker)
        both = [asyncio.ensure_future(side) for side in (connection.requests(), connection.answers())]
        try:
            with suppress(asyncio.CancelledError):  # the proxy ends
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in both:
                side.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for writer in (to_client, to_broker):
                writer.close()

    def rule_for(self, client: str, api: Api) -> Rule | None:
        """Return the rule that fires for a request, and note that it does."""
        for rule in self._rules:
            if rule.client == client and rule.api == api and rule.fired < rule.times:
                rule.fired += 1
                rule.fired_seconds = time.monotonic()
                return rule
        return None

    def waited_for(self, client: str, api: Api) -> Rule | None:
        """Return the rule with a held request that waits for such an answer."""
        return next((rule for rule in self._held if rule.client == client and rule.until == api), None)

    async def hold(self, rule: Rule) -> None:
        """Return when the request that `rule` holds may go on."""
        self._held.add(rule)
        await rule._release.wait()

    async def let_go(self, rule: Rule) -> None:
        """Let the held request go, and return when the broker has answered it."""
        self._held.discard(rule)
        rule._release.set()
        await rule._answered.wait()


class _Connection:
    """Both directions of one connection."""

    def __init__(
        self,
        proxy: Proxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        broker: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
    ) -> None:
        """Nothing is passed on yet."""
        self._proxy = proxy
        self._client = client
        self._to_client = to_client
        self._broker = broker
        self._to_broker = to_broker
        self._waiting: dict[int, _Request] = {}
        self._swallowed: Counter[int] = Counter()  # second answers to expect, by correlation id

    async def requests(self) -> None:
        """Pass requests on until the client goes or a rule cuts the connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(self._client)
                key, version, correlation, length = _HEADER.unpack_from(frame)
                rule = None
                if key in _KNOWN:
                    api = Api(key)
                    client = frame[_HEADER.size : _HEADER.size + max(0, length)].decode()
                    rule = self._proxy.rule_for(client, api)
                    commits = api is Api.OFFSET_COMMIT or (api is Api.END_TXN and frame[-1] != 0)
                    if rule is not None or commits or self._proxy.waited_for(client, api) is not None:
                        self._waiting[correlation] = _Request(client, api, version, commits, rule)
                match rule.fault if rule is not None else None:
                    case Fault.CUT_REQUEST:
                        return
                    case Fault.LOSE_REQUEST:
                        continue
                    case Fault.DUPLICATE:
                        self._swallowed[correlation] += 1
                        await _pass_on(self._to_broker, frame)
                    case Fault.HOLD if rule is not None:
                        await self._pass_on_late(rule, frame)
                        continue
                await _pass_on(self._to_broker, frame)

    async def _pass_on_late(self, rule: Rule, frame: bytes) -> None:
        """Hold a request back; return when it was answered, even if its client has gone."""
        try:
            await self._proxy.hold(rule)
            await _pass_on(self._to_broker, frame)
            await rule._answered.wait()
        finally:
            rule._answered.set()  # or never will be: nobody shall wait for it

    async def answers(self) -> None:
        """Pass answers on until the broker goes or a rule cuts the connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(self._broker)
                (correlation,) = _SIZE.unpack_from(frame)
                request = self._waiting.pop(correlation, None)
                if request is not None:
                    if await self._is_spoilt(request, frame):
                        continue
                elif self._swallowed[correlation]:
                    self._swallowed[correlation] -= 1
                    continue
                await _pass_on(self._to_client, frame)

    async def _is_spoilt(self, request: _Request, frame: bytes) -> bool:
        """Do to an answer what its request's rule says; return whether it shall not be passed on."""
        rule = request.rule
        match rule.fault if rule is not None else None:
            case Fault.DELAY_ANSWER if rule is not None:
                await asyncio.sleep(rule.seconds)
            case Fault.LOSE_ANSWER:
                return True
            case Fault.CUT_ANSWER:
                raise ConnectionAbortedError
            case Fault.HOLD if rule is not None:
                rule.late_errors.append(_error(request, frame))
                rule._answered.set()
        held = self._proxy.waited_for(request.client, request.api)
        if held is not None and held is not rule:
            await self._proxy.let_go(held)
        if request.commits and (request.api is not Api.END_TXN or _error(request, frame) == 0):
            self._proxy.commits[request.client].append(time.monotonic())
        return False


_KNOWN: Final = frozenset(Api)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return await reader.readexactly(size)


async def _pass_on(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(_SIZE.pack(len(frame)) + frame)
    await writer.drain()


def _error(request: _Request, answer: bytes) -> int:
    """Return the error code of an EndTxn answer: behind correlation id, tags from version 3 on, and throttle time."""
    error: int = struct.unpack_from(">h", answer, 8 if request.version < 3 else 9)[0]
    return error


@contextmanager
def running_proxy(door: SideDoor) -> Iterator[Proxy]:
    """Run a proxy in a thread while the block runs.

    Raises:
        OSError: the port is taken.
    """
    proxy = Proxy(door)
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    listening = asyncio.start_server(proxy.serve, LOOPBACK, door.advertised_port, limit=_BUFFER_BYTES)
    try:
        server = asyncio.run_coroutine_threadsafe(listening, loop).result(_START_SECONDS)
        try:
            yield proxy
        finally:
            loop.call_soon_threadsafe(server.close)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(_START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
