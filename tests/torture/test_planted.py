"""A torture that finds nothing may be blind: a fault planted on purpose has to be found."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

import planted
from arms.arm import Arm, run
from bench import SHORT, Bench
from millrace_common.failpoints import LAST_WORDS, Aim, Failpoint
from millrace_local.services import Service

pytestmark = pytest.mark.torture

_TITLE: Final = "enrich"
_EDGE: Final = Failpoint.COMMIT_TRANSACTION_BEFORE


def _careless(service: Service) -> Service:
    told = {"PYTHONPATH": str(Path(planted.__file__).parent), "FAILPOINT": str(Aim(_EDGE, 20))}
    return replace(service, module=planted.__name__, environment={**service.environment, **told})


def die_once_with_the_fault(bench: Bench) -> None:
    """Let a careless enrich work for 20 commits and die in the last, then go on with the sound one."""
    sound = bench.stack.services()
    killed = bench.said(_TITLE, LAST_WORDS)
    bench.stack.set_services([_careless(service) if service.title == _TITLE else service for service in sound])
    bench.until(lambda: bench.said(_TITLE, LAST_WORDS) > killed, f"{_TITLE} did not die")
    bench.stack.set_services(sound)
    bench.struck[f"{_EDGE} {_TITLE}"] += 1
    bench.stack.wait_ready()


def test_offsets_committed_outside_the_transaction_are_found(tmp_path: Path) -> None:
    arm = Arm(
        "planted",
        "enrich commits its offsets outside the transaction, and dies between the two",
        die_once_with_the_fault,
        fires={f"{_EDGE} {_TITLE}": 1},
        length=3,
    )
    result = run([arm], replace(SHORT, least_seconds=5.0), tmp_path / "stack", seed=4)
    assert result.lost > 0
    assert any(problem.startswith(f"{_TITLE}: a hole at user-events.valid") for problem in result.problems)
    assert any(problem.startswith("events: ") for problem in result.problems)
