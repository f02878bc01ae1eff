"""docs/reference/performance.md, from what was measured; pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from figures import Figure, Section
from goals import GOALS, OURS, missed, reached
from jobs import JOBS
from ratios import Spread, figures_of, ratios
from running import Run
from systems import YARDSTICK, System

PICTURE: Final = "performance.svg"

_INTRODUCTION: Final = """\
# Performance

<!-- Written by `make bench` (tests/bench); do not edit, run it. -->

Millrace beside what one would pick instead: same machine, same broker, same logs, same payloads, one run.
"""
_HOW: Final = """\
- **Records per CPU-second**, of the system's whole process tree, while it drains a log that is there already. The
  broker and the bench have one core, the system has the other. A JVM has worked for a minute when it is measured.
- **× plain**: the ratio to `plain`, a loop per record, inside a round; the median of the rounds, then the least and the
  most. There are three rounds; a JVM, with its warm-up of a minute, runs in two, and what no goal speaks of in one.
- What each system wrote was read to the end and held against the log. One that loses, doubles or changes records has no
  figure, and the notes below say why.

[tests/bench](../../tests/bench/README.md) tells what exactly is done, on which terms, and how to measure again.
"""
_WHAT: Final = {
    "ingest": "Validate, drop duplicates, pass the bytes on.",
    "enrich": "Validate, device type, product join, a new record.",
    "session": "30-minute sessions with counts, 200,000 of them open, final results only.",
    "lake": "Append to a Delta table, 50,000 rows a commit.",
}
_OUR_EXTRA: Final = (
    "Millrace does more than is asked for: it runs its real services, with transactions, dead letters and ledger, and "
    "writes every field of its own records.\n"
)


def render(
    circumstances: Mapping[str, Any], runs: Sequence[Run], systems: Mapping[str, System], sections: Sequence[Section]
) -> str:
    """Return the page."""
    lines = [_INTRODUCTION, *headline(runs, systems), "", _OUR_EXTRA, _HOW]
    lines += ["## Goals\n", *_goals(runs, sections), ""]
    lines += [f"![Records per CPU-second, and latency against rate]({PICTURE})\n"]
    for job in JOBS:
        if any(run.job == job for run in runs):
            lines += [f"## {job.capitalize()}\n", _WHAT[job] + "\n", *table(job, runs), ""]
    for section in sections:
        lines += [f"## {section.title}\n", *section.lines, ""]
    took_part = {run.system for run in runs}
    lines += ["## Systems\n", *(f"- `{one.name}`: {one.about}." for one in systems.values() if one.name in took_part)]
    lines += [
        "",
        "## Where it was measured\n",
        _where(circumstances),
        "Every run is in [the numbers](performance.json).",
    ]
    return "\n".join(lines) + "\n"


def _where(circumstances: Mapping[str, Any]) -> str:
    known = dict(circumstances)
    at, processor, cores, memory = (known.pop(name) for name in ("at", "processor", "cores", "memory_gib"))
    form, load = known.pop("form"), known.pop("load_before")
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    return (
        f"{at} UTC, {form} form, on {processor}, {cores} cores, {memory} GiB; the load before was {load}. {versions}.\n"
    )


def headline(runs: Sequence[Run], systems: Mapping[str, System]) -> list[str]:
    """Return the table of all jobs and systems, the fastest of a job first."""
    rates = figures_of(runs, lambda window: window.records_per_cpu_second)
    relative = ratios(runs, YARDSTICK)
    lines = [
        f"| job | system | records per CPU-second | × {YARDSTICK} | delivery |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for job in JOBS:
        for name in _by_rate(job, runs):
            key = (job, name)
            delivery = "exactly once" if job in systems[name].exactly_once else "at least once"
            shown = f"**{name}**" if name == OURS else name
            ratio = "1" if name == YARDSTICK else _ratio(relative.get(key))
            figures = [f"{rates[key].median:,.0f}", ratio] if key in rates else ["no figure", ""]
            lines.append(f"| {job} | {shown} | {' | '.join(figures)} | {delivery} |")
    return lines


def _ratio(spread: Spread | None) -> str:
    return "" if spread is None else brackets(spread, "×") if spread.count > 1 else f"{spread.median:.2f}×"


def _by_rate(job: str, runs: Sequence[Run]) -> list[str]:
    """Return who did a job, the fastest first, those without a figure last."""
    mine = [run for run in runs if run.job == job]
    rates = figures_of(mine, lambda window: window.records_per_cpu_second)
    names = dict.fromkeys(run.system for run in mine)
    return sorted(names, key=lambda name: -rates[job, name].median if (job, name) in rates else 0)


def _goals(runs: Sequence[Run], sections: Sequence[Section]) -> list[str]:
    lines = ["| job | goal | measured | |", "| --- | --- | ---: | --- |"]
    for goal in GOALS:
        spread = reached(goal, runs)
        shown = "not measured" if spread is None else brackets(spread, "×" if goal.of else "")
        verdict = "" if spread is None else "reached" if spread.median >= goal.least else "**missed**"
        lines.append(f"| {goal.job} | {goal.text} | {shown} | {verdict} |")
    others = [sentence for section in sections for sentence in section.missed]
    if others:
        lines += ["", "Missed besides:\n", *(f"- {sentence}" for sentence in others)]
    elif sections:
        lines += ["", "No goal for latency, memory or a rush was missed."]
    return lines


def table(job: str, runs: Sequence[Run]) -> list[str]:
    """Return the table of one job: what the headline leaves out."""
    mine = [run for run in runs if run.job == job]
    speed = figures_of(mine, lambda window: window.records_per_second)
    memory = figures_of(mine, lambda window: window.peak_rss_mib)
    broker = figures_of(mine, lambda window: window.broker_cpu_seconds / window.records * 1e6)
    lines = [
        "| system | records/s on one core | peak MiB | broker's CPU-s per million | rounds | notes |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name in _by_rate(job, mine):
        key = (job, name)
        figures = (
            [f"{speed[key].median:,.0f}", f"{memory[key].median:,.0f}", f"{broker[key].median:.2f}"]
            if key in speed
            else ["no figure", "", ""]
        )
        rounds = speed[key].count if key in speed else 0
        lines.append(f"| {name} | {' | '.join(figures)} | {rounds} | {_notes(mine, name)} |")
    return lines


def _notes(runs: Sequence[Run], system: str) -> str:
    """Return the marks and problems of a system's runs, with the rounds they belong to."""
    notes: dict[str, list[str]] = {}
    for run in runs:
        if run.system == system:
            problem = [run.problem.splitlines()[0]] if run.problem else []
            for note in (*problem, *(run.window.marks if run.window else ())):
                notes.setdefault(note.replace("|", "/"), []).append(str(run.number))
    return "; ".join(
        f"{note} (round {', '.join(rounds)})" if rounds != ["0"] else note for note, rounds in notes.items()
    )


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
