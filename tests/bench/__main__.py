"""Measures Millrace beside what a user would pick instead: `python tests/bench --help`, or `make bench`.

One broker, one machine, one run: see README.md beside this file for what is done and what the figures mean.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from filling import filled
from jobs import JOBS, Job
from millrace_common.errors import MillraceError
from millrace_local.ports import ANY
from millrace_local.settings import StackSettings
from millrace_local.starting import start
from ratios import Spread, figures_of, ratios
from running import BROKER_CORE, Place, Run, run
from shop_log import OPEN_SESSIONS
from systems import YARDSTICK, System, all_systems, millrace
from windows import Asked, Window

_ROUNDS: Final = 3
_WINDOW_SECONDS: Final = 20.0
_QUICK_WINDOW_SECONDS: Final = 5.0
# Beyond warm-up and window: what is done before the first sample and after the last.
_SPARE_SECONDS: Final = 3.0


def main() -> int:
    """Measure what the command line asks for; return the exit code."""
    options = _parser().parse_args()
    os.sched_setaffinity(0, {BROKER_CORE})  # and all that is started here: broker, registry
    systems = _systems(options)
    jobs = [JOBS[name] for name in options.job or JOBS]
    work_dir = options.work_dir.resolve()
    stack = start(StackSettings(work_dir=work_dir / "stack", ports=ANY), _say)
    try:
        stack.wait_ready()
        place = Place(stack, work_dir, work_dir / "built")
        for system in systems:
            folder = place.cache_dir / system.name
            folder.mkdir(parents=True, exist_ok=True)
            system.prepare(folder)
        runs = [done for job in jobs for done in measure(place, job, systems, options)]
    finally:
        stack.stop()
    _say(summary(runs))
    return 1 if any(done.problem for done in runs) else 0


def measure(place: Place, job: Job, systems: Sequence[System], options: argparse.Namespace) -> list[Run]:
    """Let each of `systems` that can do `job`, in rounds."""
    able = [system for system in systems if job.name in system.jobs]
    asked = {system.name: _asked(system, job, options) for system in able}
    events = max(
        int(system.fastest * (asked[system.name].warm_seconds + asked[system.name].window_seconds + _SPARE_SECONDS))
        for system in able
    )
    events += asked[able[0].name].first_record
    if options.events:
        events = min(events, options.events)
    log = filled(place.stack, job, events, place.work_dir, _say)
    done = []
    for number in range(1, options.rounds + 1):
        for system in able:
            one = run(place, system, job, replace(asked[system.name], records=log.records), number, 1.0)
            _say(line(one))
            done.append(one)
    return done


def _asked(system: System, job: Job, options: argparse.Namespace) -> Asked:
    warm = system.quick_warm_seconds if options.quick else system.warm_seconds
    seconds = options.window or (_QUICK_WINDOW_SECONDS if options.quick else _WINDOW_SECONDS)
    return Asked(warm, seconds, first_record=OPEN_SESSIONS if job.name == "session" else 0, records=0)


def line(one: Run) -> str:
    """Return a run in one line."""
    who = f"{one.job} round {one.number} {one.system}: "
    found = one.window
    if found is None:
        return who + one.problem
    marks = f" [{'; '.join(found.marks)}]" if found.marks else ""
    return (
        f"{who}{found.records_per_cpu_second:,.0f} records a CPU-second ({found.records:,.0f} records, "
        f"{found.cpu_seconds:.1f} CPU-s in {found.seconds:.1f} s, {found.records_per_second:,.0f}/s, broker "
        f"{found.broker_cpu_seconds:.1f} CPU-s, {found.peak_rss_mib:.0f} MiB){marks}"
    )


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


def _systems(options: argparse.Namespace) -> list[System]:
    known = all_systems()
    chosen = [known[name] for name in options.system or known]
    for also in options.also:
        name, _, python = also.partition("=")
        chosen.append(millrace(name, str(Path(python).absolute())))
    return chosen


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
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
    parser.add_argument("--quick", action="store_true", help="short warm-ups and windows")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--window", type=float, help="seconds of measuring")
    parser.add_argument("--events", type=int, help="at most so many in the log: a try on a slow machine")
    parser.add_argument("--work-dir", type=Path, default=Path(".millrace/bench"))
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MillraceError as error:
        sys.exit(f"bench: {error}")
