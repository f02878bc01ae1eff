"""A few days of a shop: rows as the lake has them, and the figures that follow from them, in plain Python.

Nothing here is SQL, and nothing knows of increments: every figure is computed from all rows, the plainest way there is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

from lake_days import Row, write_day

DAYS: Final = (date(2026, 3, 7), date(2026, 3, 8), date(2026, 3, 9))  # Saturday to Monday: two weeks
_GAP: Final = timedelta(minutes=30)
_STEPS: Final = ("view", "cart", "checkout", "purchase")


def at(day: date, hour: int, minute: int = 0) -> datetime:
    """Return a time of a day."""
    return datetime(day.year, day.month, day.day, hour, minute, 0, 123_000, tzinfo=UTC)


def session(key: str, start: datetime, user: str | None, revision: int = 1, **counts: Any) -> Row:
    """Return a row of sessions; counts are those of events, by their columns' names."""
    given = {"page_views": 1, "clicks": 0, "searches": 0, "add_to_carts": 0, "purchases": 0} | counts
    events = sum(given[name] for name in ("page_views", "clicks", "searches", "add_to_carts", "purchases"))
    length = timedelta(minutes=events - 1)
    return {
        "session_id": f"{key}-{int(start.timestamp() * 1000)}",
        "client_session_id": key,
        "user_id": user,
        "started_at": start,
        "ended_at": start + length,
        "duration_ms": length // timedelta(milliseconds=1),
        "event_count": events,
        "unique_pages": 1,
        "unique_products": 1,
        "revenue_cents": 0,
        "has_conversion": given["purchases"] > 0,
        "is_bounce": events == 1,
        "device_type": "mobile",
        "country_code": "DE",
        "is_bot": False,
        "closed_by": "gap",
        "revision": revision,
        **given,
    }


def replaced(row: Row) -> Row:
    """Return the last revision of a session that there never was, as the batch writes it."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("event_count", "page_views", "clicks", "searches", "add_to_carts", "purchases", "revenue_cents"), 0
    )
    return {**row, **nothing, "closed_by": "replaced", "revision": row["revision"] + 1, "has_conversion": False}


def status(order: str, user: str, word: str, when: datetime, *items: tuple[str, int, str]) -> Row:
    """Return a row of transactions; items are (product, quantity, price)."""
    lines = [
        {"product_id": product, "quantity": quantity, "price": Decimal(price), "category": "things"}
        for product, quantity, price in items
    ]
    return {
        "transaction_id": order,
        "user_id": user,
        "order_items": lines,
        "total_amount": sum((quantity * Decimal(price) for _, quantity, price in items), Decimal("0.00")),
        "currency": "USD" if order < "o5" else "EUR",
        "payment_method": 'card, or "wallet"',
        "status": word,
        "occurred_at": when,
    }


@dataclass
class Shop:
    """All rows, by table and day; `sessions` and `transactions` are given, the rest follows."""

    sessions: dict[date, list[Row]] = field(default_factory=dict)
    transactions: dict[date, list[Row]] = field(default_factory=dict)

    def write(self, lake: Path, days: Iterable[date]) -> None:
        """Write these days of every table into the lake."""
        for day in days:
            current = self.current_sessions(day)
            write_day(lake, "sessions", day, self.sessions[day])
            write_day(lake, "transactions", day, self.transactions[day])
            write_day(lake, "fact_daily_metrics", day, [self._metrics(day)])
            write_day(lake, "session_metrics_daily", day, _by_device_and_country(current))
            write_day(lake, "product_metrics", day, [_product("p1", 10, 4), _product("p9", 3, 0)])
            users = sorted({row["user_id"] for row in current if row["user_id"]})
            segment = "loyal" if day == DAYS[-1] else "new"
            write_day(lake, "user_segments", day, [{"user_id": user, "segment": segment} for user in users])
            write_day(lake, "user_features", day, [{"user_id": user, "churn_risk_score": 0.25} for user in users])
            corrected = [{"session_id": row["session_id"], "cause": "late"} for row in current if row["revision"] > 1]
            write_day(lake, "reconciliation", day, corrected)

    def current_sessions(self, day: date) -> list[Row]:
        """Return the sessions of a day as they are known now."""
        newest: dict[str, Row] = {}
        for row in self.sessions[day]:
            known = newest.get(row["session_id"])
            if known is None or known["revision"] < row["revision"]:
                newest[row["session_id"]] = row
        return [row for row in newest.values() if row["closed_by"] != "replaced"]

    def orders(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each order now."""
        rows: list[Row] = sorted(
            (row for day in self.transactions.values() for row in day), key=lambda row: row["occurred_at"]
        )
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            placed_at: datetime = found.get(row["transaction_id"], row | {"placed_at": row["occurred_at"]})["placed_at"]
            found[row["transaction_id"]] = {
                "placed_at": placed_at,
                "placed_date": placed_at.date(),
                "user_id": row["user_id"],
                "status": row["status"],
                "currency": row["currency"],
                "total_amount": row["total_amount"],
                "items": [(item["product_id"], item["quantity"], item["price"]) for item in row["order_items"]],
            }
        return found

    def funnel(self) -> dict[tuple[date, str, str | None], tuple[int, ...]]:
        """Return sessions, and how many reached each step, by day, device type and country."""
        counts: defaultdict[tuple[date, str, str | None], Counter[str]] = defaultdict(Counter)
        orders = self.orders().values()
        for day in self.sessions:
            for row in self.current_sessions(day):
                ordered = any(
                    order["user_id"] == row["user_id"]
                    and row["started_at"] <= order["placed_at"] <= row["ended_at"] + _GAP
                    for order in orders
                )
                took = (row["page_views"] > 0, row["add_to_carts"] > 0, ordered, row["purchases"] > 0)
                furthest = max((number for number, step in enumerate(took, 1) if step), default=0)
                group = counts[day, row["device_type"], row["country_code"]]
                group.update(["sessions", *_STEPS[:furthest]])
        return {key: tuple(group[name] for name in ("sessions", *_STEPS)) for key, group in counts.items()}

    def _metrics(self, day: date) -> Row:
        current = self.current_sessions(day)
        return {
            "daily_active_users": len({row["user_id"] for row in current}),
            "sessions": len(current),
            "orders": sum(
                order["placed_date"] == day and order["status"] != "cancelled" for order in self.orders().values()
            ),
            "revenue_cents": sum(row["revenue_cents"] for row in current),
            "events": sum(row["event_count"] for row in current),
            "conversion_rate": sum(row["has_conversion"] for row in current) / len(current),
            "bounce_rate": sum(row["is_bounce"] for row in current) / len(current),
        }


def shop() -> Shop:
    """Return three days: corrected and replaced sessions, an order of three statuses in three days, and more."""
    draw = Random(7)
    made = Shop({day: [] for day in DAYS}, {day: [] for day in DAYS})
    for day in DAYS:
        for number in range(25):
            purchases = draw.choice((0, 0, 0, 1, 2))
            made.sessions[day].append(
                session(
                    f"s{day.day}-{number}",
                    at(day, draw.randrange(0, 20), draw.randrange(60)),
                    draw.choice((None, "u1", "u2", "u3", "u4")),
                    page_views=draw.choice((0, 1, 3)) or 1,
                    add_to_carts=draw.choice((0, 0, 1)),
                    purchases=purchases,
                    revenue_cents=purchases * draw.randrange(1, 99_999),
                    device_type=draw.choice(("mobile", "desktop")),
                    country_code=draw.choice(("DE", None)),
                    entry_page=draw.choice((None, "", '/p?q="a,b"\n')),
                )
            )
    first, second, third = DAYS
    once = session("corrected", at(first, 9), "u1", page_views=2, purchases=1, revenue_cents=1_000)
    twice = {**once, "page_views": 3, "event_count": 4, "revision": 2, "revenue_cents": 3_333}
    gone = session("gone", at(second, 9), "u2", page_views=2, purchases=1, revenue_cents=77_700)
    made.sessions[first] += [once, twice]
    made.sessions[second] += [gone, replaced(gone)]
    # somebody who is there only when the order "moved" loses its first status, and is placed a day later
    made.sessions[second].append(session("mover", at(second, 11), "u9"))
    made.transactions[first] += [
        status("o1", "u1", "pending", at(first, 9, 1), ("p1", 3, "0.10"), ("p2", 1, "19.99")),
        status("o3-moved", "u9", "pending", at(first, 22), ("p1", 1, "5.00")),
        status("o4-vanishes", "u2", "pending", at(first, 12), ("p3", 2, "7.77")),
        status("o6", "u3", "completed", at(first, 13), ("p3", 1, "1234567.89")),
    ]
    made.transactions[second] += [
        status("o1", "u1", "completed", at(second, 0), ("p1", 3, "0.10"), ("p2", 1, "19.99")),
        status("o3-moved", "u9", "completed", at(second, 11, 5), ("p1", 1, "5.00")),
    ]
    made.transactions[third].append(
        status("o1", "u1", "cancelled", at(third, 8), ("p1", 2, "0.10"), ("p2", 1, "19.99")),
    )
    return made


def change_first_day(made: Shop) -> None:
    """Change the first day as a late load finds it: rows came, were corrected, and went."""
    first = DAYS[0]
    row = made.sessions[first][0]
    made.sessions[first].append(
        {**row, "revision": 2, "page_views": 9, "event_count": row["event_count"] + 9 - row["page_views"]}
    )
    made.sessions[first].append(replaced(made.sessions[first][1]))
    made.sessions[first].append(
        session("late", at(first, 23, 50), "u4", purchases=1, revenue_cents=12_345, device_type="tablet")
    )
    kept = [row for row in made.transactions[first] if row["transaction_id"] in {"o1", "o6"}]
    made.transactions[first] = [*kept, status("o2-new", "u4", "pending", at(first, 23, 51), ("p1", 7, "3.33"))]


def _by_device_and_country(current: Sequence[Row]) -> list[Row]:
    groups: defaultdict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in current:
        groups[row["device_type"], row["country_code"]].append(row)
    return [
        {
            "device_type": device,
            "country_code": country,
            "sessions": len(rows),
            "revenue_cents": sum(row["revenue_cents"] for row in rows),
        }
        for (device, country), rows in groups.items()
    ]


def _product(product_id: str, views: int, add_to_carts: int) -> Row:
    return {
        "product_id": product_id,
        "product_category": "things",
        "views": views,
        "clicks": 0,
        "add_to_carts": add_to_carts,
        "purchases": 0,
        "revenue_cents": 0,
        "unique_users": 1,
        "view_to_cart_rate": add_to_carts / views,
    }
