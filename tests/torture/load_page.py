"""docs/reference/load.md, made from the numbers beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_INTRODUCTION: Final = """\
# Load

<!-- Written by `make load` (tests/torture/load.py); do not edit, run it. -->

How a running pipeline (broker, registry, four services, four partitions a topic, all on one machine) takes a rush, and
a history beside live traffic. Live traffic is an open loop: when a record is due does not depend on how earlier ones
fared. Each load ran on a fresh stack, together with the generator and the reader that measures.

- *Latency*: from the moment an event was meant to be sent until a `read_committed` consumer had it from
  `user-events.enriched`, so a generator that is late counts as latency. *Alone*: before the peak or the history began.
- *Generator late*: the largest distance between the moment a record was meant to be sent and its hand-over.
- *Lag gone*: from the end of the peak until its last event could be read and no service was further behind than before
  the peak.
- *Lost*, *doubled*: events missing in the lake, and events too many. The books balance in every lane.
- *Load before* is the machine's load average when the run began: what else was running counts.

A history is sent by `millrace generate backfill`, through a lane of its own. It is killed with SIGKILL in the middle
and started again; it has to go on where it stopped.
"""


def write_report(page: Path, result: Mapping[str, Any]) -> None:
    """Put `result` beside those of other loads, and write the page that shows them all."""
    numbers = page.with_suffix(".json")
    results = json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}
    results[f"{result['name']} {result['form']}"] = result
    numbers.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    page.write_text(render(list(results.values())), encoding="utf-8")


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    lines = [_INTRODUCTION]
    for form in ("long", "short"):
        found = sorted((result for result in results if result["form"] == form), key=lambda result: result["name"])
        if found:
            lines += [f"## {form.capitalize()} form\n", *_table(found), ""]
            lines += ["Peak memory (RSS of each process with its children, MiB):\n", *_memory(found), ""]
    lines.append("Machine and versions of each run are in [the numbers](load.json).")
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| load | when (UTC) | cores, load before | records | generator late | lag gone | latency p50 / p99 "
        "| alone p99 | lost | doubled | holds |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for result in results:
        run, recovery = result["run"], result["recovery_seconds"]
        lines.append(
            f"| {result['name']}: {result['about']} | {run['at']} | {run['cores']}, {run['load_before']} "
            f"| {result['records']:,} | {result['worst_lateness_seconds']} s "
            f"| {'' if recovery is None else f'{recovery} s'} | {result['p50_seconds']} / {result['p99_seconds']} s "
            f"| {result['alone_p99_seconds']} s | {result['lost']} | {result['doubled']} "
            f"| {'no: ' + '; '.join(result['problems']) if result['problems'] else 'yes'} |"
        )
    return lines


def _memory(results: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for result in results for name in result["peak_rss_mib"]})
    lines = ["| load | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for result in results:
        peaks = (str(result["peak_rss_mib"].get(name, "")) for name in names)
        lines.append(f"| {result['name']} | " + " | ".join(peaks) + " |")
    return lines
