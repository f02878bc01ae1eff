"""docs/reference/performance.md, from what was measured; pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from figures import Figure, Section
from goals import GOALS, missed, reached
from jobs import JOBS
from ratios import Spread, figures_of, ratios
from running import Run
from systems import YARDSTICK, System

PICTURE: Final = "performance.svg"

_INTRODUCTION: Final = """\
# Performance

<!-- Written by `make bench` (tests/bench); do not edit, run it. -->

Millrace beside what one would pick instead: same machine, same broker, same logs, same payloads, one run. How it is
measured, and how to measure again, is told in [tests/bench](../../tests/bench/README.md).

- **Records per CPU-second** of the system's whole process tree, in a window after the warm-up, while it drains a log
  that is there already. Broker and harness have one core, the system has another.
- **× plain**: the ratio to `plain`, the loop per record, inside a round; the median of the rounds, and in brackets the
  least and the most. There are three rounds; systems that no goal speaks of run in the first and the last.
- What each system wrote was read to the end and held against the log. One that loses, doubles or changes records has no
  figure.
"""
_WHAT: Final = {
    "ingest": "Validate, drop duplicates, pass the bytes on.",
    "enrich": "Validate, device type, product join, a new record.",
    "session": "30-minute sessions with counts, 200,000 of them open, final results only.",
    "lake": "Append to a Delta table, 50,000 rows a commit.",
}


def render(
    circumstances: Mapping[str, Any], runs: Sequence[Run], systems: Mapping[str, System], sections: Sequence[Section]
) -> str:
    """Return the page."""
    lines = [_INTRODUCTION, _where(circumstances), f"![Records per CPU-second, and latency against rate]({PICTURE})\n"]
    lines += ["## Goals\n", *_goals(runs, sections), ""]
    for job in JOBS:
        if any(run.job == job for run in runs):
            lines += [f"## {job.capitalize()}\n", _WHAT[job] + "\n", *table(job, runs, systems), ""]
    for section in sections:
        lines += [f"## {section.title}\n", *section.lines, ""]
    lines += ["## Systems\n", *(f"- `{system.name}`: {system.about}." for system in systems.values()), ""]
    lines.append("Every run is in [the numbers](performance.json).")
    return "\n".join(lines) + "\n"


def _where(circumstances: Mapping[str, Any]) -> str:
    known = dict(circumstances)
    at, processor, cores, memory = (known.pop(name) for name in ("at", "processor", "cores", "memory_gib"))
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    return f"Measured {at} UTC on {processor}, {cores} cores, {memory} GiB. {versions}.\n"


def _goals(runs: Sequence[Run], sections: Sequence[Section]) -> list[str]:
    lines = ["| job | goal | measured | reached |", "| --- | --- | ---: | --- |"]
    for goal in GOALS:
        spread = reached(goal, runs)
        shown = "not measured" if spread is None else brackets(spread, "×" if goal.of else "")
        verdict = "" if spread is None else "yes" if spread.median >= goal.least else "**no**"
        lines.append(f"| {goal.job} | {goal.text} | {shown} | {verdict} |")
    others = [sentence for section in sections for sentence in section.missed]
    if others:
        lines += ["", "Missed besides:\n", *(f"- {sentence}" for sentence in others)]
    return lines


def table(job: str, runs: Sequence[Run], systems: Mapping[str, System]) -> list[str]:
    """Return the table of one job, the fastest first."""
    mine = [run for run in runs if run.job == job]
    rates = figures_of(mine, lambda window: window.records_per_cpu_second)
    relative = ratios(mine, YARDSTICK)
    memory = figures_of(mine, lambda window: window.peak_rss_mib)
    broker = figures_of(mine, lambda window: window.broker_cpu_seconds / window.records * 1e6)
    names = list(dict.fromkeys(run.system for run in mine))
    names.sort(key=lambda name: -rates[job, name].median if (job, name) in rates else 0)
    lines = [
        f"| system | delivery | records/CPU-s | × {YARDSTICK} | peak MiB | broker CPU-s per million | notes |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name in names:
        key = (job, name)
        delivery = "exactly once" if job in systems[name].exactly_once else "at least once"
        figures = (
            [
                f"{rates[key].median:,.0f}",
                brackets(relative[key], "×") if key in relative else "",
                f"{memory[key].median:,.0f}",
                f"{broker[key].median:.2f}",
            ]
            if key in rates
            else ["no figure", "", "", ""]
        )
        lines.append(f"| {name} | {delivery} | {' | '.join(figures)} | {_notes(mine, name)} |")
    return lines


def _notes(runs: Sequence[Run], system: str) -> str:
    """Return the marks and problems of a system's runs, with the rounds they belong to."""
    notes: dict[str, list[str]] = {}
    for run in runs:
        if run.system == system:
            problem = [run.problem.splitlines()[0]] if run.problem else []
            for note in (*problem, *(run.window.marks if run.window else ())):
                notes.setdefault(note.replace("|", "/"), []).append(str(run.number))
    return "; ".join(f"{note} (round {', '.join(rounds)})" for note, rounds in notes.items())


def brackets(spread: Spread, unit: str) -> str:
    """Return MEDIAN (LEAST to MOST)."""
    if spread.median >= 1_000:
        return f"{spread.median:,.0f}{unit} ({spread.least:,.0f} to {spread.most:,.0f})"
    return f"{spread.median:.2f}{unit} ({spread.least:.2f} to {spread.most:.2f})"


def figures(runs: Sequence[Run]) -> list[Figure]:
    """Return the comparison as figures."""
    metrics = {
        "records_per_cpu_second": figures_of(runs, lambda window: window.records_per_cpu_second),
        "records_per_second": figures_of(runs, lambda window: window.records_per_second),
        "peak_rss_mib": figures_of(runs, lambda window: window.peak_rss_mib),
        f"ratio_to_{YARDSTICK}": ratios(runs, YARDSTICK),
    }
    metrics |= {
        f"ratio_to_{other}": ratios(runs, other) for other in sorted({goal.of for goal in GOALS} - {"", YARDSTICK})
    }
    return [
        Figure(job, system, metric, spread.median, spread.least, spread.most)
        for metric, found in metrics.items()
        for (job, system), spread in found.items()
    ]


def all_missed(runs: Sequence[Run], sections: Sequence[Section]) -> list[str]:
    """Return a sentence for each goal that was missed."""
    return [*missed(runs), *(sentence for section in sections for sentence in section.missed)]
