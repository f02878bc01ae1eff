"""The short form of every arm: nothing lost, nothing doubled, whatever is killed, scaled, taken away or spoilt."""

from pathlib import Path
from typing import Final

import pytest

from arms import ARMS
from arms.arm import Arm, run
from bench import SHORT

pytestmark = pytest.mark.torture

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


def _groups() -> list[tuple[Arm, ...]]:
    short = {arm.name: arm for arm in ARMS if "short" in arm.forms and not arm.needs_previous}
    groups = [tuple(short.pop(name) for name in names) for names in _TOGETHER]
    return [*groups, *((arm,) for arm in short.values())]


@pytest.mark.parametrize("arms", _groups(), ids=lambda arms: "-".join(arm.name for arm in arms))
def test_nothing_is_lost_or_doubled(arms: tuple[Arm, ...], tmp_path: Path) -> None:
    missing = [f"{arm.name}: {reason}" for arm in arms if (reason := arm.lacks()) is not None]
    able = [arm for arm in arms if arm.lacks() is None]
    if not able:
        pytest.skip("; ".join(missing))
    result = run(able, SHORT, tmp_path / "stack", seed=4)
    assert not result.problems
    assert (result.lost, result.doubled) == (0, 0)
    assert result.records >= 0.95 * SHORT.rate * SHORT.least_seconds
    if missing:  # the others hold
        pytest.skip("; ".join(missing))
