"""Snapshots disappear, break, or cannot be written."""

import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from arms.arm import Arm
from bench import Bench, TortureError
from millrace_common.records import Partition
from millrace_common.snapshots import SnapshotStore
from millrace_ingest.app import STATE_VERSION as INGEST_VERSION
from millrace_sessionize.snapshot import STATE_VERSION as SESSIONIZE_VERSION

_STATE_VERSIONS: Final = {"sessionize": SESSIONIZE_VERSION, "ingest": INGEST_VERSION}
_STATEFUL: Final = tuple(_STATE_VERSIONS)
# Of user-events, and so of everything after it.
_PARTITIONS: Final = 4


def spoil_snapshots(bench: Bench) -> None:
    """Kill stateful services and spoil what they left; then let the store be unwritable while they work."""
    store = bench.stack.work_dir / "state"
    spoilt: dict[Path, int] = {}
    for damage, said in (
        (_delete_all, None),
        (_truncate_newest, "snapshot is unreadable"),
        (_corrupt_one, "snapshot is unreadable"),
        (_age_all, "snapshot has another state version"),
    ):
        for name in _STATEFUL:
            folder = store / name
            bench.until(partial(_has_snapshots, folder, spoilt), f"{name} wrote no snapshots")
            said_before = _said(bench, name, said)
            began = time.monotonic()
            bench.kill([name], signal.SIGKILL)
            spoilt |= {path.parent: int(path.stem) for path in newest(folder)}
            damage(folder)
            bench.stack.wait_ready()
            bench.recoveries_seconds.append(time.monotonic() - began)
            if said is not None and _said(bench, name, said) == said_before:
                message = f"{name} did not notice: {damage.__name__}"
                raise TortureError(message)
            bench.struck[f"{damage.__name__.strip('_').replace('_', ' ')}: {name}"] += 1
    _make_unwritable(bench, store)


def newest(folder: Path) -> list[Path]:
    """Return the newest snapshot of every partition of a service."""
    latest: dict[Path, Path] = {}
    for path in sorted(folder.glob("*/*/*.arrow"), key=lambda path: int(path.stem)):
        latest[path.parent] = path
    return list(latest.values())


def _has_snapshots(folder: Path, spoilt: Mapping[Path, int]) -> bool:
    """Return whether there are snapshots behind those that were spoilt before."""
    return sum(int(path.stem) > spoilt.get(path.parent, -1) for path in newest(folder)) >= _PARTITIONS


def _delete_all(folder: Path) -> None:
    for path in folder.glob("*/*/*.arrow"):
        path.unlink()


def _truncate_newest(folder: Path) -> None:
    for path in newest(folder):
        os.truncate(path, path.stat().st_size // 2)


def _corrupt_one(folder: Path) -> None:
    path = max(newest(folder), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _age_all(folder: Path) -> None:
    """Write every snapshot as the state version before this one would have."""
    version = _STATE_VERSIONS[folder.name]
    store, older = (SnapshotStore(str(folder.parent), folder.name, number) for number in (version, version - 1))
    for path in sorted(folder.glob("*/*/*.arrow")):
        partition, offset = Partition(path.parts[-3], int(path.parts[-2])), int(path.stem)
        for topic_id in store.topic_ids(partition):
            snapshot = store.newest(partition, offset, topic_id)
            if snapshot is not None and snapshot.offset == offset:
                older.write(snapshot)


def _make_unwritable(bench: Bench, store: Path) -> None:
    """Let a file stand where the store was, kill a service meanwhile, and put the store back; each is one rename."""
    words = "snapshot was not written"
    before = {name: _said(bench, name, words) for name in _STATEFUL}
    began = time.monotonic()
    home = store.readlink()
    spare = store.with_name("spare")
    spare.touch()
    spare.replace(store)
    try:
        bench.until(
            lambda: all(_said(bench, name, words) > before[name] for name in _STATEFUL), "snapshots are still written"
        )
        bench.kill(["sessionize"], signal.SIGKILL)
        bench.last(bench.form.outage_seconds - (time.monotonic() - began))
    finally:
        spare.symlink_to(home)
        spare.replace(store)
    bench.struck["store unwritable"] += 1
    bench.start_again(["sessionize"])
    bench.stack.wait_ready()


def _said(bench: Bench, name: str, words: str | None) -> int:
    return 0 if words is None else bench.said(name, words)


ARMS: Final = (
    Arm(
        "snapshots",
        "sessionize and ingest killed, their snapshots deleted, truncated, corrupted, aged by a state version; the "
        "store unwritable",
        spoil_snapshots,
        fires={
            f"{damage}: {title}": 1
            for damage in ("delete all", "truncate newest", "corrupt one", "age all")
            for title in _STATEFUL
        }
        | {"store unwritable": 1},
        snapshots_stay=False,
    ),
)
