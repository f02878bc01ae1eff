"""Snapshots of a partition's state: Arrow IPC files named by the offset they were taken at.

A snapshot is a pure function of the log up to its offset and of when the partition idled there, which is what its
watermark tells. So one of a process that has lost its partition is as good as any other, unless it would replace
one with a later watermark: then it is not written. Layout: `<uri>/<service>/<topic>/<partition>/<offset>.arrow`.
"""

import io
import logging
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import fs

from millrace_common import failpoints, metrics
from millrace_common.errors import FatalError
from millrace_common.failpoints import Failpoint
from millrace_common.records import Partition

_log = logging.getLogger(__name__)

KEPT = 3
RETRY_SECONDS = 1.0
# Stands where the checksum goes while it is computed.
_UNSET: Final = b"CHECKSUM"
_ROWS_AT_ONCE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One partition's state at an offset. `topic_id` tells a recreated topic from the one the state was built from."""

    partition: Partition
    offset: int
    topic_id: str
    watermark_ms: int | None
    state: pa.Table


class SnapshotStore:
    """A folder, local or in an object store, with the last few snapshots of each partition of one service."""

    def __init__(self, uri: str, service: str, state_version: int) -> None:
        """Use `uri` (a path or an URI that pyarrow.fs knows); snapshots of another `state_version` are passed over."""
        if "://" in uri:
            self._files, root = fs.FileSystem.from_uri(uri)
        else:
            self._files, root = fs.LocalFileSystem(), str(Path(uri).absolute())
        self._root = f"{root.rstrip('/')}/{service}"
        self._version = state_version

    def write(self, snapshot: Snapshot) -> None:
        """Write `snapshot`, whole or not at all, and delete all but the newest few of its partition.

        Raises:
            OSError: the store is not writable.
        """
        failpoints.reach(Failpoint.SNAPSHOT_BEFORE)
        folder = self._folder(snapshot.partition)
        self._files.create_dir(folder, recursive=True)
        content = _content(snapshot, self._version)
        path = f"{folder}/{snapshot.offset}.arrow"
        if self._is_outdated(snapshot, path):
            return
        if isinstance(self._files, fs.LocalFileSystem):
            _write_then_rename(path, content)
        else:  # an object appears whole with its PUT
            with self._files.open_output_stream(path) as stream:
                stream.write(content)
        failpoints.reach(Failpoint.SNAPSHOT_AFTER)
        self._prune(folder, snapshot.offset)

    def _is_outdated(self, snapshot: Snapshot, path: str) -> bool:
        """Return whether what stands at `path` has a later watermark.

        The partition idled at this offset, and its new owner has sealed that: no replay would find it out again. A
        process that has lost the partition may still come with the state from before.
        """
        try:
            other = self._read(path, snapshot.partition, snapshot.offset)
        except (OSError, ValueError, KeyError, pa.ArrowException):  # none, or one that nobody could use
            return False
        if other is None or other.topic_id != snapshot.topic_id or other.watermark_ms is None:
            return False
        return snapshot.watermark_ms is None or other.watermark_ms > snapshot.watermark_ms

    def _prune(self, folder: str, newest: int) -> None:
        """Delete what is older than the last few up to `newest`.

        Higher offsets stay: another process may be ahead, and after a reset they must not push out the new ones.
        """
        found = self._offsets(folder)
        # Empty if another process, further ahead, has deleted ours already.
        oldest_kept = min(sorted(offset for offset in found if offset <= newest)[-KEPT:], default=newest)
        for offset in found:
            if offset < oldest_kept:
                self._delete(f"{folder}/{offset}.arrow")
        for name in self._names(folder):
            stem, _, rest = name.partition(".")
            if rest.endswith(".partial") and stem.isdigit() and int(stem) < oldest_kept:  # its writer was killed
                self._delete(f"{folder}/{name}")

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):  # another process was faster
            self._files.delete_file(path)

    def newest(self, partition: Partition, at_most: int, topic_id: str) -> Snapshot | None:
        """Return the newest readable snapshot of this topic at or before offset `at_most`, None if there is none.

        A broken one is logged and passed over: the one before it only means a longer replay.

        Raises:
            OSError: the store cannot be listed.
        """
        folder = self._folder(partition)
        for offset in sorted(self._offsets(folder), reverse=True):
            if offset > at_most:
                continue
            path = f"{folder}/{offset}.arrow"
            try:
                snapshot = self._read(path, partition, offset)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                _log.warning("snapshot is unreadable, trying the one before", extra={"path": path, "error": str(error)})
                continue
            if snapshot is not None and snapshot.topic_id == topic_id:
                return snapshot
        return None

    def topic_ids(self, partition: Partition) -> frozenset[str]:
        """Return the topic ids that snapshots of `partition` were taken from, whatever their state version.

        Raises:
            OSError: the store cannot be listed.
        """
        folder = self._folder(partition)
        found = set()
        for offset in self._offsets(folder):
            try:
                found.add(_facts(self._content(f"{folder}/{offset}.arrow"))["topic_id"])
            except (OSError, ValueError, KeyError, pa.ArrowException):
                continue  # logged when it is wanted
        return frozenset(found)

    def count(self, partition: Partition) -> int:
        """Return how many snapshots of `partition` there are, readable or not.

        Raises:
            OSError: the store cannot be listed.
        """
        return len(self._offsets(self._folder(partition)))

    def remove(self, partition: Partition) -> None:
        """Delete every snapshot of `partition`, of any state version and topic id.

        Raises:
            OSError: the store cannot be listed or written to.
        """
        folder = self._folder(partition)
        for name in self._names(folder):
            self._delete(f"{folder}/{name}")

    def _read(self, path: str, partition: Partition, offset: int) -> Snapshot | None:
        content = self._content(path)
        facts = _facts(content)
        if int(facts["state_version"]) != self._version:
            _log.warning("snapshot has another state version", extra={"path": path, "version": facts["state_version"]})
            return None
        checksum = facts["checksum"].encode()
        if _checksum(content, content.find(checksum)) != checksum or int(facts["offset"]) != offset:
            message = "the checksum or the offset does not match"
            raise ValueError(message)
        watermark = facts["watermark_ms"]
        return Snapshot(
            partition=partition,
            offset=offset,
            topic_id=facts["topic_id"],
            watermark_ms=int(watermark) if watermark else None,
            state=pa.ipc.open_stream(content).read_all(),
        )

    def _content(self, path: str) -> bytes:
        with self._files.open_input_file(path) as file:
            content: bytes = file.read()
        return content

    def _folder(self, partition: Partition) -> str:
        return f"{self._root}/{partition.topic}/{partition.index}"

    def _offsets(self, folder: str) -> list[int]:
        stems = (name.removesuffix(".arrow") for name in self._names(folder) if name.endswith(".arrow"))
        return [int(stem) for stem in stems if stem.isdigit()]

    def _names(self, folder: str) -> list[str]:
        return [file.base_name for file in self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True))]


class SnapshotWriter:
    """Writes snapshots beside the flow, one at a time; a sealed one is waited for."""

    def __init__(
        self,
        store: SnapshotStore | None,
        executor: Executor | None = None,
        sleep: Callable[[float], None] = time.sleep,
        on_written: Callable[[Snapshot, float], None] = lambda snapshot, seconds: None,
    ) -> None:
        """Write to `store`; None: the service has no state, and nothing is ever submitted.

        `executor` runs what is submitted, in order; None: a thread does, and calls `on_written` with what it wrote and
        the seconds that took. `sleep` waits for a store to recover.
        """
        self._store = store
        self._executor = executor if executor is not None else ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._sleep = sleep
        self._on_written = on_written
        self._latest: dict[Partition, Future[bool]] = {}

    def submit(self, snapshot: Snapshot) -> None:
        """Write `snapshot` soon. A failure is logged and counted: the price is a longer replay."""
        self._latest[snapshot.partition] = self._executor.submit(self._write, snapshot)

    def wait_until_written(self, snapshot: Snapshot, stopping: Callable[[], bool]) -> None:
        """Return when `snapshot`, the last one submitted for its partition, is written, however often it takes.

        Raises:
            FatalError: the process was told to stop meanwhile. Nothing is lost: the next start writes it first.
        """
        while not self._latest[snapshot.partition].result():
            if stopping():
                message = f"stopped while the state of {snapshot.partition} could not be written"
                raise FatalError(message)
            metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time())
            self._sleep(RETRY_SECONDS)
            self.submit(snapshot)

    def close(self) -> None:
        """Wait for what was submitted."""
        self._executor.shutdown(wait=True)

    def _write(self, snapshot: Snapshot) -> bool:
        if self._store is None:
            return True
        began = time.perf_counter()
        try:
            self._store.write(snapshot)
        except OSError as error:
            metrics.SNAPSHOT_FAILURES.inc()
            _log.warning(
                "snapshot was not written",
                extra={"partition": str(snapshot.partition), "offset": snapshot.offset, "error": str(error)},
            )
            return False
        seconds = time.perf_counter() - began
        metrics.SNAPSHOT_SECONDS.observe(seconds)
        self._on_written(snapshot, seconds)
        return True


def _content(snapshot: Snapshot, version: int) -> memoryview:
    """Return the snapshot as an Arrow IPC stream; its schema metadata has the facts and a CRC-32 of all the rest."""
    facts = {
        "offset": str(snapshot.offset),
        "topic_id": snapshot.topic_id,
        "watermark_ms": "" if snapshot.watermark_ms is None else str(snapshot.watermark_ms),
        "state_version": str(version),
        "checksum": _UNSET.decode(),
    }
    own = {name.decode(): value.decode() for name, value in (snapshot.state.schema.metadata or {}).items()}
    state = snapshot.state.replace_schema_metadata(own | facts)
    # Neither Arrow's own buffer nor whole columns to compress: its memory pool would keep twice the snapshot for good.
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, state.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(state, max_chunksize=_ROWS_AT_ONCE)
    content = sink.getbuffer()
    # Four bytes of 0xFF, the length of the schema, the schema.
    place = bytes(content[: 8 + int.from_bytes(content[4:8], "little")]).find(_UNSET)
    content[place : place + len(_UNSET)] = _checksum(content, place)
    return content


def _facts(content: bytes) -> dict[str, str]:
    """Return what a snapshot's schema metadata says about it."""
    metadata = pa.ipc.read_schema(pa.BufferReader(content)).metadata or {}
    return {name.decode(): value.decode() for name, value in metadata.items()}


def _checksum(content: bytes | memoryview, place: int) -> bytes:
    """Return the CRC-32 of `content`, as eight hexadecimal digits, with the checksum's own `place` taken as not set."""
    view = memoryview(content)
    crc = zlib.crc32(view[place + len(_UNSET) :], zlib.crc32(_UNSET, zlib.crc32(view[:place])))
    return f"{crc:08x}".encode()


def _write_then_rename(path: str, content: memoryview) -> None:
    # Processes on one volume may have the same process id: they may be in containers.
    partial = f"{path}.{os.urandom(4).hex()}.partial"
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    failpoints.reach(Failpoint.SNAPSHOT_BEFORE_RENAME)
    with suppress(FileNotFoundError):  # another process, further ahead, has tidied up: nobody needs this one any more
        os.replace(partial, path)
