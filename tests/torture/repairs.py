"""The operator's hands: what a refusal or a runbook says is run as it is written there."""

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

from bench import Bench, TortureError
from millrace_common.records import Partition

_RUNBOOKS: Final = Path(__file__).parents[2] / "docs" / "runbooks"
_TIMEOUT_SECONDS: Final = 180


def refusals(bench: Bench, service: str) -> list[str]:
    """Return the repair command of each refusal in the log of `service`, oldest first."""
    return re.findall(rf"{service} cannot go on at [^\n]*?`(millrace reset [^`]*)`", bench.log(service))


def repair(bench: Bench, service: str, refused_before: int) -> str:
    """Wait for a refusal beyond the first so many, run the command that it names, and return that.

    Raises:
        TortureError: it does not refuse, or the command does not do it.
    """
    bench.until(lambda: len(refusals(bench, service)) > refused_before, f"{service} does not refuse")
    command = refusals(bench, service)[-1]
    words = shlex.split(command)[1:]
    said = _run(bench, words)
    found = re.findall(r"^(\S+)\[(\d+)\] goes on at offset (\d+)", said, re.MULTILINE)
    if not found:
        message = f"`{command}` moved nothing: {said}"
        raise TortureError(message)
    bench.moved += [(service, Partition(topic, int(index)), int(offset)) for topic, index, offset in found]
    bench.struck[f"{service} refused, repaired by the command it named"] += 1
    return command


def runbook_block(page: str, heading: str) -> str:
    """Return the Python that needs a broker under `heading` of a runbook."""
    _, text = (_RUNBOOKS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")
    [block] = re.findall(r"^ *```python needs-a-broker\n(.*?)^ *```", text.split("\n## ")[0], re.MULTILINE | re.DOTALL)
    return textwrap.dedent(str(block))


def skip(bench: Bench, service: str, partition: Partition, to: int) -> int:
    """Have a service go on at offset `to`, by the command, and return where it stood.

    Raises:
        TortureError: the command does not do it.
    """
    place = ["--topic", partition.topic, "--partition", str(partition.index)]
    said = _run(bench, ["reset", service, *place, "--to", str(to), "--yes"])
    found = re.search(rf"^{re.escape(str(partition))} goes on at offset {to} \(it was (\d+)\)", said, re.MULTILINE)
    if found is None:
        message = f"nothing of {partition} was skipped: {said}"
        raise TortureError(message)
    return int(found[1])


def _run(bench: Bench, words: list[str]) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "millrace_local", *words, "--work-dir", str(bench.stack.work_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        message = f"`millrace {shlex.join(words)}` did not do it:\n{done.stdout}{done.stderr}"
        raise TortureError(message)
    return done.stdout
