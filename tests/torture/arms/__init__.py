"""Everything that is done to a running pipeline, by theme."""

from typing import Final

from arms import failpoints, pauses, poison, proxy, services, snapshots, surroundings
from arms.arm import Arm

ARMS: Final[tuple[Arm, ...]] = (
    *services.ARMS,
    *failpoints.ARMS,
    *surroundings.ARMS,
    *snapshots.ARMS,
    *pauses.ARMS,
    *poison.ARMS,
    *proxy.ARMS,
)
