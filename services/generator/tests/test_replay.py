import random
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_generator.rees46 import COLUMNS
from millrace_generator.reference import read_file
from millrace_generator.replay import EVENT_IDS, event_id, replay_plan, survey
from millrace_generator.traffic import EVENTS, ORDERS, Event, Order, Plan, Record

Decode = Callable[[Record], dict[str, Any]]


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def row(  # noqa: PLR0913
    time: str = "00:00:00",
    kind: str = "view",
    product: str = "p1",
    price: str = "10.50",
    user: str = "u1",
    session: str = "s1",
    category: str = "toys",
    brand: str = "acme",
) -> str:
    return f"2019-10-01 {time} UTC,{kind},{product},1,{category},{brand},{price},{user},{session}"


def events(plan: Plan, schema_ids: dict[str, int]) -> list[Event]:
    return [record.about for record in plan.records(schema_ids) if isinstance(record.about, Event)]


def orders(plan: Plan, schema_ids: dict[str, int]) -> list[Record]:
    return [record for record in plan.records(schema_ids) if record.topic == ORDERS]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 10**6))
def test_event_id_is_the_uuid5_of_content_and_index(content: str, index: int) -> None:
    assert event_id(content, index) == str(uuid.uuid5(EVENT_IDS, f"{content}#{index}"))


def test_event_says_what_the_row_says(tmp_path: Path, schema_ids: dict[str, int], decode: Decode) -> None:
    plan = replay_plan(write(tmp_path / "a.csv", row(kind="cart")))
    [record] = plan.records(schema_ids)
    value = decode(record)
    assert record.key == b"s1"
    assert (value["sessionId"], value["userId"], value["eventType"]) == ("s1", "u1", "add_to_cart")
    assert value["timestamp"] == 1_569_888_000_000
    assert value["properties"] == {
        "productId": "p1",
        "category": "toys",
        "brand": "acme",
        "price": "10.50",
        "page": "/product/p1",
    }


def test_empty_category_and_brand_are_left_out(tmp_path: Path, schema_ids: dict[str, int], decode: Decode) -> None:
    [record] = replay_plan(write(tmp_path / "a.csv", row(category="", brand=""))).records(schema_ids)
    assert decode(record)["properties"] == {"productId": "p1", "price": "10.50", "page": "/product/p1"}


def test_purchase_has_its_price_as_amount(tmp_path: Path, schema_ids: dict[str, int], decode: Decode) -> None:
    record, _ = replay_plan(write(tmp_path / "a.csv", row(kind="purchase"))).records(schema_ids)
    assert decode(record)["properties"]["amount"] == "10.50"
    assert isinstance(record.about, Event)
    assert record.about.amount_cents == 1050


def test_a_file_read_twice_makes_the_same_bytes(tmp_path: Path, schema_ids: dict[str, int]) -> None:
    rows = [row(), row(), row(kind="purchase"), row("00:00:05", kind="purchase")]
    path = write(tmp_path / "a.csv", *rows)
    assert list(replay_plan(path).records(schema_ids)) == list(replay_plan(path).records(schema_ids))


def test_identical_rows_are_distinct_events_and_other_rows_too(tmp_path: Path, schema_ids: dict[str, int]) -> None:
    rows = [row(), row(), row(), row(product="p2"), row("00:00:01"), row("00:00:01")]
    ids = [event.event_id for event in events(replay_plan(write(tmp_path / "a.csv", *rows)), schema_ids)]
    assert len(set(ids)) == 6


@given(
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from("ab"), st.sampled_from(["view", "purchase"]))), st.randoms()
)
def test_rows_in_any_order_make_the_same_events_and_orders(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str, str]], chance: random.Random
) -> None:
    ids = {EVENTS: 1, ORDERS: 2, "products": 3, "user-profiles": 4}
    rows = [row(f"00:00:{second:02}", kind, product) for second, product, kind in sorted(drawn)]
    shuffled = chance.sample(rows, len(rows))
    folder = tmp_path_factory.mktemp("rows")
    one, other = replay_plan(write(folder / "a.csv", *rows)), replay_plan(write(folder / "b.csv", *shuffled))
    assert {record.value for record in one.records(ids)} == {record.value for record in other.records(ids)}
    assert {record.value for record in one.upserts(ids)} == {record.value for record in other.upserts(ids)}
    assert len(events(other, ids)) == len(rows)


def test_sending_order_never_goes_back_in_time(tmp_path: Path, schema_ids: dict[str, int]) -> None:
    rows = [row("00:00:09"), row("00:00:02", kind="purchase"), row("00:00:10"), row("00:01:00")]
    at = [record.at_ms for record in replay_plan(write(tmp_path / "a.csv", *rows)).records(schema_ids)]
    assert at == sorted(at)


def test_disorder_is_measured(tmp_path: Path) -> None:
    surveyed = survey(write(tmp_path / "a.csv", row("00:00:09"), row("00:00:02"), row("00:00:10"), row("00:00:07")))
    assert surveyed.disorder.total_seconds() == 7
    assert (surveyed.first_ms, surveyed.last_ms) == (1_569_888_002_000, 1_569_888_010_000)


def test_purchases_of_one_second_and_session_are_one_order(
    tmp_path: Path, schema_ids: dict[str, int], decode: Decode
) -> None:
    rows = [
        row(kind="purchase", product="p2", price="0.10"),
        row(kind="purchase", product="p1", price="19.99"),
        row(kind="purchase", product="p2", price="0.10"),
        row(kind="purchase", product="p2", price="0.10", category=""),
        row(kind="purchase", session="s2", user=""),
        row("00:00:01", kind="purchase"),
    ]
    records = orders(replay_plan(write(tmp_path / "a.csv", *rows)), schema_ids)
    assert len(records) == 3
    first = decode(records[0])
    assert [(i["productId"], i["quantity"], i["price"], i["category"]) for i in first["orderItems"]] == [
        ("p1", 1, 19.99, "toys"),
        ("p2", 2, 0.10, "toys"),
        ("p2", 1, 0.10, "unknown"),
    ]
    assert (first["totalAmount"], first["currency"], first["status"]) == (20.29, "USD", "completed")
    assert (first["userId"], first["timestamp"]) == ("u1", 1_569_888_000_000)
    assert decode(records[1])["userId"] == "s2"  # a guest
    assert len({record.key for record in records}) == 3


def test_latest_facts_of_each_product_are_upserted(tmp_path: Path, schema_ids: dict[str, int], decode: Decode) -> None:
    rows = [row("00:00:03", price="2.00"), row("00:00:09", price="3.00", brand=""), row("00:00:05", price="4.00")]
    [record] = replay_plan(write(tmp_path / "a.csv", *rows)).upserts(schema_ids)
    value = decode(record)
    assert (value["productId"], value["price"], value["brand"]) == ("p1", 3.0, None)


def test_skipped_rows_are_in_the_facts(tmp_path: Path) -> None:
    plan = replay_plan(write(tmp_path / "a.csv", row(), row(session=""), row(price=""), row(kind="remove_from_cart")))
    assert plan.expected_events == plan.facts["rows_used"] == 1
    assert plan.facts["rows_skipped"] == {
        "empty price": 1,
        "empty user_session": 1,
        "event type 'remove_from_cart'": 1,
    }


def test_real_file_is_replayed_row_by_row(shared_file: Path, schema_ids: dict[str, int]) -> None:
    plan = replay_plan(shared_file)
    rows = read_file(shared_file)
    replayed = events(plan, schema_ids)
    assert len({event.event_id for event in replayed}) == len(replayed) == len(rows) == 12_117
    kinds = {"page_view": "view", "add_to_cart": "cart", "purchase": "purchase"}
    assert [(kinds[e.kind], e.session_id, e.product_id) for e in replayed] == [
        (r["event_type"], r["user_session"], r["product_id"]) for r in rows
    ]
    bought = Counter((r["user_session"], r["event_time"]) for r in rows if r["event_type"] == "purchase")
    sent = [record.about for record in orders(plan, schema_ids)]
    assert len(sent) == len(bought)
    revenue = sum(event.amount_cents or 0 for event in replayed)
    assert sum(order.total_cents for order in sent if isinstance(order, Order)) == revenue
