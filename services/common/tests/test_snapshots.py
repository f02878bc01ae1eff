import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_common import failpoints
from millrace_common.errors import FatalError
from millrace_common.failpoints import Failpoint
from millrace_common.metrics import SNAPSHOT_FAILURES
from millrace_common.records import Partition
from millrace_common.snapshots import Snapshot, SnapshotStore, SnapshotWriter

PLACE = Partition("user-events", 3)
STATE = pa.table({"key": ["a", "b", None], "count": pa.array([1, 2, 3], pa.int32())}).replace_schema_metadata(
    {"floor": "17"}
)


def at(offset: int, *, topic_id: str = "id", state: pa.Table = STATE, watermark_ms: int | None = 5) -> Snapshot:
    return Snapshot(PLACE, offset, topic_id, watermark_ms, state)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(str(tmp_path), "sessionize", 1)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "sessionize" / "user-events" / "3").iterdir())


def path_of(folder: Path, offset: int) -> Path:
    return folder / "sessionize" / "user-events" / "3" / f"{offset}.arrow"


def test_failpoints_stand_before_the_file_before_its_rename_and_after_it(
    store: SnapshotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(at(1))
    there: dict[Failpoint, list[str]] = {}

    def look(failpoint: Failpoint) -> None:
        there[failpoint] = [name.rpartition(".")[2] for name in files(tmp_path)]

    monkeypatch.setattr(failpoints, "reach", look)
    store.write(at(2))
    assert there == {
        Failpoint.SNAPSHOT_BEFORE: ["arrow"],
        Failpoint.SNAPSHOT_BEFORE_RENAME: ["arrow", "partial"],
        Failpoint.SNAPSHOT_AFTER: ["arrow", "arrow"],
    }


def test_a_snapshot_comes_back_whole(store: SnapshotStore) -> None:
    store.write(at(7))
    found = store.newest(PLACE, 7, "id")
    assert found is not None
    assert (found.partition, found.offset, found.topic_id, found.watermark_ms) == (PLACE, 7, "id", 5)
    assert found.state.equals(STATE)
    assert found.state.schema.metadata[b"floor"] == b"17"


def test_remove_deletes_every_snapshot_of_one_partition(store: SnapshotStore, tmp_path: Path) -> None:
    other = Partition(PLACE.topic, 4)
    store.write(Snapshot(other, 1, "id", None, STATE))
    assert store.count(PLACE) == 0
    store.remove(PLACE)  # nothing there yet
    store.write(at(7))
    SnapshotStore(str(tmp_path), "sessionize", 2).write(at(9, topic_id="other"))
    path_of(tmp_path, 8).with_suffix(".arrow.0.partial").touch()
    assert store.count(PLACE) == 2
    store.remove(PLACE)
    assert (store.count(PLACE), files(tmp_path)) == (0, [])
    assert store.count(other) == 1


@pytest.mark.parametrize("watermark_ms", [None, 0, -1, 2**62])
def test_any_watermark_comes_back(store: SnapshotStore, watermark_ms: int | None) -> None:
    store.write(at(7, watermark_ms=watermark_ms))
    found = store.newest(PLACE, 7, "id")
    assert found is not None
    assert found.watermark_ms == watermark_ms


@pytest.mark.parametrize("rows", [0, 100_000])
def test_any_size_comes_back(store: SnapshotStore, rows: int) -> None:
    state = pa.table({"n": pa.array(range(rows), pa.int64()), "text": [f"k{n}" for n in range(rows)]})
    state = state.cast(pa.schema([("n", pa.int64()), ("text", pa.string())]))
    store.write(at(1, state=state))
    found = store.newest(PLACE, 1, "id")
    assert found is not None
    assert found.state.equals(state)


def test_the_newest_one_at_or_before_the_offset_is_taken(store: SnapshotStore) -> None:
    for offset in (10, 20, 30):
        store.write(at(offset))
    found = [store.newest(PLACE, at_most, "id") for at_most in (30, 29, 20, 10, 9)]
    assert [snapshot.offset if snapshot else None for snapshot in found] == [30, 20, 20, 10, None]


def test_a_partition_or_service_without_snapshots_has_none(tmp_path: Path, store: SnapshotStore) -> None:
    store.write(at(10))
    assert store.newest(Partition("user-events", 30), 99, "id") is None
    assert SnapshotStore(str(tmp_path), "ingest", 1).newest(PLACE, 99, "id") is None


def test_the_last_three_are_kept(tmp_path: Path, store: SnapshotStore) -> None:
    for offset in (9, 10, 200, 31, 400):
        store.write(at(offset))
    assert files(tmp_path) == ["200.arrow", "31.arrow", "400.arrow"]


def test_a_snapshot_behind_later_ones_is_kept(tmp_path: Path, store: SnapshotStore) -> None:
    # After a reset to an earlier offset, or when the topic was created again.
    for offset in (1_000, 2_000, 3_000):
        store.write(at(offset, topic_id="created before"))
    for offset in (10, 20, 30, 40):
        store.write(at(offset))
    found = store.newest(PLACE, 40, "id")
    assert found is not None
    assert found.offset == 40
    assert "10.arrow" not in files(tmp_path)


def test_the_leftover_of_a_killed_writer_goes_when_it_is_old(tmp_path: Path, store: SnapshotStore) -> None:
    store.write(at(10))
    folder = path_of(tmp_path, 0).parent
    (folder / "5.arrow.4711.partial").write_bytes(b"half")
    (folder / "50.arrow.4711.partial").write_bytes(b"being written by another process")
    for offset in (20, 30, 40):
        store.write(at(offset))
    assert files(tmp_path) == ["20.arrow", "30.arrow", "40.arrow", "50.arrow.4711.partial"]


def test_a_truncated_snapshot_is_passed_over_with_a_warning(
    tmp_path: Path, store: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(at(10))
    store.write(at(20))
    whole = path_of(tmp_path, 20).read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path_of(tmp_path, 20).write_bytes(whole[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = store.newest(PLACE, 20, "id")
        assert found is not None
        assert found.offset == 10, length
        assert caplog.messages == ["snapshot is unreadable, trying the one before"]


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_never_gives_another_state(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    store = SnapshotStore(str(folder), "sessionize", 1)
    if not folder.exists():
        store.write(at(10))
        store.write(at(20))
        path_of(folder, 20).rename(folder / "whole")
    content = bytearray((folder / "whole").read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    path_of(folder, 20).write_bytes(content)
    found = store.newest(PLACE, 20, "id")
    assert found is not None
    if found.offset == 20:  # the bit is in padding
        assert (found.topic_id, found.watermark_ms) == ("id", 5)
        assert found.state.equals(STATE, check_metadata=False)
        assert found.state.schema.equals(STATE.schema)
        assert found.state.schema.metadata[b"floor"] == b"17"


def test_a_renamed_snapshot_is_passed_over(tmp_path: Path, store: SnapshotStore) -> None:
    store.write(at(10))
    path_of(tmp_path, 10).rename(path_of(tmp_path, 15))
    assert store.newest(PLACE, 20, "id") is None


def test_an_older_state_version_is_passed_over_with_a_warning(
    tmp_path: Path, store: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(at(10))
    newer = SnapshotStore(str(tmp_path), "sessionize", 2)
    with caplog.at_level(logging.WARNING):
        assert newer.newest(PLACE, 10, "id") is None
    assert caplog.messages == ["snapshot has another state version"]
    newer.write(at(20))
    for one, offset in ((store, 10), (newer, 20)):
        found = one.newest(PLACE, 99, "id")
        assert found is not None
        assert found.offset == offset


def test_a_snapshot_of_a_topic_that_was_deleted_is_passed_over(store: SnapshotStore) -> None:
    store.write(at(10))
    store.write(at(20, topic_id="created before"))
    found = store.newest(PLACE, 20, "id")
    assert found is not None
    assert found.offset == 10
    assert store.topic_ids(PLACE) == {"id", "created before"}


def test_files_of_others_in_the_folder_are_no_snapshots(tmp_path: Path, store: SnapshotStore) -> None:
    store.write(at(10))
    for name in ("notes.txt", "x.arrow", "-5.arrow", "99.arrow.123.partial"):
        path_of(tmp_path, 0).with_name(name).write_bytes(b"?")
    found = store.newest(PLACE, 99, "id")
    assert found is not None
    assert found.offset == 10


def test_readers_beside_a_writer_always_find_a_whole_one(store: SnapshotStore) -> None:
    store.write(at(0))
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not (done.is_set() and reads):
            found = store.newest(PLACE, 10_000, "id")
            # None: all that were listed have been replaced meanwhile; the start that reads has no other writer.
            assert found is None or found.state.equals(STATE)
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        for offset in range(1, 100):
            store.write(at(offset))
        done.set()
        assert all(reader.result() > 0 for reader in readers)


def test_two_writers_of_one_offset_leave_a_whole_snapshot(tmp_path: Path) -> None:
    stores = [SnapshotStore(str(tmp_path), "sessionize", 1) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda store: [store.write(at(offset)) for offset in range(30)], stores))
    found = stores[0].newest(PLACE, 30, "id")
    assert found is not None
    assert found.offset == 29


@pytest.mark.parametrize("stale_watermark_ms", [None, 5])
def test_a_stale_process_does_not_undo_an_idle_advance(tmp_path: Path, stale_watermark_ms: int | None) -> None:
    store = SnapshotStore(str(tmp_path), "sessionize", 1)
    store.write(Snapshot(PLACE, 10, "id", 6, STATE))
    store.write(Snapshot(PLACE, 10, "id", stale_watermark_ms, STATE))
    found = store.newest(PLACE, 10, "id")
    assert found is not None
    assert found.watermark_ms == 6


def test_a_snapshot_replaces_a_broken_one_and_one_of_another_topic_at_its_offset(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path), "sessionize", 1)
    for watermark_ms, topic_id in ((7, "the id before"), (6, "id")):
        store.write(Snapshot(PLACE, 10, topic_id, watermark_ms, STATE))
    assert store.newest(PLACE, 10, "id") is not None
    next(tmp_path.rglob("10.arrow")).write_bytes(b"broken")
    store.write(Snapshot(PLACE, 10, "id", 5, STATE))
    assert store.newest(PLACE, 10, "id") is not None


class Unwritable(SnapshotStore):
    def __init__(self, uri: str, failures: int) -> None:
        super().__init__(uri, "sessionize", 1)
        self.failures = failures

    def write(self, snapshot: Snapshot) -> None:
        if self.failures:
            self.failures -= 1
            message = "No space left on device"
            raise OSError(message)
        super().write(snapshot)


def impatient(store: SnapshotStore) -> SnapshotWriter:
    return SnapshotWriter(store, sleep=lambda seconds: None)


def failures() -> float:
    return float(SNAPSHOT_FAILURES._value.get())


def test_a_failed_write_is_counted_and_nothing_stops(tmp_path: Path) -> None:
    before = failures()
    store = Unwritable(str(tmp_path), 1)
    writer = SnapshotWriter(store)
    writer.submit(at(10))
    writer.submit(at(20))
    writer.close()
    assert failures() == before + 1
    assert files(tmp_path) == ["20.arrow"]


def test_only_what_was_written_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    writer = SnapshotWriter(
        Unwritable(str(tmp_path), 1), on_written=lambda snapshot, seconds: told.append(snapshot.offset)
    )
    writer.submit(at(10))
    writer.submit(at(20))
    writer.close()
    assert told == [20]


def test_waiting_goes_on_until_it_is_written(tmp_path: Path) -> None:
    writer = impatient(Unwritable(str(tmp_path), 3))
    writer.submit(at(10))
    writer.wait_until_written(at(10), lambda: False)
    assert files(tmp_path) == ["10.arrow"]
    writer.close()


def test_waiting_for_one_partition_is_not_satisfied_by_another(tmp_path: Path) -> None:
    writer = impatient(Unwritable(str(tmp_path), 1))
    writer.submit(at(10))  # fails
    writer.submit(Snapshot(Partition("user-events", 4), 99, "id", None, STATE))
    writer.wait_until_written(at(10), lambda: False)
    assert files(tmp_path) == ["10.arrow"]
    writer.close()


def test_waiting_ends_when_the_process_is_told_to_stop(tmp_path: Path) -> None:
    writer = SnapshotWriter(Unwritable(str(tmp_path), 10**9))
    writer.submit(at(10))
    with pytest.raises(FatalError, match=r"stopped while the state of user-events\[3\] could not be written"):
        writer.wait_until_written(at(10), lambda: True)
    writer.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_raises(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        SnapshotStore(str(tmp_path), "sessionize", 1).write(at(1))


def test_a_service_without_state_has_nothing_to_wait_for() -> None:
    writer = SnapshotWriter(None)
    writer.submit(at(10))
    writer.wait_until_written(at(10), lambda: False)
    writer.close()


def test_an_uri_is_as_good_as_a_path(tmp_path: Path) -> None:
    SnapshotStore(f"file://{tmp_path}/", "sessionize", 1).write(at(10))
    found = SnapshotStore(str(tmp_path), "sessionize", 1).newest(PLACE, 10, "id")
    assert found is not None
    assert found.state.equals(STATE)
