"""What the environment says to the DAGs. Everything else that `millrace` reads, it reads itself."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

PREFIX: Final = "MILLRACE_DAGS_"
_PROJECT: Final = Path(__file__).resolve().parents[3]


class SettingsError(ValueError):
    """A variable has a value that cannot be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; README.md of this folder says what each is for.

    Attributes:
        project: the checkout; commands run there.
        millrace: the program.
        work_dir: of the local stack, as `millrace` itself knows it, absolute.
        has_stack: a local stack runs there: the books are proven from its broker too.
        retries: of a task that fails.
        retry_delay: before the second try; it doubles from then on.
        catch_up_from: the first day that is made up for; None: no day is.
        fresh_within: how long before the end of a day its newest event may be.
        deadline: how long a night may take until people are told; zero: they are not.
        metrics_dir: gets each job's success for Prometheus; None: nobody does.
        slack_webhook: where notifications go; None: into the log.
        refresh_days: so many days before today are kept current when late events come.
        orders_folder: where CSV files of orders are dropped: a path, or s3://bucket/path.
    """

    project: Path = _PROJECT
    millrace: Path = _PROJECT / ".venv" / "bin" / "millrace"
    work_dir: Path = _PROJECT / ".millrace"
    has_stack: bool = False
    retries: int = 3
    retry_delay: timedelta = timedelta(minutes=5)
    catch_up_from: datetime | None = None
    fresh_within: timedelta = timedelta(hours=1)
    deadline: timedelta = timedelta(hours=4)
    metrics_dir: Path | None = None
    slack_webhook: str | None = field(default=None, repr=False)
    refresh_days: int = 7
    orders_folder: str = str(_PROJECT / ".millrace" / "orders")


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; an empty variable counts as none.

    Raises:
        SettingsError: it names the variable, and not the value: that may be a secret.
    """
    given = {
        name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX) and value
    }
    project = Path(given.get("PROJECT", _PROJECT)).absolute()
    from_day = given.get("CATCH_UP_FROM")
    webhook = given.get("SLACK_WEBHOOK")
    if webhook is not None and not webhook.startswith(("https://", "http://127.0.0.1:")):
        message = f"{PREFIX}SLACK_WEBHOOK is no https address"
        raise SettingsError(message)
    return Settings(
        project=project,
        millrace=Path(given.get("MILLRACE", project / ".venv" / "bin" / "millrace")),
        work_dir=project / (environment.get("MILLRACE_WORK_DIR") or ".millrace"),
        has_stack=bool(_number(given, "HAS_STACK", 0)),
        retries=_number(given, "RETRIES", 3),
        retry_delay=timedelta(seconds=_number(given, "RETRY_SECONDS", 300)),
        catch_up_from=None if from_day is None else _day(from_day),
        fresh_within=timedelta(minutes=_number(given, "FRESH_MINUTES", 60)),
        deadline=timedelta(minutes=_number(given, "DEADLINE_MINUTES", 240)),
        metrics_dir=Path(given["METRICS_DIR"]) if "METRICS_DIR" in given else None,
        slack_webhook=webhook,
        refresh_days=_number(given, "REFRESH_DAYS", 7),
        orders_folder=given.get("ORDERS_FOLDER", str(project / ".millrace" / "orders")),
    )


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal():
        message = f"{PREFIX}{name} is no whole number"
        raise SettingsError(message)
    return int(text)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        message = f"{PREFIX}CATCH_UP_FROM is no day like 2026-03-01"
        raise SettingsError(message) from error
