"""dbt on the warehouse: a program of an environment of its own, in a process of its own."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millrace_batch.warehouse import dbt as dbt_environment
from millrace_local.errors import LocalStackError
from millrace_local.processes import leashed

_SUMMARY: Final = re.compile(r"Done\. (PASS=.*)")
_SHOWN_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Dbt:
    """A dbt project and its program.

    Attributes:
        project: folder of the project, absolute.
        program: in the project's own environment.
    """

    project: Path
    program: Path

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line; its working directory is the project, and it dies with this process."""
        return leashed([str(self.program), *arguments])

    def environment(self, dsn: str) -> Mapping[str, str]:
        """Return all environment variables it needs to work on the database of `dsn`."""
        return {**os.environ, **dbt_environment.environment(dsn), "DBT_PROFILES_DIR": "."}

    def build(self, dsn: str, log_dir: Path) -> str:
        """Build and test every model; return dbt's own summary of how many did what.

        Args:
            dsn: of the warehouse.
            log_dir: where dbt leaves `dbt.log`.

        Raises:
            LocalStackError: a model or a test failed; the message has the end of what dbt printed.
        """
        done = subprocess.run(  # noqa: S603
            self.command(["--no-use-colors", "build"]),
            cwd=self.project,
            env={**self.environment(dsn), "DBT_LOG_PATH": str(log_dir)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (done.stdout + done.stderr).splitlines()
        if done.returncode != 0:
            end = "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
            message = f"dbt build failed:\n{end}\n  (all of it: {log_dir / 'dbt.log'})"
            raise LocalStackError(message)
        summaries = [found[1] for line in lines if (found := _SUMMARY.search(line))]
        return summaries[-1] if summaries else "done"


def find_dbt(project: Path) -> Dbt:
    """Return the dbt of `project`.

    Raises:
        LocalStackError: it is not installed there.
    """
    program = project.absolute() / ".venv" / "bin" / "dbt"
    if not program.exists():
        message = f"there is no dbt in {program.parent}: run `make dbt-install`"
        raise LocalStackError(message)
    return Dbt(project.absolute(), program)
