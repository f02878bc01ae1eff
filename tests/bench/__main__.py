"""Measures Millrace beside what a user would pick instead: `python tests/bench --help`, or `make bench`.

One broker, one machine, one run: see README.md beside this file for what is done and what the figures mean.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import filling
import performance
from budget import budget
from comparing import QUICK_WINDOW_SECONDS, ROUNDS, WINDOW_SECONDS, Form, compare
from figures import Section
from goals import OURS
from jobs import JOBS
from lineup import all_systems
from millrace_common.errors import MillraceError
from millrace_local.circumstances import circumstances
from millrace_local.ports import ANY
from millrace_local.settings import StackSettings
from millrace_local.starting import start
from process_tree import on_core
from ratios import Spread, figures_of, ratios, trusted
from running import BROKER_CORE, Place, Run
from systems import YARDSTICK, System, millrace
from windows import Window

_BEGAN: Final = time.monotonic()


def main() -> int:
    """Measure what the command line asks for; return the exit code.

    1: a run has no figure, of a system that was asked for by name, of Millrace or of the yardstick. What became of
    others is on the page.
    """
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    systems = _systems(options)
    work_dir = options.work_dir.resolve()
    # The circumstances are those before the bench itself is at work.
    form = "quick" if options.quick else "full"
    known = {**circumstances(), "load_before": round(os.getloadavg()[0], 1), "form": form}
    runs = trusted(_compare(systems, options, work_dir))
    sys.stdout.write(summary(runs) + "\n")
    if options.page is not None:
        sections = [section for part in performance.PARTS for section in _sections(part, options.quick, work_dir)]
        by_name = {system.name: system for system in systems}
        performance.write(options.page, options.report, performance.Measured(known, runs, by_name, sections))
        _say(f"wrote {options.page} and {options.report}")
    needed = {OURS, YARDSTICK} if not options.system else {system.name for system in systems}
    return 1 if any(done.problem and done.system in needed for done in runs) else 0


def _compare(systems: Sequence[System], options: argparse.Namespace, work_dir: Path) -> list[Run]:
    jobs, form = [JOBS[name] for name in options.job or JOBS], _form(options)
    filled = {job.lane: filling.noted(job, work_dir) for job in jobs}
    _say(str(budget(form, jobs, systems, filled, pipeline=options.page is not None)))
    unbuilt = {system.name: problem for system in systems if (problem := _build(system, work_dir / "built"))}
    built = [system for system in systems if system.name not in unbuilt]
    runs = [
        Run(job.name, system.name, 0, None, unbuilt[system.name], (), 0, "")
        for job in jobs
        for system in systems
        if system.name in unbuilt and job.name in system.jobs
    ]
    with on_core(BROKER_CORE):  # broker and registry stay there
        stack = start(StackSettings(work_dir=work_dir / "stack", ports=ANY), _say)
    try:
        stack.wait_ready()
        place = Place(stack, work_dir, work_dir / "built")
        for job in jobs:
            runs += compare(place, job, built, form, _say)
    finally:
        stack.stop()
    return runs


def _sections(part: performance.Part, quick: bool, work_dir: Path) -> Sequence[Section]:
    """Return what a part adds to the page: that it failed, if it did; the comparison is not lost for that."""
    try:
        return part(quick, work_dir)
    except MillraceError as error:
        _say(f"not everything could be measured: {error}")
        sentence = f"not measured: {str(error).splitlines()[0]}"
        return [Section("The whole pipeline", [sentence], [], [f"the whole pipeline was {sentence}"])]


def _interrupt(number: int, frame: object) -> None:
    """Make SIGTERM what Ctrl-C is: everything that was started is stopped on the way out."""
    raise KeyboardInterrupt


def _build(system: System, folder: Path) -> str:
    """Let `system` build what it needs; return what went wrong, empty if nothing did."""
    cache_dir = folder / system.name
    cache_dir.mkdir(parents=True, exist_ok=True)
    try:
        system.prepare(cache_dir)
    except MillraceError as error:
        _say(f"{system.name}: {error}")
        return f"not built: {str(error).splitlines()[0]}"
    return ""


def summary(runs: Sequence[Run]) -> str:
    """Return medians and ratios, a line for each job and system."""
    rates, relative = figures_of(runs, _rate), ratios(runs, YARDSTICK)
    lines = [f"{'job':8s} {'system':20s} {'records a CPU-second':>36s}   x {YARDSTICK}"]
    for (job, system), rate in rates.items():
        ratio = relative.get((job, system))
        lines.append(f"{job:8s} {system:20s} {_thousands(rate):>36s}   {ratio if ratio else '-'}")
    return "\n".join(lines)


def _rate(window: Window) -> float:
    return window.records_per_cpu_second


def _thousands(spread: Spread) -> str:
    return f"{spread.median:,.0f} ({spread.least:,.0f}-{spread.most:,.0f})"


def _form(options: argparse.Namespace) -> Form:
    return Form(
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        window_seconds=options.window or (QUICK_WINDOW_SECONDS if options.quick else WINDOW_SECONDS),
        quick=options.quick,
        every_round=bool(options.system or options.also),
        checked=not options.unchecked,
        most_events=options.events,
    )


def _systems(options: argparse.Namespace) -> list[System]:
    known = all_systems()
    chosen = [known[name] for name in options.system or (each.name for each in known.values() if not each.variant)]
    for also in options.also:
        name, _, python = also.partition("=")
        chosen.append(millrace(name, str(Path(python).absolute())))
    return chosen


def _say(text: str) -> None:
    """Print `text` behind the seconds since the start: a bench has a time to keep to."""
    sys.stdout.write(f"{time.monotonic() - _BEGAN:5.0f} s  {text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--job", action="append", choices=JOBS, help="only this one; may be repeated")
    parser.add_argument("--system", action="append", choices=all_systems(), help="only this one; may be repeated")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="measure the services of another checkout too: the interpreter of its environment",
    )
    parser.add_argument("--quick", action="store_true", help="one round of short warm-ups and windows")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}; with --quick 1")
    parser.add_argument("--window", type=float, help="seconds of measuring")
    parser.add_argument("--unchecked", action="store_true", help="do not hold outputs against the log: faster")
    parser.add_argument("--events", type=int, help="at most so many in the log: a try on a slow machine")
    parser.add_argument("--page", type=Path, help="measure everything else too, and write the page")
    parser.add_argument("--report", type=Path, default=Path("bench-report.json"), help="the figures; with --page")
    parser.add_argument("--work-dir", type=Path, default=Path(".millrace/bench"))
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MillraceError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; what it had started is stopped, nothing was written")
