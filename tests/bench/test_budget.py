from dataclasses import replace

import pytest

from budget import budget
from comparing import Form
from jobs import JOBS
from lineup import all_systems
from systems import PLAIN, millrace

SYSTEMS = [system for system in all_systems().values() if not system.variant]
EVERY_JOB = list(JOBS.values())
FULL_LOGS = {job.lane: 10**9 for job in EVERY_JOB}


def test_full_bench_keeps_to_forty_minutes_when_logs_are_there() -> None:
    found = budget(Form(), EVERY_JOB, SYSTEMS, FULL_LOGS, pipeline=True)
    assert found.run_seconds + found.other_seconds < 40 * 60


def test_quick_bench_keeps_to_six_minutes_when_logs_are_there() -> None:
    found = budget(Form(rounds=1, window_seconds=3.0, quick=True), EVERY_JOB, SYSTEMS, FULL_LOGS, pipeline=True)
    assert found.fill_seconds == 0
    assert found.run_seconds + found.other_seconds < 6 * 60


def test_run_takes_its_warm_up_its_window_and_what_is_around() -> None:
    two = [PLAIN, millrace()]
    short = budget(Form(checked=False), [JOBS["enrich"]], two, FULL_LOGS, pipeline=False)
    longer = budget(Form(checked=False, window_seconds=30.0), [JOBS["enrich"]], two, FULL_LOGS, pipeline=False)
    assert short.runs == longer.runs == 6
    # Ten seconds a run, and as many more events of the log to draw for the oracle.
    assert longer.run_seconds - short.run_seconds == pytest.approx(60 + 10 * 350_000 * 1e-6)
    warmer = [PLAIN, replace(millrace(), warm_seconds=13.0)]
    assert budget(Form(checked=False), [JOBS["enrich"]], warmer, FULL_LOGS, pipeline=False).run_seconds > (
        short.run_seconds + 30
    )


def test_log_is_filled_once_for_both_its_jobs() -> None:
    session, lake = JOBS["session"], JOBS["lake"]
    both = budget(Form(), [session, lake], [PLAIN], {}, pipeline=False)
    assert both.fill_seconds == budget(Form(), [session], [PLAIN], {}, pipeline=False).fill_seconds > 0
    assert budget(Form(), [session], [PLAIN], FULL_LOGS, pipeline=False).fill_seconds == 0
