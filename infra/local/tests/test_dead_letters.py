from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from millrace_common.records import Partition
from millrace_local.dead_letters import (
    Choice,
    ChoiceError,
    Fate,
    Kind,
    Letter,
    Position,
    Tally,
    as_data,
    check_replay_id,
    fingerprint,
    grouped,
    iso,
    judge,
    parse_since,
    text_view,
    whole,
)
from millrace_local.errors import LocalStackError

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
LETTER = Letter(
    place=Partition("dead-letters", 1),
    offset=7,
    service="ingest",
    stage="decode",
    reason="unknown_schema",
    detail="the registry has no schema 9",
    source=Partition("user-events", 1),
    source_offset=40,
    source_timestamp_ms=NOW_MS - 5,
    key=b"k",
    value=b"\x00\x00\x00\x00\x09",
    occurred_at_ms=NOW_MS,
)
INTERNAL = replace(LETTER, service="enrich", source=Partition("user-events.valid", 1))


@pytest.mark.parametrize(
    "choice",
    [
        Choice(reason="undecodable"),
        Choice(service="enrich"),
        Choice(topic="transactions"),
        Choice(partition=0),
        Choice(offset=41),
        Choice(since_ms=NOW_MS + 1),
    ],
)
def test_a_choice_leaves_out_what_differs_in_one_thing(choice: Choice) -> None:
    assert not choice.has(LETTER)


def test_a_choice_has_what_agrees_in_all_things() -> None:
    assert Choice().has(LETTER)
    assert Choice("unknown_schema", "ingest", "user-events", 1, 40, NOW_MS).has(LETTER)


def test_groups_say_how_many_and_from_when_to_when_the_largest_first() -> None:
    early, late = (replace(LETTER, occurred_at_ms=NOW_MS + ms) for ms in (-10, 10))
    groups = grouped([INTERNAL, LETTER, late, early])
    assert [(group.kind, group.count, group.first_ms, group.last_ms) for group in groups] == [
        (Kind("ingest", "decode", "unknown_schema", "user-events"), 3, NOW_MS - 10, NOW_MS + 10),
        (Kind("enrich", "decode", "unknown_schema", "user-events.valid"), 1, NOW_MS, NOW_MS),
    ]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("2026-01-31T07:00", timedelta(hours=1)),
        ("2026-01-31T09:00+02:00", timedelta(hours=1)),
    ],
)
def test_since_is_a_time_in_utc_or_a_while_ago(text: str, before: timedelta) -> None:
    assert parse_since(text, NOW) == int((NOW - before).timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "yesterday", "2w", "-1h", "999999d"])
def test_since_is_nothing_else(text: str) -> None:
    with pytest.raises(ChoiceError, match="--since takes"):
        parse_since(text, NOW)


def test_the_same_options_make_the_same_replay_id_and_others_another() -> None:
    one = fingerprint({"reason": "unknown_schema", "topic": None})
    assert one == fingerprint({"reason": "unknown_schema"})
    assert len({one, fingerprint({"topic": "unknown_schema"}), fingerprint({})}) == 3
    assert check_replay_id(one) == one


@pytest.mark.parametrize("replay_id", ["", "a b", "a/b", "x" * 65])
def test_a_replay_id_is_fit_for_a_name(replay_id: str) -> None:
    with pytest.raises(ChoiceError, match="--replay-id"):
        check_replay_id(replay_id)


def test_what_the_lake_has_is_not_sent() -> None:
    assert judge([], [LETTER, LETTER], [True, False], set()) == [(LETTER, Fate.IN_LAKE), (LETTER, Fate.SENT)]


def test_a_letter_that_lacks_bytes_of_its_record_is_named_and_not_sent() -> None:
    said: list[str] = []
    cut = replace(LETTER, source_offset=90, detail="cut: value of 9000000 bytes to 4194304; too large")
    assert list(whole([LETTER, cut, INTERNAL], said.append)) == [LETTER, INTERNAL]
    assert said == [f"{LETTER.source} offset 90 is not sent, its dead letter is {cut.detail}"]


def test_copies_are_left_to_ingest_but_held_back_behind_it() -> None:
    again = replace(INTERNAL, offset=8, source_offset=90)
    assert [fate for _, fate in judge([], [LETTER, LETTER], [False, False], set())] == [Fate.SENT, Fate.SENT]
    assert [fate for _, fate in judge([], [INTERNAL, again], [False, False], set())] == [Fate.SENT, Fate.COPY]


def test_a_copy_is_known_across_runs_and_chunks() -> None:
    seen: set[bytes] = set()
    other = replace(INTERNAL, value=b"other")
    assert judge([INTERNAL], [INTERNAL], [False], set()) == [(INTERNAL, Fate.COPY)]
    assert judge([], [INTERNAL, other], [True, False], seen) == [(INTERNAL, Fate.IN_LAKE), (other, Fate.SENT)]
    assert judge([], [INTERNAL, other], [False, False], seen) == [(INTERNAL, Fate.COPY), (other, Fate.COPY)]


def test_no_key_and_an_empty_key_are_different_records() -> None:
    letters = [replace(INTERNAL, key=None), replace(INTERNAL, key=b""), replace(INTERNAL, key=None, value=None)]
    assert [fate for _, fate in judge([], letters, [False] * 3, set())] == [Fate.SENT] * 3


def test_a_position_moves_past_its_last_letter_and_comes_back_from_its_metadata() -> None:
    begun = Position(next_offset=0, end=100, fingerprint="f", since_ms=5)
    moved = begun.past(LETTER, [Fate.SENT, Fate.COPY, Fate.SENT, Fate.IN_LAKE])
    assert moved == Position(8, 100, "f", 5, Tally(sent=2, copy=1, in_lake=1))
    assert moved.tally.letters == 4
    assert Position.committed(8, moved.metadata()) == moved
    assert Position.committed(0, begun.metadata()) == begun
    assert moved.metadata().isascii()


@pytest.mark.parametrize("metadata", [None, "", "{}", "[1]", "{"])
def test_a_position_that_no_replay_has_written_is_refused(metadata: str | None) -> None:
    with pytest.raises(LocalStackError, match="no replay writes"):
        Position.committed(3, metadata)


def test_tallies_add_and_subtract() -> None:
    assert Tally(1, 2, 3) + Tally(4, 5, 6) - Tally(1, 2, 3) == Tally(4, 5, 6)


def test_bytes_are_shown_as_text_where_they_are_text() -> None:
    assert text_view(b'{"a": 1}') == '"{\\"a\\": 1}"'
    assert text_view(b"\x00\x00\xff") == "hex 00 00 ff"
    assert (text_view(None), text_view(b"")) == ("null", "hex")
    assert text_view(b"a" * 600) == f'"{"a" * 512}" ... (600 bytes)'


def test_json_has_the_exact_bytes_and_the_place() -> None:
    data = as_data(replace(LETTER, key=None))
    assert (data["key_hex"], data["value_hex"]) == (None, "0000000009")
    assert (data["source_topic"], data["source_partition"], data["source_offset"]) == ("user-events", 1, 40)
    assert data["occurred_at"] == "2026-01-31T08:00:00.000+00:00"
    assert iso(2**62) == str(2**62)
