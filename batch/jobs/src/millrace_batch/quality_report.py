"""The report of a day's quality: one HTML file that needs nothing else, its plots drawn as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from millrace_batch.quality_results import DAYS_BEFORE, Result, number

# A palette that the colour-blind tell apart (Okabe and Ito): the day, other days, holds, warn, error.
_DAY, _OTHER, _HOLDS, _WARN, _ERROR, _OPEN = "#0072b2", "#9fb8c8", "#00795c", "#b35c00", "#b3261e", "#5f6b73"
_WIDTH: Final = 460
_HEIGHT: Final = 190
_LEFT, _TOP, _BOTTOM = 64, 12, 26
_LETTERS: Final = 'font-family="sans-serif" font-size="11" fill="#44525b"'
_STYLE: Final = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1c2429; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: .2rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #dde3e7; vertical-align: top }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
.holds {{ color: {_HOLDS} }} .warn {{ color: {_WARN}; font-weight: 600 }}
.error {{ color: {_ERROR}; font-weight: 600 }} .open {{ color: {_OPEN} }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem }} figure {{ margin: 0 }} figcaption {{ font-size: 14px }}
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a report shows.

    Attributes:
        day: a UTC day.
        results: in the order of the checks.
        volumes: rows by table and day, of the day and those before it; days without rows are left out.
        events_by_hour: of the day's 24 hours.
    """

    day: date
    results: Sequence[Result]
    volumes: Mapping[str, Mapping[date, int]]
    events_by_hour: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what is under it, how high it is, and whether it is of the day that the report is about."""

    label: str
    value: int
    is_of_day: bool = True


def path_of(folder: Path, day: date) -> Path:
    """Return where the report of a day is."""
    return folder / f"quality-{day}.html"


def write(folder: Path, shown: Shown) -> Path:
    """Write the report into `folder`, made if need be; a reader sees the old file or the new one, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, shown.day)
    partial = path.with_suffix(".html.tmp")
    partial.write_text(html(shown), encoding="utf-8")
    return partial.replace(path)


def html(shown: Shown) -> str:
    """Return the report."""
    counts = dict.fromkeys(("error", "warn", "open", "holds"), 0)
    for result in shown.results:
        counts[_class(result)] += 1
    head = (
        f"errors: {counts['error']}, warnings: {counts['warn']}, not checked: {counts['open']}, hold: {counts['holds']}"
    )
    # What needs somebody comes first.
    order = list(counts)
    ordered = sorted(shown.results, key=lambda result: order.index(_class(result)))
    by_hour = [Bar(f"{hour:02}", rows) for hour, rows in enumerate(shown.events_by_hour)]
    plots = [_plot("events by hour, UTC", by_hour)]
    weeks = {table: _week(days, shown.day) for table, days in shown.volumes.items()}
    plots += [_plot(f"{table}, rows a day", bars) for table, bars in weeks.items()]
    line = "<p>The line is the median of the days before.</p>\n" if any(map(_before, weeks.values())) else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Quality of {shown.day}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>Quality of {shown.day}</h1>\n<p>{head}</p>\n"
        "<table><thead><tr><th>result</th><th>check</th><th>table</th><th>dimension</th><th>observed</th>"
        f"<th>expected</th><th>detail</th></tr></thead><tbody>\n{''.join(map(_row, ordered))}</tbody></table>\n"
        f'<h2>Volume</h2>\n{line}<div class="plots">{"".join(plots)}</div>'
        "\n</body></html>\n"
    )


def _class(result: Result) -> str:
    if result.passed is None:
        return "open"
    return "holds" if result.passed else result.check.severity.value


def _row(result: Result) -> str:
    check, kind = result.check, _class(result)
    word = "not checked" if kind == "open" else kind
    observed = "" if result.observed is None else number(result.observed)
    return (
        f'<tr><td class="{kind}">{word}</td><td>{escape(check.name)}</td><td>{escape(check.table)}</td>'
        f'<td>{check.dimension}</td><td class="number">{observed}</td><td>{escape(result.expected)}</td>'
        f"<td>{escape(result.detail)}</td></tr>\n"
    )


def _week(rows_by_day: Mapping[date, int], day: date) -> list[Bar]:
    days = [day - timedelta(days=back) for back in range(DAYS_BEFORE, -1, -1)]
    return [Bar(f"{one:%d %b}", rows_by_day.get(one, 0), one == day) for one in days]


def _before(bars: Sequence[Bar]) -> list[int]:
    return [bar.value for bar in bars if not bar.is_of_day and bar.value]


def _axis_end(highest: int) -> int:
    """Return where an axis ends that has a round number there, and a whole one in its middle."""
    power: int = 10 ** max(0, len(str(highest)) - 1)
    return next(end * power for end in (2, 4, 6, 8, 10) if highest <= end * power)


def _plot(title: str, bars: Sequence[Bar]) -> str:
    """Return bars from zero, and a line at the median of those of other days that are not empty."""
    end = _axis_end(max(bar.value for bar in bars))
    step = (_WIDTH - _LEFT) / len(bars)
    base = _HEIGHT - _BOTTOM

    def y(value: float) -> float:
        return base - (base - _TOP) * value / end

    drawn = [
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#dde3e7"/>'
        f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        for value in (0, end / 2, end)
    ]
    # Twenty-four labels would run into each other.
    every = -(-len(bars) // 8)
    for place, bar in enumerate(bars):
        left = _LEFT + place * step
        drawn.append(
            f'<rect x="{left + step * 0.1:.1f}" y="{y(bar.value):.1f}" width="{step * 0.8:.1f}" '
            f'height="{base - y(bar.value):.1f}" fill="{_DAY if bar.is_of_day else _OTHER}">'
            f"<title>{escape(bar.label)}: {bar.value:,}</title></rect>"
        )
        if place % every == 0:
            drawn.append(f'<text x="{left + step / 2:.1f}" y="{base + 16}" text-anchor="middle">{bar.label}</text>')
    others = _before(bars)
    if others:
        at = y(median(others))
        drawn.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}" stroke="#1c2429" stroke-dasharray="4 3"/>'
        )
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_LETTERS}'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" {size}>{"".join(drawn)}</svg>'
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"
