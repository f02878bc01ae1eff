"""The operator of every task that works on the lake or the warehouse: it runs `millrace`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from millrace_dags import settings
from millrace_dags.processes import Command, Running

# What the command line gives for wrong usage: another try will not mend it.
_WRONG_USAGE: Final = 2

SKIPPED: Final = "skipped"
"""XCom of a task that was skipped: why."""


class MillraceOperator(BaseOperator):
    """Runs `millrace ARGUMENTS...` as a process of the project's own environment; its exit code is the outcome.

    0 is success, and the lines it printed are the result. `skip_exit_code` skips the task and what follows,
    `usage_exit_code` fails it for good, and anything else fails it until its retries are used up. The process is gone
    when the task has ended, however that went.
    """

    template_fields: Sequence[str] = ("arguments", "environment")

    def __init__(
        self,
        *,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        skip_exit_code: int | None = None,
        usage_exit_code: int | None = _WRONG_USAGE,
        **kwargs: Any,
    ) -> None:
        """Take the arguments behind `millrace`, and what to add to the environment; both may have templates."""
        super().__init__(**kwargs)
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.skip_exit_code = skip_exit_code
        self.usage_exit_code = usage_exit_code
        self._running: Running | None = None

    def execute(self, context: Context) -> list[str]:
        """Run it; return the last lines of its standard output.

        Raises:
            AirflowSkipException: there is nothing to do; the message says why.
            AirflowFailException: it was called wrongly.
            AirflowException: it failed.
        """
        given = settings.load()
        command = Command([str(given.millrace), *self.arguments], given.project, self.environment)
        self.log.info("millrace %s", " ".join(self.arguments))
        self._running = Running(command)
        try:
            ended = self._running.wait(lambda line: self.log.info("%s", line))
        finally:
            # On the way out by a timeout, it still runs.
            self._running.stop()
        if ended.exit_code == 0:
            return list(ended.lines)
        if ended.exit_code == self.skip_exit_code:
            why = ended.lines[-1] if ended.lines else "there is nothing to do"
            context["ti"].xcom_push(SKIPPED, why)
            raise AirflowSkipException(why)
        message = f"millrace {self.arguments[0]} ended with {ended.exit_code}: {ended.complaint}"
        raise (AirflowFailException if ended.exit_code == self.usage_exit_code else AirflowException)(message)

    def on_kill(self) -> None:
        """End the process: somebody ends the task."""
        if self._running is not None:
            self._running.stop()
