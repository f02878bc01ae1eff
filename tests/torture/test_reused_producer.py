"""The arm that lets a commit come too late catches the bug it is there for."""

from dataclasses import replace
from pathlib import Path

import pytest

import reused_producer
from arms import proxy
from arms.arm import run
from bench import SHORT, Bench

pytestmark = pytest.mark.torture


def test_a_producer_used_again_after_an_unknown_outcome_is_caught(tmp_path: Path) -> None:
    late_commit = next(arm for arm in proxy.ARMS if arm.name == "late-commit")

    def plant_and_strike(bench: Bench) -> None:
        bench.stack.set_services([reused_producer.planted(service) for service in bench.stack.services()])
        bench.stack.wait_ready()
        late_commit.strike(bench)

    arm = replace(late_commit, strike=plant_and_strike, length=5)
    result = run([arm], replace(SHORT, least_seconds=5.0), tmp_path / "stack", seed=4)
    assert result.struck["late END_TXN carried out"] > 0
    assert result.doubled > 0
