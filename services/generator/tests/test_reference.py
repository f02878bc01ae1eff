import random
from pathlib import Path

from millrace_generator.reference import read_file, read_sessions

ROW = {"event_type": "view", "product_id": "p", "price": "1.10", "user_session": "s", "user_id": "u"}


def at(time: str, **fields: str) -> dict[str, str]:
    return ROW | {"event_time": f"2019-10-01 {time} UTC"} | fields


def test_session_goes_on_after_exactly_the_gap() -> None:
    [session] = read_sessions([at("00:00:00"), at("00:30:00")])
    assert (session.session_id, session.event_count) == ("s-1569888000000", 2)


def test_session_ends_a_second_after_the_gap() -> None:
    assert [s.session_id for s in read_sessions([at("00:30:01"), at("00:00:00")])] == [
        "s-1569888000000",
        "s-1569889801000",
    ]


def test_counts_and_money_are_those_of_the_rows() -> None:
    bought = at("00:00:02", event_type="purchase", price="0.29")
    [session] = read_sessions([at("00:00:00"), at("00:00:01", event_type="cart", product_id="q"), bought, bought])
    assert (session.page_views, session.add_to_carts, session.purchases, session.unique_products) == (1, 1, 2, 2)
    assert session.revenue_cents == 58


def test_unusable_rows_are_no_events() -> None:
    assert (
        read_sessions([at("00:00:00", price=""), at("00:00:00", user_session=""), at("00:00:00", event_type="x")]) == []
    )


def test_real_file_has_the_same_sessions_in_any_order(shared_file: Path) -> None:
    rows = read_file(shared_file)
    sessions = read_sessions(rows)
    assert sum(session.event_count for session in sessions) == 12_117
    assert len({session.client_session_id for session in sessions}) == 3_574
    random.Random(1).shuffle(rows)
    assert read_sessions(rows) == sessions
