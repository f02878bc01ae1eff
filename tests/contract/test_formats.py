"""What releases have left for this one, see formats.py: it is read, or it is passed over with a warning."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import formats
from formats import ENRICHED, EVENTS, MINUTE_MS, OFFSET, ROW, RULES, START_MS, TOPIC_ID, WINDOW_MS
from millrace_common.ledger import LedgerRow
from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka
from millrace_common.positions import GroupPositions
from millrace_common.records import Committed, Partition
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_common.testing import avro_datum
from millrace_ingest.app import STATE_VERSION as INGEST_VERSION
from millrace_ingest.dedup import SeenIds
from millrace_ingest.fingerprints import fingerprints
from millrace_lake import history
from millrace_lake.ledger import row_app_id
from millrace_lake.tables import tables
from millrace_lake.writer import TableWriter
from millrace_sessionize.snapshot import STATE_VERSION as SESSIONIZE_VERSION
from millrace_sessionize.state import OpenSessions

RELEASES = sorted(formats.HERE.iterdir(), key=lambda folder: int(folder.name))
RELEASED_SCHEMAS = Path(__file__).parent / "released"
PLACE = Partition("in", 0)


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what one release has written."""
    return Path(shutil.copytree(request.param, tmp_path / "release"))


def facts(release: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((release / formats.FACTS).read_text(encoding="utf-8"))
    return found


def snapshot(release: Path, service: str, version: int, partition: Partition) -> Snapshot | None:
    return SnapshotStore(str(release / "state"), service, version).newest(partition, OFFSET, TOPIC_ID)


def test_this_release_writes_what_the_newest_folder_has(tmp_path: Path) -> None:
    """If this fails, the format has changed: write the next number, the older ones stay (see formats.py)."""
    formats.write(tmp_path / "now")
    now, before = facts(tmp_path / "now"), facts(RELEASES[-1])
    assert {**now, "release": ""} == {**before, "release": ""}
    for service, version, partition in (
        ("ingest", INGEST_VERSION, EVENTS),
        ("sessionize", SESSIONIZE_VERSION, ENRICHED),
    ):
        states = [snapshot(folder, service, version, partition) for folder in (tmp_path / "now", RELEASES[-1])]
        schemas = [found.state.schema.remove_metadata() for found in states if found is not None]
        assert len(schemas) == 2
        assert schemas[0].equals(schemas[1])


@pytest.mark.parametrize(
    ("service", "version", "partition"),
    [("ingest", INGEST_VERSION, EVENTS), ("sessionize", SESSIONIZE_VERSION, ENRICHED)],
)
def test_a_snapshot_of_another_state_version_is_passed_over_and_said(
    release: Path, caplog: pytest.LogCaptureFixture, service: str, version: int, partition: Partition
) -> None:
    written_by = facts(release)["state_versions"][service]
    found = snapshot(release, service, version, partition)
    assert (found is not None) == (written_by == version)
    assert snapshot(release, service, written_by + 1, partition) is None
    assert "snapshot has another state version" in caplog.text


def test_ingest_goes_on_from_the_snapshot(release: Path) -> None:
    if facts(release)["state_versions"]["ingest"] != INGEST_VERSION:
        pytest.skip("an older state version: replayed instead")
    found = snapshot(release, "ingest", INGEST_VERSION, EVENTS)
    assert found is not None
    assert (found.offset, found.topic_id, found.watermark_ms) == (OFFSET, TOPIC_ID, START_MS)
    later = fingerprints([pa.array([*formats.IDS, "new"])])
    times = np.full(len(formats.IDS) + 1, START_MS + WINDOW_MS + 10_000, dtype=np.int64)
    restored, rebuilt = (
        state.add(later, times).tolist() for state in (SeenIds.restore(found.state, WINDOW_MS), formats.seen_ids())
    )
    assert restored == rebuilt
    assert restored == [number > 10 for number in range(len(formats.IDS))] + [False]


def test_sessionize_goes_on_from_the_snapshot(release: Path) -> None:
    if facts(release)["state_versions"]["sessionize"] != SESSIONIZE_VERSION:
        pytest.skip("an older state version: replayed instead")
    found = snapshot(release, "sessionize", SESSIONIZE_VERSION, ENRICHED)
    assert found is not None
    assert (found.offset, found.topic_id, found.watermark_ms) == (OFFSET, TOPIC_ID, START_MS)

    def sessions(state: OpenSessions) -> list[dict[str, Any]]:
        late = state.apply(formats.enriched_after()).late_rows.tolist()
        closed = state.close().sessions.to_pylist()
        state.advance(START_MS + 500 * MINUTE_MS)
        return [{"late": late}, *closed, *state.close().sessions.to_pylist()]

    restored = sessions(OpenSessions.restore(RULES, found.state))
    assert restored == sessions(formats.open_sessions())
    assert {row["closed_by"] for row in restored[1:]} == {"gap", "max_events"}


def test_commit_metadata_is_read(release: Path) -> None:
    for written in facts(release)["commit_metadata"]:
        kafka = MemoryKafka({"in": 1})
        kafka.committed[PLACE] = (OFFSET, written["text"])
        found = GroupPositions(MemoryConsumer(kafka), 1.0).committed([PLACE])[PLACE]
        assert found == Committed(OFFSET, written["watermark_ms"], written["topic_id"], tuple(written["brake"]))


def test_ledger_rows_are_read(release: Path) -> None:
    written = facts(release)["ledger"]
    schema = (RELEASED_SCHEMAS / "ledger" / f"{written['schema']}.avsc").read_text(encoding="utf-8")
    row = LedgerRow.from_record(avro_datum(schema, bytes.fromhex(written["value_hex"])))
    assert row == ROW
    assert row.key == ROW.key


def test_positions_and_rows_in_a_table_are_read_and_gone_on_with(release: Path) -> None:
    uri, app = str(release / "lake" / "late_events"), row_app_id(ROW)
    assert history.ledger_rows(uri) == [ROW]
    assert history.positions(uri, [app]) == {app: OFFSET}
    writer = TableWriter(tables(["late_events"])[0], formats.table_store(release / "lake"))
    assert writer.positions([app]) == {app: OFFSET}
    following = replace(ROW, first_offset=OFFSET, next_offset=OFFSET + 5)
    writer.append([], [following], START_MS)
    assert history.ledger_rows(uri) == [ROW, following]
    assert history.positions(uri, [app]) == {app: OFFSET + 5}
