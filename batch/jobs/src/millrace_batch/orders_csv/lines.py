"""The lines of a file, block by block: a file of any size, and a line of any length, in bounded memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

MAX_LINE_BYTES: Final = 262_144
"""Of a longer line, so much is kept: the largest value that a service takes from a topic."""
_BLOCK_BYTES: Final = 1 << 20


class Readable(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        number: from 1.
        raw: without what ends it; of a line that is too long, the beginning.
        is_ended: whether anything ends it; the last line of a file that is still being written has no end.
        is_too_long: whether some of it is missing.
    """

    number: int
    raw: bytes
    is_ended: bool = True
    is_too_long: bool = False


class Lines:
    """Reads lines, and knows afterwards what the file was."""

    def __init__(self, file: Readable) -> None:
        """Read `file` from where it is."""
        self._file = file
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Line]:
        """Give each line once."""
        number, pending, is_too_long = 1, b"", False
        while block := self._file.read(_BLOCK_BYTES):
            self._digest.update(block)
            self.size_bytes += len(block)
            *whole, rest = block.split(b"\n")
            for part in whole:
                raw = pending + part
                yield _line(number, raw, is_too_long)
                number, pending, is_too_long = number + 1, b"", False
            pending += rest
            if len(pending) > MAX_LINE_BYTES:
                pending, is_too_long = pending[:MAX_LINE_BYTES], True
        if pending:
            yield Line(number, pending, is_ended=False, is_too_long=is_too_long)

    @property
    def sha256(self) -> str:
        """Return the digest of all that was read."""
        return self._digest.hexdigest()


def sha256(file: Readable) -> str:
    """Return the digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _line(number: int, raw: bytes, is_too_long: bool) -> Line:
    if is_too_long or len(raw) > MAX_LINE_BYTES:
        return Line(number, raw[:MAX_LINE_BYTES], is_too_long=True)
    return Line(number, raw.removesuffix(b"\r"))
