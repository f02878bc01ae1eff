"""Runs dbt's commands one after another in one process of dbt's own environment: its start takes longer than they do.

Reads a JSON list of arguments a line; answers each with a line, {"ok": ..., "output": ...}.
"""

import contextlib
import io
import json
import sys

from dbt.cli.main import dbtRunner


def main() -> None:
    answers = sys.stdout
    for line in sys.stdin:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            done = dbtRunner().invoke(json.loads(line))
        text = output.getvalue() + ("" if done.exception is None else str(done.exception))
        answers.write(json.dumps({"ok": done.success, "output": text}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
