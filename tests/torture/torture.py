"""Tortures a running pipeline and says what became of every record.

    python tests/torture/torture.py [--long] [--arm NAME]... [--report docs/reference/reliability.md]
    python tests/torture/torture.py --arm versions --previous ../millrace-0.1.0/.venv/bin/python

The second runs services of another release beside this one's: that release is a checkout of its own, with `make
install` run in it.

Each arm runs on a stack of its own. With --report the page is written anew, and the numbers beside it as JSON; arms
that did not run keep theirs. Exit code 1 if an arm does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from arms import ARMS, short_groups
from arms.arm import Arm, run
from bench import LONG, SHORT
from millrace_common.errors import MillraceError
from millrace_local.circumstances import circumstances

_INTRODUCTION: Final = """\
# Reliability

<!-- Written by `make torture` (tests/torture/torture.py); do not edit, run it. -->

What was done to a running pipeline, and what became of the records. Every arm runs on a fresh stack (broker, registry,
four services, four partitions a topic) under an open loop of simulated traffic with 5 % duplicates, 1 % undecodable and
1 % invalid records, 1 % late events and a tenth of the events up to 120 s out of order.

An arm holds when, after it,

- the books balance (`millrace ledger`);
- the events in the lake are the distinct valid ones sent, each once, and so are the orders;
- the sessions equal the generator's in every field, and the late events are those it names;
- every bad record is exactly one dead letter;
- a `read_committed` reader that ran *during* the faults saw what the final one sees, value by value, in
  `user-events.enriched` and `session-metrics`;
- no committed offset, no position in a Delta table and no partition's newest snapshot went back, and no data file was
  added in two versions of a table;
- the states of ingest and sessionize, built anew from their logs, are those of their newest snapshots.

A fault is counted when it was seen to strike: a process died, a log said so. *Lost* and *doubled* are rows missing and
rows too many over all tables of the lake. *Recovery* is the longest time from a kill to ready again.
"""


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Torture a running pipeline.")
    parser.add_argument("--long", action="store_true", help="2,000 records/s and many more faults")
    parser.add_argument("--arm", action="append", choices=[arm.name for arm in ARMS], help="only this one; repeatable")
    parser.add_argument("--report", type=Path, help="the page to write; its numbers go beside it as JSON")
    parser.add_argument("--previous", type=Path, help="an interpreter that has the previous release installed")
    parser.add_argument("--seed", type=int, default=4, help="other moments, victims and traffic")
    arguments = parser.parse_args()
    form = LONG if arguments.long else SHORT
    held = True
    for group in short_groups() if form is SHORT else [(arm,) for arm in ARMS if form.name in arm.forms]:
        arms = [arm for arm in group if _is_wanted(arm, arguments.arm, arguments.previous)]
        if not arms:
            continue
        title = " + ".join(arm.name for arm in arms)
        work_dir = Path(tempfile.mkdtemp(prefix=f"torture-{arms[0].name}-"))
        print(f"{title} ({form.name}) in {work_dir}", flush=True)
        try:
            result = run(arms, form, work_dir / "stack", arguments.seed, arguments.previous)
        except MillraceError as error:
            print(f"{title} could not be finished: {error}", flush=True)
            held = False
            continue
        print(json.dumps(asdict(result), indent=2), flush=True)
        held = held and not result.problems
        if arguments.report is not None:
            previous = _release_of(arguments.previous) if any(arm.needs_previous for arm in arms) else {}
            write_report(arguments.report, {**asdict(result), **previous})
    return 0 if held else 1


def _is_wanted(arm: Arm, names: Sequence[str] | None, previous: Path | None) -> bool:
    """Return whether `arm` was asked for and can be run; say why not."""
    if names and arm.name not in names:
        return False
    if arm.needs_previous and previous is None:
        print(f"{arm.name} needs --previous, and is left out", flush=True)
        return False
    reason = arm.lacks()
    if reason is not None:
        print(f"{arm.name} is left out, this machine cannot do it: {reason}", flush=True)
    return reason is None


def _release_of(python: Path) -> dict[str, str]:
    """Return which release an interpreter has installed."""
    asked = "from importlib.metadata import version; print(version('millrace-common'))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    return {"previous": done.stdout.strip()}


def write_report(page: Path, result: Mapping[str, Any]) -> None:
    """Put `result` beside those of other arms, and write the page that shows them all."""
    numbers = page.with_suffix(".json")
    results = json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}
    results[f"{result['arm']} {result['form']}"] = {**result, "run": circumstances()}
    numbers.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    page.write_text(render(results), encoding="utf-8")


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page."""
    lines, order = [_INTRODUCTION], [arm.name for arm in ARMS]
    for form, title in ((LONG, "Long form"), (SHORT, "Short form")):
        found = [result for result in results.values() if result["form"] == form.name]
        if found:
            found.sort(key=lambda result: order.index(result["arm"].split(" + ")[0]))
            lines += [f"## {title}\n", *_table(found), ""]
    lines.append("## What was done\n")
    lines += [f"- `{arm.name}`: {arm.about}{'' if 'short' in arm.forms else ' (long form only)'}." for arm in ARMS]
    lines += [
        "",
        "Each row is one stack; the arms in a row struck it one after another. Machine and versions of each are in "
        "[the numbers](reliability.json).",
    ]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| arm | when (UTC) | records | records/s | faults that struck | lost | doubled | worst recovery | holds |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for result in results:
        faults = "<br>".join(f"{count} × {fault}" for fault, count in result["struck"].items())
        lines.append(
            f"| `{result['arm']}` | {result['run']['at']} | {result['records']:,} | {result['rate']:,.0f} | {faults} "
            f"| {result['lost']} | {result['doubled']} | {result['worst_recovery_seconds']} s "
            f"| {'no: ' + '; '.join(result['problems']) if result['problems'] else 'yes'} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
