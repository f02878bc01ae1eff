"""The kinds of tasks that the night has."""

from collections.abc import Sequence
from typing import Any, Final

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from millrace_dags import settings
from millrace_dags.notification import tell
from millrace_dags.operators import SKIPPED, MillraceOperator
from millrace_dags.summary import summary

DAY: Final = "{{ ds }}"
_NOTHING_TO_DO: Final = 99
_QUALITY: Final = "quality"
_CHECK: Final = "check_day"


class BatchOperator(MillraceOperator):
    """Runs a job of `millrace batch` for the day of the run; the task has the job's name."""

    def __init__(self, *, job: str, options: Sequence[str] = (), **kwargs: Any) -> None:
        """Take the name of the job, and options besides the day."""
        metrics = settings.load().metrics_dir
        recorded = [] if metrics is None else ["--metrics-dir", str(metrics)]
        arguments = ["batch", job, "--date", DAY, *options, *recorded]
        super().__init__(task_id=job, arguments=arguments, skip_exit_code=_NOTHING_TO_DO, **kwargs)


class DbtOperator(MillraceOperator):
    """Runs dbt on the warehouse.

    Several run side by side and share the folder for what they have parsed, which takes longer than most of them. One
    that finds the file half written parses by itself.
    """

    def __init__(self, *, model: str, arguments: Sequence[str], **kwargs: Any) -> None:
        """Take what it builds, and dbt's arguments."""
        folder = str(settings.load().work_dir / "dbt")
        super().__init__(
            task_id=f"dbt_{model}",
            # A test that reads other models too has to wait until they are there: the last task runs it.
            arguments=["warehouse", "dbt", "--no-use-colors", *arguments, "--indirect-selection", "cautious"],
            environment={"DBT_TARGET_PATH": folder, "DBT_LOG_PATH": folder},
            # dbt ends with it when Postgres is away, too.
            usage_exit_code=None,
            **kwargs,
        )


class TellOperator(BaseOperator):
    """Tells how the night went, and fails if it failed: as the last task, it decides what became of the run."""

    def execute(self, context: Context) -> str:
        """Tell it; return what was told.

        Raises:
            AirflowFailException: a task failed.
        """
        run, instance = context["run_id"], context["ti"]
        states = instance.get_task_states(dag_id=self.dag_id, run_ids=[run]).get(run, {})
        lines = instance.xcom_pull(task_ids=_QUALITY) or []
        skipped = instance.xcom_pull(task_ids=_CHECK, key=SKIPPED)
        found = summary(context["ds"], states, lines, skipped)
        if found.worth_telling:
            tell(found.text, settings.load().slack_webhook)
        else:
            self.log.info("%s", found.text)
        if found.failed:
            raise AirflowFailException(found.text)
        return found.text
