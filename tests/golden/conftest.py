"""Golden cases: a folder is a case, its input.ndjson is written by hand, the two other files say what comes of it.

A test module names its service in SERVICE and takes `golden_case`; it then runs once for each folder of that service.
`MILLRACE_REGENERATE_GOLDEN=1 pytest tests/golden` writes expected.ndjson and rejected.ndjson anew: read the diff.

A line of input is one record. `datum` holds what differs from the topic's record in `<service>/defaults.json`;
optional are `key`, `timestamp_ms` (append time), `subject` and `schema_id` (other than the topic's), `value_hex`
(instead of any datum; null: a tombstone), `property_count` and `property_bytes` (that many more properties; one more
of that size), `patch` (hex to hex, replaced in the encoded bytes) and `append_hex`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest

from millrace_common.testing import InMemorySchemas, Record, avro_value
from millrace_schemas import SUBJECTS, schema_text

HERE: Final = Path(__file__).parent
SCHEMA_IDS: Final = {subject: number for number, subject in enumerate(SUBJECTS, start=1)}
Line = dict[str, Any]


@dataclass(frozen=True)
class GoldenCase:
    """One folder."""

    folder: Path

    @property
    def schemas(self) -> InMemorySchemas:
        """A registry that has every subject."""
        return InMemorySchemas({number: schema_text(subject) for subject, number in SCHEMA_IDS.items()})

    @cached_property
    def lines(self) -> list[Line]:
        """The input as written."""
        return _read(self.folder / "input.ndjson")

    def records(self) -> list[tuple[str, Record]]:
        """Return (topic, record) for each input line; the offset is the line's number, from 0."""
        defaults = json.loads((self.folder.parent / "defaults.json").read_text())
        return [(line["topic"], _record(line, defaults[line["topic"]], row)) for row, line in enumerate(self.lines)]

    def check(self, *, expected: Sequence[Line], rejected: Sequence[Line]) -> None:
        """Compare what came of the input with the files, or write them."""
        for name, found in (("expected", expected), ("rejected", rejected)):
            path = self.folder / f"{name}.ndjson"
            if os.environ.get("MILLRACE_REGENERATE_GOLDEN"):
                path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in found))
            assert json.loads(json.dumps(found)) == _read(path), path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" in metafunc.fixturenames:
        folders = sorted(path.parent for path in (HERE / metafunc.module.SERVICE).glob("*/input.ndjson"))
        assert folders, f"no cases for {metafunc.module.SERVICE}"
        metafunc.parametrize("golden_case", [GoldenCase(f) for f in folders], ids=[f.name for f in folders])


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _record(line: Line, default: Line, offset: int) -> Record:
    key = (default | line)["key"]
    value = _value(line, default)
    return Record(value, None if key is None else key.encode(), offset, (default | line)["timestamp_ms"])


def _value(line: Line, default: Line) -> bytes | None:
    if "value_hex" in line:
        return None if line["value_hex"] is None else bytes.fromhex(line["value_hex"])
    subject = (default | line)["subject"]
    datum = _merged(default["datum"], line.get("datum", {})) if "subject" not in line else line["datum"]
    more = {str(number): "" for number in range(line.get("property_count", 0))}
    if "property_bytes" in line:
        more["large"] = "x" * line["property_bytes"]
    if more:
        datum["properties"] = datum["properties"] | more
    value = avro_value(schema_text(subject), line.get("schema_id", SCHEMA_IDS[subject]), datum)
    for old, new in line.get("patch", {}).items():
        assert bytes.fromhex(old) in value
        value = value.replace(bytes.fromhex(old), bytes.fromhex(new))
    return value + bytes.fromhex(line.get("append_hex", ""))


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        merged[name] = _merged(base[name], value) if isinstance(value, dict) and name != "properties" else value
    return merged
