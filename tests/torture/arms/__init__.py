"""Everything that is done to a running pipeline, by theme."""

from typing import Final

from arms import (
    brokers,
    clocks,
    failpoints,
    lake,
    log_edges,
    pauses,
    poison,
    proxy,
    services,
    snapshots,
    surroundings,
    versions,
)
from arms.arm import Arm

ARMS: Final[tuple[Arm, ...]] = (
    *services.ARMS,
    *failpoints.ARMS,
    *surroundings.ARMS,
    *snapshots.ARMS,
    *pauses.ARMS,
    *poison.ARMS,
    *proxy.ARMS,
    *clocks.ARMS,
    *brokers.ARMS,
    *versions.ARMS,
    *lake.ARMS,
    *log_edges.ARMS,
)

# Arms that strike the same stack one after another: a stack takes as long to start and to judge as an arm to strike.
_TOGETHER: Final = (
    ("kills", "snapshots"),
    ("scale", "broker"),
    ("late-commit", "proxy", "pauses"),
    ("poison", "registry"),
    # In this order: a dropped table is filled again from a log that still has all, and so is the state of ingest.
    (
        *("second-lake", "disk-full", "table-dropped", "lost-input"),
        *("strangers", "compaction", "log-start", "hanging-transaction"),
    ),
)


def short_groups() -> list[tuple[Arm, ...]]:
    """Return the arms of the short form, those together that strike the same stack."""
    short = {arm.name: arm for arm in ARMS if "short" in arm.forms}
    groups = [tuple(short.pop(name) for name in names) for names in _TOGETHER]
    return [*groups, *((arm,) for arm in short.values())]
