from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace_batch import jobs
from millrace_batch.errors import BatchError, NothingBeganError, ProductsError, UnknownJobError
from millrace_batch.jobs import Job
from millrace_batch.lake import Lake
from millrace_batch.night import Again, Night, Outcome
from millrace_local.cli import app

DAY = date(2026, 3, 1)


def no_spark() -> None:
    pytest.fail("this job needs no Spark")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(DAY, Lake(str(tmp_path)), no_spark)  # type: ignore[arg-type]  # it does not return


def with_job(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    monkeypatch.setattr(jobs, "JOBS", {"count": job})


def count(night: Night) -> Outcome:
    return Outcome((f"counted {night.day} in {night.lake.uri}",), {"rows": 3})


def fail(night: Night) -> Outcome:
    message = f"no rows of {night.day}"
    raise BatchError(message)


def test_success_is_recorded_for_prometheus(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(monkeypatch, Job("counts", count))
    assert jobs.run("count", night, tmp_path / "metrics").lines == (f"counted 2026-03-01 in {tmp_path}",)
    (file,) = (tmp_path / "metrics").iterdir()
    assert file.name == "batch_count.prom"
    samples = dict(line.rsplit(" ", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    assert samples['millrace_batch_rows{job="count"}'] == "3"
    assert float(samples['millrace_batch_last_success_timestamp_seconds{job="count"}']) > 1.7e9
    assert float(samples['millrace_batch_last_duration_seconds{job="count"}']) >= 0


def test_failure_leaves_the_last_success_as_it_was(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_job(monkeypatch, Job("counts", count))
    jobs.run("count", night, tmp_path)
    before = (tmp_path / "batch_count.prom").read_text()
    with_job(monkeypatch, Job("counts", fail))
    with pytest.raises(BatchError):
        jobs.run("count", night, tmp_path)
    assert (tmp_path / "batch_count.prom").read_text() == before


def test_day_that_has_no_night_has_an_exit_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(night: Night) -> Outcome:
        message = f"no session began within {night.fresh_within}"
        raise NothingBeganError(message)

    with_job(monkeypatch, Job("begins", begin))
    options = ["--date", "2026-03-01", "--fresh-minutes", "90", "--work-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, ["batch", "count", *options])
    assert (shown.exit_code, shown.output) == (99, "no session began within 1:30:00\n")


def test_unknown_job_is_refused_with_the_known_ones(night: Night) -> None:
    with pytest.raises(UnknownJobError, match=f"no job nothing: the jobs are {', '.join(jobs.JOBS)}$"):
        jobs.run("nothing", night)


def test_command_runs_a_job_on_the_lake_of_the_work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(monkeypatch, Job("counts", count))
    shown = CliRunner().invoke(app, ["batch", "count", "--date", "2026-03-01", "--work-dir", str(tmp_path)])
    assert shown.output == f"counted 2026-03-01 in {tmp_path}/lake\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("count", "say which day: --date"),
        ("reenrich", "say which day: --date, or --from and --to"),
        ("count --from 2026-03-01 --to 2026-03-02", "are for reenrich"),
        ("reenrich --from 2026-03-01", "go together"),
        ("reenrich --from 2026-03-01 --to 2026-03-02 --date 2026-03-01", "without --date"),
        ("reenrich --from 2026-03-02 --to 2026-03-01", "is before --from"),
        ("count --date 2026-03-01 --dry-run", "are for reenrich"),
    ],
)
def test_days_that_do_not_fit_the_job_are_refused(options: str, message: str) -> None:
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["batch", *options.split()])
    assert (shown.exit_code, message in shown.output) == (2, True), shown.output


def test_reenrich_is_given_its_days_and_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Night] = []

    def note(night: Night) -> Outcome:
        night.tell("told")
        asked.append(night)
        return Outcome(())

    monkeypatch.setattr(jobs, "JOBS", {"reenrich": Job("notes", note)})
    days = ["--from", "2026-03-01", "--to", "2026-03-02"]
    rest = ["--products", "p.csv", "--dry-run", "--work-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, ["batch", "reenrich", *days, *rest])
    assert shown.output == "told\n"
    assert (asked[0].day, asked[0].again) == (DAY, Again(date(2026, 3, 2), "p.csv", dry_run=True))
    assert asked[0].report_dir == tmp_path / "reports"


def test_reenrich_wants_products(night: Night) -> None:
    with pytest.raises(ProductsError, match="--products FILE"):
        jobs.run("reenrich", night)


def test_tables_are_addressed_as_spark_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake("lake").table_uri("events") == f"{tmp_path}/lake/events"
    assert Lake("s3://bucket/lake/").table_uri("events") == "s3a://bucket/lake/events"
    assert Lake("s3a://bucket/lake").sql_name("events") == "delta.`s3a://bucket/lake/events`"
