import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_common.codec import DECODE, Decoder, Encoder, Reason, RowEncoder, frame
from millrace_common.errors import RegistryUnavailableError
from millrace_common.records import Decoded
from millrace_common.testing import InMemorySchemas, Record, avro_datum, avro_value, polled, with_offsets
from millrace_schemas import SUBJECTS, schema_text

EVENT = schema_text("user-events")
ORDER = schema_text("transactions")
MOST_BYTES = 4_096
EVENT_ID, ORDER_ID, OLDER_ID, NEWER_ID, SYMBOL_ID, OPTIONAL_ID, UNION_ID = 1, 2, 3, 4, 5, 6, 7
# Their bytes, read as a float, are signalling and quiet NaNs: id bytes 0x7f800001 little-endian and the like.
NAN_IDS = (0x0100807F, 0x010080FF, 0x0000C07F, 0x0000C0FF, 0x0100817F, 0x7F800001, 0x7FC00000)

DATUM: dict[str, Any] = {
    "eventId": "e-1",
    "userId": None,
    "sessionId": "s-1",
    "eventType": "click",
    "timestamp": 1_700_000_000_000,
    "properties": {"page": "/", "query": "ä\x00b"},
    "context": {"userAgent": "ua", "ip": "1.2.3.4", "platform": "web", "referrer": "r"},
}


def changed(change: Any) -> str:
    schema = json.loads(EVENT)
    change({field["name"]: field for field in schema["fields"]}, schema["fields"])
    return json.dumps(schema)


# A producer that is behind: no userId, which has a default. One that is ahead: a field more, inside and outside.
OLDER = changed(lambda by_name, fields: fields.remove(by_name["userId"]))
NEWER = changed(
    lambda by_name, fields: (
        fields.insert(0, {"name": "trace", "type": ["null", "string"], "default": None}),
        by_name["context"]["type"]["fields"].insert(0, {"name": "locale", "type": "string", "default": "en"}),
    )
)
SYMBOL = changed(lambda by_name, fields: by_name["eventType"]["type"]["symbols"].append("wish"))
OPTIONAL = changed(lambda by_name, fields: by_name["sessionId"].update(type=["null", "string"]))
UNION = changed(lambda by_name, fields: fields.append({"name": "x", "type": ["null", "string", "int"]}))
TEXTS = {
    EVENT_ID: EVENT,
    ORDER_ID: ORDER,
    OLDER_ID: OLDER,
    NEWER_ID: NEWER,
    SYMBOL_ID: SYMBOL,
    OPTIONAL_ID: OPTIONAL,
    UNION_ID: UNION,
} | dict.fromkeys(NAN_IDS, EVENT)


def new_decoder(texts: Mapping[int, str] | None = None, *, most_bytes: int = MOST_BYTES) -> Decoder:
    return Decoder(InMemorySchemas(texts or TEXTS), EVENT, max_value_bytes=most_bytes, wait=refuse_to_wait)


def refuse_to_wait(seconds: float) -> None:
    raise AssertionError


def decode(*values: bytes | None, decoder: Decoder | None = None) -> Decoded:
    return (decoder or new_decoder()).decode(polled("t", with_offsets(Record(value) for value in values)))


def rows_of(decoded: Decoded) -> list[dict[str, Any]]:
    """Return the columns as the per-record library would say them: a map is a dictionary."""
    return [row | {"properties": dict(row["properties"])} for row in decoded.columns.to_pylist()]


def event(schema_id: int = EVENT_ID, **others: Any) -> bytes:
    return avro_value(TEXTS[schema_id], schema_id, DATUM | others)


GOOD = event()


def bad_values() -> dict[Reason, Sequence[bytes | None]]:
    return {
        Reason.EMPTY_VALUE: [None, b""],
        Reason.NOT_FRAMED: [b"\x00", b"\x00\x00\x00\x00", b"{}", b"\x01" + GOOD[1:], b"\xff" * 40, b'{"eventId": "e"}'],
        Reason.TOO_LARGE: [event(sessionId="x" * MOST_BYTES)],
        Reason.UNKNOWN_SCHEMA: [frame(99, GOOD[5:]), frame(2**32 - 1, GOOD[5:]), frame(0, b"")],
        Reason.WRONG_SUBJECT: [
            avro_value(
                ORDER,
                ORDER_ID,
                {
                    "transactionId": "t",
                    "userId": "u",
                    "orderItems": [],
                    "totalAmount": 0.0,
                    "currency": "USD",
                    "paymentMethod": "card",
                    "status": "paid",
                    "timestamp": 0,
                },
            )
        ],
        Reason.INCOMPATIBLE_SCHEMA: [event(OPTIONAL_ID, sessionId=None), event(UNION_ID, x=None)],
        Reason.UNKNOWN_SYMBOL: [event(SYMBOL_ID, eventType="wish")],
        Reason.UNDECODABLE: [
            frame(EVENT_ID, b""),
            GOOD[:-1],
            GOOD[:6],
            frame(EVENT_ID, b"\xff" * 30),
            frame(EVENT_ID, b"\x05" + GOOD[6:]),  # a negative length
            frame(EVENT_ID, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + GOOD[6:]),  # a huge one
        ],
        Reason.TRAILING_BYTES: [GOOD + b"\x00", GOOD + GOOD],
        Reason.INVALID_UTF8: [
            GOOD.replace(b"e-1", b"e\xff1"),
            GOOD.replace(b"page", b"p\xc0\xafe"),
            GOOD.replace(b"1.2.3.4", b"\xed\xa0\x801.2."),
        ],
    }


BAD = [(reason, value) for reason, values in bad_values().items() for value in values]


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: f"{BAD[number][0]}-{number}")
def test_each_kind_of_bad_record_is_rejected_with_its_reason_alone_and_among_good_ones(number: int) -> None:
    reason, value = BAD[number]
    (reject,) = decode(value).rejects
    assert (reject.row, reject.stage, reject.reason) == (0, DECODE, reason)
    assert reject.detail
    warm = new_decoder()
    decode(GOOD, decoder=warm)
    among = decode(GOOD, value, GOOD, decoder=warm)
    assert [(r.row, r.reason) for r in among.rejects] == [(1, reason)]
    assert among.rows.tolist() == [0, 2]
    assert rows_of(among) == [DATUM, DATUM]


def test_every_reason_has_a_case() -> None:
    assert set(Reason) == set(bad_values())


good_data = st.fixed_dictionaries(
    {
        "eventId": st.text(max_size=9),
        "userId": st.none() | st.text(max_size=9),
        "sessionId": st.text(max_size=9),
        "eventType": st.sampled_from(["page_view", "click", "purchase", "add_to_cart", "search"]),
        "timestamp": st.integers(-(2**63), 2**63 - 1),
        "properties": st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=4),
        "context": st.fixed_dictionaries(
            {
                "userAgent": st.text(max_size=9),
                "ip": st.text(max_size=9),
                "platform": st.text(max_size=9),
                "referrer": st.none() | st.text(max_size=9),
            }
        ),
    }
)
good_values = st.tuples(good_data, st.sampled_from([EVENT_ID, OLDER_ID, NEWER_ID, SYMBOL_ID, NAN_IDS[0]])).map(
    lambda pair: (
        avro_value(TEXTS[pair[1]], pair[1], pair[0]),
        pair[0] | ({"userId": None} if pair[1] == OLDER_ID else {}),
    )
)


@settings(max_examples=100)
@given(
    st.lists(good_values | st.sampled_from(BAD).map(lambda bad: (bad[1], bad[0])), max_size=40),
    st.integers(0, 3).map(bool),
)
def test_rows_and_rejects_are_the_run_exactly_and_in_order(
    run: list[tuple[bytes | None, dict[str, Any] | Reason]], warm: bool
) -> None:
    decoder = new_decoder()
    if warm:
        decode(GOOD, decoder=decoder)
    decoded = decode(*(value for value, _ in run), decoder=decoder)
    assert decoded.columns.schema.equals(decoder.schema)
    wanted = [(row, said) for row, (_, said) in enumerate(run) if isinstance(said, dict)]
    assert list(zip(decoded.rows.tolist(), rows_of(decoded), strict=True)) == wanted
    dead = [(row, said) for row, (_, said) in enumerate(run) if isinstance(said, Reason)]
    assert [(reject.row, reject.reason) for reject in decoded.rejects] == dead


@settings(max_examples=30)
@given(st.lists(good_data, min_size=1, max_size=30))
def test_the_uniform_path_and_the_mixed_path_agree(data: list[dict[str, Any]]) -> None:
    values = [avro_value(EVENT, EVENT_ID, datum) for datum in data]
    decoder = new_decoder()
    mixed = decode(*values, decoder=decoder)  # nothing is known yet
    uniform = decode(*values, decoder=decoder)
    with_one_bad = decode(*values, b"", decoder=decoder)
    assert mixed.columns.equals(uniform.columns)
    assert mixed.columns.equals(with_one_bad.columns)
    assert mixed.rows.tolist() == uniform.rows.tolist() == with_one_bad.rows.tolist()


@settings(max_examples=150)
@given(st.data())
def test_flipped_bytes_never_raise_and_what_is_read_is_what_the_reference_reads(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(5, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    decoder = new_decoder()
    decode(GOOD, decoder=decoder)
    decoded = decode(bytes(damaged), GOOD, decoder=decoder)
    assert len(decoded.rejects) + len(decoded.rows) == 2
    if not decoded.rejects:
        assert rows_of(decoded)[0] == avro_datum(EVENT, bytes(damaged))


@settings(max_examples=100)
@given(st.lists(st.none() | st.binary(max_size=60), max_size=20))
def test_arbitrary_bytes_never_raise(values: list[bytes | None]) -> None:
    decoded = decode(*values)
    assert len(decoded.rejects) + len(decoded.rows) == len(values)


def test_only_zero_is_the_magic_byte() -> None:
    decoder = new_decoder()
    decode(GOOD, decoder=decoder)
    decoded = decode(*(bytes([magic]) + GOOD[1:] for magic in range(256)), decoder=decoder)
    assert decoded.rows.tolist() == [0]
    assert {reject.reason for reject in decoded.rejects} == {Reason.NOT_FRAMED}


@pytest.mark.parametrize("schema_id", NAN_IDS)
def test_an_id_that_is_not_a_number_as_a_float_is_read_and_written(schema_id: int) -> None:
    value = avro_value(EVENT, schema_id, DATUM)
    decoder = new_decoder()
    for _ in range(2):
        decoded = decode(value, value, decoder=decoder)
        assert decoded.rejects == ()
    assert list(Encoder(EVENT, schema_id).encode(decoded.columns)) == [value, value]


def test_an_empty_run_is_empty() -> None:
    decoded = decode()
    assert (decoded.columns.num_rows, decoded.rows.tolist(), decoded.rejects) == (0, [], ())


def test_a_record_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    value = event(sessionId="")
    exact = event(sessionId="x" * (MOST_BYTES - len(value) - 1))
    assert len(exact) == MOST_BYTES
    decoder = new_decoder()
    for _ in range(2):  # before and after the writer is known
        assert decode(exact, decoder=decoder).rejects == ()
        larger = event(sessionId="x" * (MOST_BYTES - len(value)))
        assert [reject.reason for reject in decode(larger, decoder=decoder).rejects] == [Reason.TOO_LARGE]


def test_a_map_of_100_000_entries_is_a_record_like_any_other() -> None:
    properties = {f"k{number}": "v" for number in range(100_000)}
    value = event(properties=properties)
    decoder = new_decoder(most_bytes=4_000_000)
    decoded = decode(GOOD, value, GOOD, decoder=decoder)
    assert decoded.rejects == ()
    assert rows_of(decoded)[1]["properties"] == properties
    cut = decode(value[:-1], GOOD, decoder=decoder)
    assert [reject.reason for reject in cut.rejects] == [Reason.UNDECODABLE]


@pytest.mark.parametrize("timestamp", [0, -1, -(2**63), 2**63 - 1, 253_402_300_799_999])
def test_any_timestamp_is_read(timestamp: int) -> None:
    decoder = new_decoder()
    for _ in range(2):
        assert rows_of(decode(event(timestamp=timestamp), decoder=decoder))[0]["timestamp"] == timestamp


def test_an_older_writer_gets_the_readers_default() -> None:
    assert rows_of(decode(event(OLDER_ID))) == [DATUM | {"userId": None}]


def test_a_newer_writers_fields_are_left_out() -> None:
    assert rows_of(decode(event(NEWER_ID, trace="t"))) == [DATUM]


def test_known_symbols_of_a_writer_with_a_new_one_pass() -> None:
    decoded = decode(event(SYMBOL_ID), event(SYMBOL_ID, eventType="wish"), event(SYMBOL_ID))
    assert [(reject.row, reject.reason) for reject in decoded.rejects] == [(1, Reason.UNKNOWN_SYMBOL)]
    assert decoded.rows.tolist() == [0, 2]


class Flaky:
    """A registry that does not answer at first."""

    def __init__(self, silences: int) -> None:
        self.silences = silences
        self.asked = 0

    def schema(self, schema_id: int) -> str | None:
        self.asked += 1
        if self.silences:
            self.silences -= 1
            message = "no answer"
            raise RegistryUnavailableError(message)
        return TEXTS.get(schema_id)


def test_an_unknown_id_waits_while_the_registry_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    waited: list[float] = []
    decoder = Decoder(Flaky(3), EVENT, max_value_bytes=MOST_BYTES, wait=waited.append)
    assert decode(GOOD, decoder=decoder).rejects == ()
    assert waited == [1.0, 1.0, 1.0]
    assert caplog.messages == ["waiting for the schema registry"] * 3


def test_waiting_for_the_registry_can_be_ended() -> None:
    decoder = Decoder(Flaky(3), EVENT, max_value_bytes=MOST_BYTES, wait=refuse_to_wait)
    with pytest.raises(AssertionError):
        decode(GOOD, decoder=decoder)


def test_known_ids_go_on_while_the_registry_does_not_answer() -> None:
    registry = Flaky(0)
    decoder = Decoder(registry, EVENT, max_value_bytes=MOST_BYTES, wait=refuse_to_wait)
    decode(GOOD, decoder=decoder)
    registry.silences = 1_000_000
    assert decode(GOOD, None, GOOD, decoder=decoder).rows.tolist() == [0, 2]
    assert registry.asked == 1


def test_an_id_registered_a_moment_later_is_found() -> None:
    texts: dict[int, str] = {}
    decoder = Decoder(InMemorySchemas(texts), EVENT, max_value_bytes=MOST_BYTES, wait=refuse_to_wait)
    assert [reject.reason for reject in decode(GOOD, decoder=decoder).rejects] == [Reason.UNKNOWN_SCHEMA]
    texts[EVENT_ID] = EVENT
    assert decode(GOOD, decoder=decoder).rejects == ()


def strange(*fields: object) -> str:
    return json.dumps({"type": "record", "name": "UserEvent", "namespace": "com.ecommerce.events", "fields": fields})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '"string"',
        '{"type": "record", "fields": []}',
        '{"type": "record", "name": "com.ecommerce.events.UserEvent"}',
        strange("x"),
        strange({"name": "x"}),
        strange({"name": "x", "type": ["string", "int"]}),
        strange({"name": "x", "type": ["null", "string", "int"]}),
        strange({"name": "x", "type": ["string"]}),
        strange({"name": "x", "type": {"type": "fixed", "name": "F", "size": 4}}),
        strange({"name": "x", "type": ["null", "UserEvent"]}),
        strange({"name": "x", "type": "Nobody"}),
    ],
)
def test_no_registered_schema_stops_a_service(text: str) -> None:
    decoded = decode(GOOD, decoder=new_decoder({EVENT_ID: text}))
    assert [reject.stage for reject in decoded.rejects] == [DECODE]


@settings(max_examples=30)
@given(st.lists(good_data, max_size=20), st.integers(0, 20), st.sampled_from([EVENT_ID, *NAN_IDS]))
def test_encoded_columns_say_what_the_reference_encodes(
    data: list[dict[str, Any]], skipped: int, schema_id: int
) -> None:
    encoder = Encoder(EVENT, schema_id)
    rows = [datum | {"properties": list(datum["properties"].items())} for datum in data]
    batch = pa.RecordBatch.from_pylist(rows, schema=encoder.schema)
    assert list(encoder.encode(batch)) == [avro_value(EVENT, schema_id, datum) for datum in data]
    rest = [avro_value(EVENT, schema_id, datum) for datum in data[skipped:]]
    assert list(encoder.encode(batch.slice(skipped))) == rest


@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject != "dead-letters"])
def test_every_subject_but_dead_letters_can_be_encoded_in_columns(subject: str) -> None:
    assert Encoder(schema_text(subject), 1).schema.names


def test_a_schema_with_bytes_cannot_be_encoded_in_columns() -> None:
    with pytest.raises(ValueError, match="cannot be encoded in columns"):
        Encoder(schema_text("dead-letters"), 1)


def test_a_null_where_a_value_must_be_is_refused() -> None:
    encoder = Encoder(EVENT, 1)
    rows = decode(GOOD).columns
    broken = rows.set_column(0, encoder.schema.field(0), pa.array([None], pa.string()))
    with pytest.raises(ValueError, match="column eventId: string with 1 nulls"):
        encoder.encode(broken)


def test_a_column_of_another_type_is_refused() -> None:
    rows = decode(GOOD).columns
    broken = rows.set_column(4, pa.field("timestamp", pa.int32()), pa.array([1], pa.int32()))
    with pytest.raises(ValueError, match="column timestamp: int32"):
        Encoder(EVENT, 1).encode(broken)


ROW = {
    "service": "ingest",
    "stage": "decode",
    "reason": "undecodable",
    "detail": "",
    "source_topic": "user-events",
    "source_partition": 3,
    "source_offset": 2**40,
    "source_timestamp": 253_402_300_799_999,
    "key": None,
    "value": b"\xff\x00",
    "occurred_at": -1,
}


def test_a_row_with_bytes_and_far_times_comes_back() -> None:
    value = RowEncoder(schema_text("dead-letters"), 7).encode(ROW)
    assert value[:5] == b"\x00\x00\x00\x00\x07"
    assert avro_datum(schema_text("dead-letters"), value) == ROW


@pytest.mark.parametrize("broken", [{"source_offset": "7"}, {"reason": None}, {"value": "text"}])
def test_a_row_of_another_type_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        RowEncoder(schema_text("dead-letters"), 7).encode(ROW | broken)


def test_a_row_without_a_field_is_refused() -> None:
    with pytest.raises(ValueError, match="detail"):
        RowEncoder(schema_text("dead-letters"), 7).encode({k: v for k, v in ROW.items() if k != "detail"})


def test_a_schema_that_columns_cannot_hold_is_decoded_record_by_record() -> None:
    text = schema_text("dead-letters")
    value = RowEncoder(text, 7).encode(ROW)
    decoder = Decoder(InMemorySchemas({7: text}), text, max_value_bytes=MOST_BYTES, wait=refuse_to_wait)
    decoded = decode(value, value[:-1], value + b"x", value, decoder=decoder)
    assert decoded.rows.tolist() == [0, 3]
    assert [reject.reason for reject in decoded.rejects] == [Reason.UNDECODABLE, Reason.TRAILING_BYTES]
    assert decoded.columns["value"].to_pylist() == [b"\xff\x00"] * 2
    assert decoded.columns["source_offset"].to_pylist() == [2**40] * 2
