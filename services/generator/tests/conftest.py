import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from millrace_common.avro import parse, without_logical_types
from millrace_generator.traffic import TOPICS, Record
from millrace_schemas import schema_text

IDS = {topic: 101 + index for index, topic in enumerate(TOPICS)}
SHARED_FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "rees46-2019-10-01.csv"


@pytest.fixture
def schema_ids() -> dict[str, int]:
    return IDS


@pytest.fixture
def decode() -> Callable[[Record], dict[str, Any]]:
    """Decode a record's value by the schema of its topic; nothing may be left over."""

    schemas = {topic: fastavro.parse_schema(without_logical_types(parse(schema_text(topic)))) for topic in TOPICS}

    def decoded(record: Record) -> dict[str, Any]:
        assert record.value[:5] == b"\x00" + IDS[record.topic].to_bytes(4, "big")
        data = io.BytesIO(record.value[5:])
        value = fastavro.schemaless_reader(data, schemas[record.topic], None)
        assert data.read() == b""
        assert isinstance(value, dict)
        return value

    return decoded


@pytest.fixture
def shared_file() -> Path:
    if not SHARED_FILE.exists():
        pytest.skip("the real shop events lie beside the repository, in ../shared/data, and are not there")
    return SHARED_FILE
