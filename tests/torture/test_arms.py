"""The short form of every arm: nothing lost, nothing doubled, whatever is killed, scaled, taken away or spoilt."""

from pathlib import Path

import pytest

from arms import short_groups
from arms.arm import Arm, run
from bench import SHORT

pytestmark = pytest.mark.torture


_GROUPS = [arms for arms in short_groups() if not any(arm.needs_previous for arm in arms)]


@pytest.mark.parametrize("arms", _GROUPS, ids=lambda arms: "-".join(arm.name for arm in arms))
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
