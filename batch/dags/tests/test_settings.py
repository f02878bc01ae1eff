"""What the environment may say, and what becomes of what it may not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace_dags.settings import Settings, SettingsError, load


def test_nothing_given_is_the_checkout_that_the_dags_are_in() -> None:
    assert load({}) == Settings()
    assert (Settings().project / "batch" / "dags").samefile(Path(__file__).parents[1])


def test_everything_can_be_given() -> None:
    given = load(
        {
            "MILLRACE_DAGS_PROJECT": "/srv/millrace",
            "MILLRACE_DAGS_RETRIES": "5",
            "MILLRACE_DAGS_RETRY_SECONDS": "2",
            "MILLRACE_DAGS_CATCH_UP_FROM": "2026-03-01",
            "MILLRACE_DAGS_FRESH_MINUTES": "1440",
            "MILLRACE_DAGS_DEADLINE_MINUTES": "90",
            "MILLRACE_DAGS_METRICS_DIR": "/var/metrics",
            "MILLRACE_DAGS_SLACK_WEBHOOK": "https://hooks/x",
            "MILLRACE_DAGS_REFRESH_DAYS": "3",
            "MILLRACE_DAGS_ORDERS_FOLDER": "s3://shop/orders",
            "MILLRACE_DAGS_HAS_STACK": "1",
            "MILLRACE_WORK_DIR": "/else",
        }
    )
    assert given == Settings(
        project=Path("/srv/millrace"),
        millrace=Path("/srv/millrace/.venv/bin/millrace"),
        work_dir=Path("/else"),
        has_stack=True,
        retries=5,
        retry_delay=timedelta(seconds=2),
        catch_up_from=datetime(2026, 3, 1, tzinfo=UTC),
        fresh_within=timedelta(days=1),
        deadline=timedelta(minutes=90),
        metrics_dir=Path("/var/metrics"),
        slack_webhook="https://hooks/x",
        refresh_days=3,
        orders_folder="s3://shop/orders",
    )
    assert "hooks" not in repr(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RETRY_SECONDS", "soon"), ("FRESH_MINUTES", "-1"), ("CATCH_UP_FROM", "1.3."), ("SLACK_WEBHOOK", "hooks/secret")],
)
def test_what_cannot_be_is_refused_without_telling_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"MILLRACE_DAGS_{name}") as refused:
        load({f"MILLRACE_DAGS_{name}": value})
    assert value not in str(refused.value)


def test_empty_variable_is_none() -> None:
    assert load({"MILLRACE_DAGS_SLACK_WEBHOOK": "", "MILLRACE_DAGS_CATCH_UP_FROM": ""}) == Settings()
