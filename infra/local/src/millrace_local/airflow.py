"""Airflow on a work directory: a program of an environment of its own, started for one run of a DAG and gone after it.

No scheduler is needed for that (`airflow dags test`): tasks run one after another, with their retries, in one process,
and their states are kept in a SQLite file.
"""

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Final

import psutil

from millrace_local.errors import LocalStackError
from millrace_local.processes import Identity, end, leashed
from millrace_local.stack import tail, wait_until

NIGHTLY: Final = "ecommerce_etl_daily"
_STARTED: Final = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
_SAID: Final = re.compile(r"\] (the night of \S+ (?:failed|was left out|is done).*?)\s*(?:\[|$)")
_FAILED: Final = re.compile(r"(?:AirflowException|AirflowFailException): (.*)")
_STOP_SECONDS: Final = 20.0

Say = Callable[[str], None]


class AirflowError(LocalStackError):
    """Airflow is not there, or a run of a DAG failed."""


@dataclass(frozen=True, slots=True)
class Airflow:
    """An Airflow whose home is in a work directory.

    Attributes:
        program: in Airflow's own environment.
        dags: the folder of the DAG files.
        work_dir: of the lake and the warehouse; absolute.
        settings: environment variables besides.
    """

    program: Path
    dags: Path
    work_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Everything it prints."""
        return self.work_dir / "logs" / "airflow.log"

    @property
    def environment(self) -> Mapping[str, str]:
        """All environment variables of its processes."""
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}",
            # With one, Airflow 3.3.2 fails at the end of a run of this kind: it looks for the alert by a wrong id.
            "MILLRACE_DAGS_DEADLINE_MINUTES": "0",
            "MILLRACE_WORK_DIR": str(self.work_dir),
            **self.settings,
        }

    @property
    def _home(self) -> Path:
        return self.work_dir / "airflow"

    @property
    def _database(self) -> Path:
        return self._home / "airflow.db"

    def prepare(self) -> None:
        """Make its database, or bring it up to date.

        Raises:
            AirflowError: it cannot; the message has the end of its log.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", buffering=1, encoding="utf-8") as log:
            exit_code = self._run(["db", "migrate"], log.writelines)
        if exit_code != 0:
            message = f"Airflow's database cannot be made:\n{tail(self.log)}"
            raise AirflowError(message)

    def run_night(self, day: date, say: Say) -> None:
        """Run the nightly DAG for a day, from its first task on, also where it has run before.

        Args:
            day: the UTC day that it is for.
            say: told of each task as it begins, and of the end.

        Raises:
            AirflowError: the run failed, and the message says what did; or Airflow calls a run without tasks a success.
        """
        complaints: list[str] = []
        ran: list[str] = []
        with self.log.open("a", buffering=1, encoding="utf-8") as log:

            def read(lines: IO[str]) -> None:
                for line in lines:
                    log.write(line)
                    if started := _STARTED.search(line):
                        ran.append(started[1])
                        say(f"the night of {day}: {started[1]}")
                    elif said := _SAID.search(line):
                        say(said[1])
                    elif failed := _FAILED.search(line):
                        complaints.append(failed[1])

            exit_code = self._run(["dags", "test", NIGHTLY, day.isoformat()], read)
        if exit_code != 0:
            why = complaints[0] if complaints else f"\n{tail(self.log)}"
            message = f"the night of {day} failed: {why} (all of it: {self.log})"
            raise AirflowError(message)
        if not ran:
            message = (
                f"Airflow ran no task for {day}: is it before MILLRACE_DAGS_CATCH_UP_FROM? (all of it: {self.log})"
            )
            raise AirflowError(message)

    def tries(self, task: str) -> Sequence[tuple[int, str]]:
        """Return (number of the try, state) of a task in every run of the nightly DAG."""
        with closing(sqlite3.connect(self._database)) as connection:
            found = connection.execute(
                "select try_number, state from task_instance where dag_id = ? and task_id = ?", (NIGHTLY, task)
            )
            return list(found.fetchall())

    def _run(self, arguments: Sequence[str], read: Callable[[IO[str]], None]) -> int:
        """Run it to its end, and return its exit code; nothing of it is left, whatever happens."""
        with _ended(
            subprocess.Popen(  # noqa: S603
                leashed([str(self.program), *arguments]),
                cwd=self.work_dir,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C is for us: we tell it to stop.
                start_new_session=True,
            )
        ) as process:
            assert process.stdout is not None  # noqa: S101  # for the types
            read(process.stdout)
            return process.wait()


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """End the process, if it still runs, and what it has started.

    It is killed: asked to stop, it would take that for a failure of the task, and try it again. Tasks die with it, and
    Java ends when its task is gone, after it has removed its files.
    """
    try:
        yield process
    finally:
        if process.poll() is None:
            found = (Identity.of(child.pid) for child in psutil.Process(process.pid).children(recursive=True))
            started = [identity for identity in found if identity is not None]
            process.kill()
            process.wait()
            wait_until(lambda: not any(one.alive for one in started), _STOP_SECONDS)
            end(started)


def find_airflow(dags: Path, work_dir: Path, settings: Mapping[str, str] | None = None) -> Airflow:
    """Return the Airflow of the folder `dags`.

    Raises:
        AirflowError: it is not installed there.
    """
    program = dags.absolute() / ".venv" / "bin" / "airflow"
    if not program.exists():
        message = f"there is no Airflow in {program.parent}: run `make dags-install`"
        raise AirflowError(message)
    return Airflow(program, dags.absolute(), work_dir.absolute(), settings or {})
