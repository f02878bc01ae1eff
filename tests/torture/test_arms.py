"""The short form of every arm: nothing lost, nothing doubled, whatever is killed, scaled, taken away or spoilt."""

from pathlib import Path

import pytest

from arms import ARMS, SCALED, STATEFUL, Arm, run
from bench import SHORT, TITLES

pytestmark = pytest.mark.torture

# What must have struck, and how often at least.
STRUCK = {
    "kills": {f"{name} {title}": 1 for name in ("SIGKILL", "SIGTERM") for title in TITLES},
    "scale": {f"{count} processes of each": 1 for count in (1, 2, 3)} | {f"SIGKILL {title}": 2 for title in SCALED},
    "broker": {"SIGKILL kafka": 3, "registry away for 10 s": 1},
    "snapshots": {
        f"{damage}: {title}": 1 for damage in ("delete all", "truncate newest", "corrupt one") for title in STATEFUL
    }
    | {"store unwritable for 10 s": 1},
}


@pytest.mark.parametrize("arm", [arm for arm in ARMS if "short" in arm.forms], ids=lambda arm: arm.name)
def test_nothing_is_lost_or_doubled(arm: Arm, tmp_path: Path) -> None:
    result = run(arm, SHORT, tmp_path / "stack", seed=4)
    assert not result.problems
    assert (result.lost, result.doubled) == (0, 0)
    assert result.events >= 0.9 * SHORT.rate * SHORT.least_seconds
    too_few = {
        fault: result.struck.get(fault, 0) for fault, n in STRUCK[arm.name].items() if result.struck.get(fault, 0) < n
    }
    assert not too_few
