from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from millrace_batch import computations, jobs
from millrace_batch.due import JOBS_IN_ORDER, Days, Due, due_jobs
from millrace_batch.errors import BatchError, RefreshError
from millrace_batch.inputs import Input, LakeState
from millrace_batch.jobs import Job
from millrace_batch.lake import Lake
from millrace_batch.night import Night, Outcome
from millrace_batch.refresh import refresh_tables
from stream_tables import DAY, NOON, StreamTable

Open = Callable[[str], StreamTable]

BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
WEEK = Days(DAY - timedelta(days=6), DAY)
NOTHING = Outcome(())


def no_spark() -> None:
    pytest.fail("nothing here needs Spark")


def night(lake: Lake, day: date = DAY) -> Night:
    return Night(day, lake, no_spark)  # type: ignore[arg-type]  # it does not return


def write(stream_table: Open, day: date = DAY, *names: str) -> None:
    times = {"events": "event_time", "late_events": "event_time", "sessions": "started_at"}
    for name in names or ("events", "sessions"):
        stream_table(name).append([{times.get(name, "occurred_at"): NOON + (day - DAY)}])


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Due]:
    """Have jobs that do nothing but note that they ran."""
    ran: list[Due] = []

    def noting(name: str) -> Callable[[Night], Outcome]:
        def run(night: Night) -> Outcome:
            ran.append(Due(name, night.day))
            return NOTHING

        return run

    noted = {name: Job("notes", noting(name), jobs.JOBS[name].inputs) for name in JOBS_IN_ORDER}
    monkeypatch.setattr(jobs, "JOBS", noted)
    return ran


def test_day_is_due_until_it_is_computed_and_again_when_its_inputs_change(
    lake: Lake, stream_table: Open, ran: list[Due]
) -> None:
    write(stream_table)
    everything = [Due(name, DAY) for name in JOBS_IN_ORDER]
    assert due_jobs(lake, WEEK) == everything
    assert refresh_tables(night(lake), WEEK) == len(JOBS_IN_ORDER)
    assert ran == everything
    assert due_jobs(lake, WEEK) == []

    version = lake.delta_rs("computations").version()
    assert refresh_tables(night(lake), WEEK) == 0
    assert (len(ran), lake.delta_rs("computations").version()) == (len(everything), version)

    write(stream_table, DAY, "late_events")
    assert due_jobs(lake, WEEK) == [Due("sessions", DAY)]


@pytest.mark.parametrize(
    ("table", "day", "due"),
    [
        ("late_events", AFTER, ["sessions"]),
        ("events", AFTER, ["sessions"]),
        ("events", BEFORE, ["sessions", "user_segments", "user_features", "recommendation_features"]),
        ("events", DAY - timedelta(days=29), ["user_segments", "user_features", "recommendation_features"]),
        ("events", DAY - timedelta(days=30), []),
        ("sessions", DAY - timedelta(days=29), ["user_features"]),
        ("sessions", DAY + timedelta(days=2), []),
        ("transactions", DAY + timedelta(days=7), ["daily_metrics"]),
        ("transactions", DAY + timedelta(days=8), []),
        (
            "transactions",
            DAY - timedelta(days=36),
            ["user_segments", "user_features", "recommendation_features"],
        ),
        ("transactions", DAY - timedelta(days=37), []),
    ],
)
@pytest.mark.usefixtures("ran")
def test_change_is_due_for_the_jobs_that_read_it(
    lake: Lake, stream_table: Open, table: str, day: date, due: list[str]
) -> None:
    write(stream_table)
    refresh_tables(night(lake), WEEK)
    write(stream_table, day, table)
    assert [one.job for one in due_jobs(lake, Days(DAY, DAY))] == due


@pytest.mark.usefixtures("ran")
def test_day_without_a_session_of_its_own_is_not_due_until_one_comes(lake: Lake, stream_table: Open) -> None:
    write(stream_table, DAY, "events")
    assert due_jobs(lake, WEEK) == []
    assert refresh_tables(night(lake), WEEK) == 0
    write(stream_table, DAY, "sessions")
    assert {one.day for one in due_jobs(lake, WEEK)} == {DAY}


def test_only_the_days_asked_for_are_looked_at(lake: Lake, stream_table: Open) -> None:
    for day in (BEFORE, DAY, AFTER):
        write(stream_table, day)
    assert {one.day for one in due_jobs(lake, Days(DAY, DAY))} == {DAY}


def test_change_while_a_job_runs_is_not_taken_for_computed(
    lake: Lake, stream_table: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(night: Night) -> Outcome:
        write(stream_table)
        return Outcome((f"read {night.day} before that",))

    monkeypatch.setattr(jobs, "JOBS", {"sessions": Job("is slow", run, (Input("events"),))})
    write(stream_table)
    jobs.run("sessions", night(lake))
    assert due_jobs(lake, WEEK, ["sessions"]) == [Due("sessions", DAY)]


def test_job_that_adds_to_what_it_reads_runs_until_it_adds_nothing(
    lake: Lake, stream_table: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = [1]

    def correct(night: Night) -> Outcome:
        if corrections:
            corrections.pop()
            write(stream_table, DAY, "sessions")
        return NOTHING

    sessions = jobs.JOBS["sessions"]
    monkeypatch.setattr(jobs, "JOBS", {**jobs.JOBS, "sessions": Job("corrects", correct, sessions.inputs)})
    write(stream_table)
    jobs.run("sessions", night(lake))
    assert due_jobs(lake, WEEK, ["sessions"]) == [Due("sessions", DAY)]
    jobs.run("sessions", night(lake))
    assert due_jobs(lake, WEEK, ["sessions"]) == []


def test_runs_of_a_job_at_a_time_leave_the_day_due(
    lake: Lake, stream_table: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first of them read may be older than what the second one wrote, and may be written last."""
    told: list[str] = []
    again = [1, 0]

    def run(night: Night) -> Outcome:
        if again.pop(0):
            jobs.run("sessions", night)
            assert due_jobs(lake, WEEK, ["sessions"]) == []
        return NOTHING

    monkeypatch.setattr(jobs, "JOBS", {"sessions": Job("runs twice", run, (Input("events"),))})
    write(stream_table)
    jobs.run("sessions", Night(DAY, lake, no_spark, tell=told.append))  # type: ignore[arg-type]
    assert due_jobs(lake, WEEK, ["sessions"]) == [Due("sessions", DAY)]
    assert told == [f"sessions of {DAY}: another run of it ended meanwhile, so that it has to be computed again"]
    again += [0]
    jobs.run("sessions", night(lake))
    assert due_jobs(lake, WEEK, ["sessions"]) == []


@pytest.mark.usefixtures("ran")
def test_run_that_began_before_another_one_recorded_is_refused(lake: Lake, stream_table: Open) -> None:
    write(stream_table)
    refresh_tables(night(lake), WEEK)
    first, second = computations.claim(lake, "sessions"), computations.claim(lake, "sessions")
    state = LakeState(lake).fingerprint(jobs.JOBS["sessions"].inputs, DAY)
    assert computations.record(lake, first, DAY, state)
    assert not computations.record(lake, second, DAY, state)
    assert due_jobs(lake, WEEK, ["sessions"]) == [Due("sessions", DAY)]


def test_day_that_fails_stays_due_and_holds_no_other_day_up(
    lake: Lake, stream_table: Open, ran: list[Due], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(night: Night) -> Outcome:
        if night.day == BEFORE:
            message = "unexplained"
            raise BatchError(message)
        return NOTHING

    monkeypatch.setattr(jobs, "JOBS", {**jobs.JOBS, "sessions": Job("fails", fail, jobs.JOBS["sessions"].inputs)})
    for day in (BEFORE, DAY):
        write(stream_table, day)
    with pytest.raises(RefreshError, match=f"1 days could not be refreshed, .*{BEFORE}: unexplained"):
        refresh_tables(night(lake), WEEK)
    assert [one.day for one in ran] == [DAY] * 4, (
        "the jobs behind it are not run for the day, and all are for the other"
    )
    assert [one for one in due_jobs(lake, WEEK) if one.day == DAY] == []
    assert [one.job for one in due_jobs(lake, WEEK)] == list(JOBS_IN_ORDER)


@pytest.mark.usefixtures("ran")
def test_lake_that_is_none_is_not_made_one(tmp_path: Path) -> None:
    nowhere = Lake(str(tmp_path / "lkae"))
    assert due_jobs(nowhere, WEEK) == []
    assert refresh_tables(night(nowhere), WEEK) == 0
    with pytest.raises(BatchError):
        jobs.run("nothing", night(nowhere))
    assert not (tmp_path / "lkae").exists()


def test_first_record_of_a_lake_may_be_of_two_runs_at_a_time(lake: Lake) -> None:
    first, second = computations.claim(lake, "sessions"), computations.claim(lake, "sessions")
    assert computations.record(lake, first, DAY, "f")
    assert not computations.record(lake, second, DAY, "f")
    assert computations.recorded(lake, DAY, DAY) == {("sessions", DAY): computations.UNKNOWN}
