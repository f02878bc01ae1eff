import pytest

from millrace_generator.partitions import murmur2, partition_for


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    # The vectors of the Java client's own test.
    assert murmur2(key) == expected % 2**32


def test_partition_uses_the_lower_31_bits() -> None:
    assert partition_for(b"foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000
