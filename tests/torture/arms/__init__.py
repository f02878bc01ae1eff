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
