"""One visitor's way through the shop: landing, search, product, basket, checkout, purchase."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from millrace_generator.catalogue import BASKET, CHECKOUT, LANDING, Catalogue, Page
from millrace_generator.traffic import Event, Kind
from millrace_generator.visitors import Visitor, visitor_of
from millrace_generator.wire import Product, device, encoded_string, optional_string

USERS: Final = 20_000
"""How many people know the shop; a few of them come often."""

_MINUTE_MS: Final = 60_000
_GAP_MS: Final = 30 * _MINUTE_MS

_ROBOT_SHARE: Final = 0.02
_SIGNED_IN_SHARE: Final = 0.35
_COMES_BACK_SHARE: Final = 0.08
_SHORTEST_THINKING_MS: Final = 800
_MEAN_THINKING_MS: Final = 25_000
_ROBOT_PAUSE_MS: Final = 2_000
_ROBOT_FEWEST_PAGES: Final = 5
_ROBOT_MOST_PAGES: Final = 15_000
_MONITOR_PAUSE_MS: Final = 10 * _MINUTE_MS

_REFERRERS: Final = tuple(
    optional_string(referrer)
    for referrer in (
        None,
        None,
        None,
        "https://www.google.com/",
        "https://www.google.com/",
        "https://www.bing.com/",
        "https://www.instagram.com/",
        "https://news.shop.example/weekly",
    )
)

_NOBODY: Final = optional_string(None)

# What people do next, with the shares added up; who does none of it leaves.
_NEXT: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "landing": ((0.30, "product"), (0.55, "search"), (0.75, "category")),
    "category": ((0.60, "product"), (0.72, "category"), (0.80, "search")),
    "search": ((0.62, "product"), (0.80, "search"), (0.84, "category")),
    "product": ((0.28, "product"), (0.45, "click"), (0.57, "add_to_cart"), (0.67, "search"), (0.75, "category")),
    "click": ((0.30, "product"), (0.58, "add_to_cart"), (0.65, "click")),
    "add_to_cart": ((0.50, "basket"), (0.88, "product")),
    "basket": ((0.55, "checkout"), (0.75, "product")),
    "checkout": ((0.65, "purchase"),),
    "purchase": ((0.10, "landing"),),
}
_KINDS: Final[dict[str, Kind]] = {
    "landing": "page_view",
    "category": "page_view",
    "search": "search",
    "product": "page_view",
    "click": "click",
    "add_to_cart": "add_to_cart",
    "basket": "page_view",
    "checkout": "page_view",
    "purchase": "purchase",
}


@dataclass(slots=True)
class Visit:
    """One client session id, and what its owner is about to do.

    Attributes:
        session_id: of the client; it keeps it when it comes back hours later.
        key: its bytes.
        event_prefix: what the visit's event ids begin with.
        user_id: who it is.
        visitor: with what and from where.
        signed_in: whether the shop knows who it is.
        session: encoded sessionId.
        opening: encoded userId and sessionId, as of now.
        surroundings: encoded context.
        action: what comes next.
        page: the product looked at last.
        basket: what is to be bought.
        events: made so far.
        robot_pages: how many more pages a robot fetches; None: no robot.
        away: gone for about as long as a session lasts, or longer; it comes back to the millisecond.
        tireless: never gives up waiting: the uptime monitor.
    """

    session_id: str
    key: bytes
    event_prefix: str
    user_id: str
    visitor: Visitor
    signed_in: bool
    session: bytes
    opening: bytes
    surroundings: bytes
    action: str = "landing"
    page: Page = LANDING
    basket: list[Product] = field(default_factory=list)
    events: int = 0
    robot_pages: int | None = None
    away: bool = False
    tireless: bool = False

    def sign_in(self) -> None:
        """Tell the shop who it is."""
        self.signed_in = True
        self.opening = optional_string(self.user_id) + self.session

    def event(self, time_ms: int, path: str, product: Product | None, amount_cents: int | None = None) -> Event:
        """Return the event of the action at hand."""
        return Event(
            f"{self.event_prefix}{self.events:012x}",
            self.user_id if self.signed_in else None,
            self.session_id,
            _KINDS[self.action],
            time_ms,
            product.product_id if product else None,
            path,
            amount_cents,
        )


class _User(NamedTuple):
    user_id: str
    visitor: Visitor
    device: bytes
    name: bytes  # encoded


class Visitors:
    """Lets visitors come, act and go, as chance wants it."""

    def __init__(self, catalogue: Catalogue, chance: Random) -> None:
        """Prepare; every choice is drawn from `chance`."""
        self._catalogue = catalogue
        self._chance = chance
        self._users: dict[int, _User] = {}

    def arrive(self) -> Visit:
        """Return somebody who has just come."""
        draw = self._chance.random
        if draw() < _ROBOT_SHARE:
            pages = min(_ROBOT_MOST_PAGES, int(_ROBOT_FEWEST_PAGES / (1 - draw())))
            return self._robot(f"robot {int(draw() * 20)}", pages)
        number = int(USERS * draw() ** 2)
        user = self._users.get(number)
        if user is None:
            user_id = f"u{number:06}"
            visitor = visitor_of(user_id, bot=False)
            user = self._users[number] = _User(user_id, visitor, device(visitor), optional_string(user_id))
        referrer = _REFERRERS[int(draw() * len(_REFERRERS))]
        return self._visit(user, referrer, signed_in=draw() < _SIGNED_IN_SHARE)

    def monitor(self) -> Visit:
        """Return the machine that looks whether the shop is up, and never stops."""
        visit = self._robot("monitor", _ROBOT_MOST_PAGES)
        visit.tireless = visit.away = True
        return visit

    def look(self, visit: Visit) -> Page:
        """Return the page on which the visit's next action takes place."""
        action = visit.action
        if action == "product":
            # The square makes few products popular.
            visit.page = self._one_of(self._catalogue.product_pages, popular=True)
            return visit.page
        if action == "search":
            return self._one_of(self._catalogue.searches, popular=True)
        if action == "category":
            return self._one_of(self._catalogue.category_pages)
        if action in ("click", "add_to_cart"):
            return visit.page
        return {"landing": LANDING, "basket": BASKET}.get(action, CHECKOUT)

    def pause_ms(self, visit: Visit) -> int | None:
        """Choose what the visit does next, and return after how long; None if it is over."""
        visit.events += 1
        visit.away = visit.tireless
        if visit.robot_pages is not None:
            return self._robot_pause_ms(visit, visit.robot_pages)
        draw = self._chance.random()
        for share, action in _NEXT[visit.action]:
            if draw < share:
                visit.action = action
                return _SHORTEST_THINKING_MS + int(-math.log(1 - self._chance.random()) * _MEAN_THINKING_MS)
        if self._chance.random() < _COMES_BACK_SHARE:
            visit.action, visit.away = "landing", True
            return self._absence_ms()
        return None

    def _robot_pause_ms(self, visit: Visit, pages: int) -> int | None:
        if visit.tireless:
            return _MONITOR_PAUSE_MS
        if pages <= 1:
            return None
        visit.robot_pages = pages - 1
        visit.action = "product" if self._chance.random() < 0.7 else "category"  # noqa: PLR2004
        return _ROBOT_PAUSE_MS

    def _absence_ms(self) -> int:
        """Return a pause around the session gap, where errors by one would show, or one well beyond it."""
        draw, length = self._chance.random(), self._chance.random()
        if draw < 0.2:
            return _GAP_MS - int(length * _MINUTE_MS)
        if draw < 0.3:
            return _GAP_MS
        if draw < 0.4:
            return _GAP_MS + 1
        if draw < 0.6:
            return _GAP_MS + 1 + int(length * _MINUTE_MS)
        return _GAP_MS + int((1 + length * 150) * _MINUTE_MS)

    def _robot(self, name: str, pages: int) -> Visit:
        visitor = visitor_of(name, bot=True)
        visit = self._visit(_User(name, visitor, device(visitor), _NOBODY), _REFERRERS[0], signed_in=False)
        visit.robot_pages = pages
        return visit

    def _visit(self, user: _User, referrer: bytes, *, signed_in: bool) -> Visit:
        ids = f"{self._chance.getrandbits(192):048x}"
        session_id = f"{ids[:8]}-{ids[8:12]}-4{ids[12:15]}-8{ids[15:18]}-{ids[18:30]}"
        event_prefix = f"{ids[30:38]}-{ids[38:42]}-4{ids[42:45]}-8{ids[45:48]}-"
        key = session_id.encode()
        session = encoded_string(key)
        return Visit(
            session_id=session_id,
            key=key,
            event_prefix=event_prefix,
            user_id=user.user_id,
            visitor=user.visitor,
            signed_in=signed_in,
            session=session,
            opening=(user.name if signed_in else _NOBODY) + session,
            surroundings=user.device + referrer,
        )

    def _one_of(self, pages: Sequence[Page], popular: bool = False) -> Page:
        draw = self._chance.random()
        return pages[int(len(pages) * (draw * draw if popular else draw))]
