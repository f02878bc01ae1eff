"""What a DAG has to have, checked."""

from collections.abc import Iterator

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator

from millrace_dags.policy import OWNER


def breaches(dag: DAG) -> list[str]:
    """Return what the policy asks for and the DAG or a task of it lacks, a sentence each."""
    return [*_of_dag(dag), *(f"{task.task_id}: {what}" for task in dag.tasks for what in _of_task(task))]


def _of_dag(dag: DAG) -> Iterator[str]:
    if not dag.tags:
        yield "no tags"
    if not (dag.doc_md or "").strip():
        yield "no doc_md"
    if dag.max_active_runs != 1:
        yield "runs side by side"
    if dag.start_date is None:
        yield "no start date"
    if not dag.has_on_failure_callback:
        yield "nobody is told when it fails"
    if not dag.tasks:
        yield "no tasks"


def _of_task(task: BaseOperator | MappedOperator) -> Iterator[str]:
    if task.owner != OWNER:
        yield "no owner"
    if not task.retries:
        yield "no retries"
    if not task.retry_exponential_backoff:
        yield "no back-off"
    if task.max_retry_delay is None:
        yield "back-off without a bound"
    if task.execution_timeout is None:
        yield "no timeout"
    if not (task.doc_md or "").strip():
        yield "no doc_md"
