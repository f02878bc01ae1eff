import pytest

from millrace_common.dead_letters import MOST_KEY_BYTES, MOST_VALUE_BYTES, dead_letter, is_cut, kept_key
from millrace_common.records import Partition, Reject
from millrace_common.testing import Record

BAD_IP = Reject(0, "validate", "bad_ip", "no ip")


def letter(value: bytes | None, key: bytes | None) -> tuple[object, object, str]:
    found = dead_letter("ingest", Partition("in", 3), Record(value, key, 5, 7), BAD_IP, 9)
    return found["value"], found["key"], str(found["detail"])


@pytest.mark.parametrize("value", [None, b"", b"v", b"v" * MOST_VALUE_BYTES])
@pytest.mark.parametrize("key", [None, b"", b"k" * MOST_KEY_BYTES])
def test_a_record_that_can_be_sent_on_keeps_every_byte(value: bytes | None, key: bytes | None) -> None:
    assert letter(value, key) == (value, key, "no ip")
    assert kept_key(Record(value, key)) == key
    assert not is_cut("no ip")


def test_what_no_topic_takes_is_cut_and_the_detail_says_so() -> None:
    value, key = b"v" * (MOST_VALUE_BYTES + 1), b"k" * (MOST_KEY_BYTES + 1)
    kept_value, kept, detail = letter(value, key)
    assert (kept_value, kept) == (value[:-1], key[:-1])
    assert kept_key(Record(value, key)) == key[:-1]
    assert detail == "cut: key of 1048577 bytes to 1048576, value of 4194305 bytes to 4194304; no ip"
    assert is_cut(detail)
