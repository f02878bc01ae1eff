"""The picture of the page as SVG: bars of the ratios, and latency against rate; pure."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from figures import Figure
from goals import OURS
from systems import YARDSTICK

_WIDTH: Final = 860
_LEFT: Final = 150
_RIGHT: Final = 110
_BAR: Final = 18
_GAP: Final = 6
_PLOT_HEIGHT: Final = 220
_OURS: Final = "#b5651d"
_OTHERS: Final = "#8a9ba8"
_LINES: Final = {"p50_seconds": "#8a9ba8", "p99_seconds": "#b5651d", "row_in_lake_p99_seconds": "#3f6e8c"}
_NAMES: Final = {"p50_seconds": "enriched, p50", "p99_seconds": "enriched, p99", "row_in_lake_p99_seconds": "row, p99"}
_RATE: Final = re.compile(r"open loop at ([\d,]+)/s")


def draw(figures: Sequence[Figure]) -> str:
    """Return the picture; what was not measured is left out."""
    parts: list[str] = []
    below = _bars(figures, parts)
    below = _latency(figures, parts, below)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {below}" font-family="sans-serif" '
        f'font-size="13" fill="#333"><rect width="{_WIDTH}" height="{below}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _bars(figures: Sequence[Figure], parts: list[str]) -> int:
    """Append the ratios to the yardstick by job; return where they end."""
    found = [figure for figure in figures if figure.metric == f"ratio_to_{YARDSTICK}"]
    scale = (_WIDTH - _LEFT - _RIGHT) / max((figure.max for figure in found), default=1.0)
    y = 30
    for job in dict.fromkeys(figure.job for figure in found):
        parts.append(_text(_LEFT, y, f"{job}: records per CPU-second, × {YARDSTICK}", bold=True))
        y += 12
        for figure in sorted((each for each in found if each.job == job), key=lambda each: -each.median):
            colour = _OURS if figure.system == OURS else _OTHERS
            least, middle, most = (_LEFT + value * scale for value in (figure.min, figure.median, figure.max))
            parts += [
                f'<rect x="{_LEFT}" y="{y}" width="{middle - _LEFT:.1f}" height="{_BAR}" fill="{colour}"/>',
                f'<path d="M{least:.1f} {y + _BAR / 2}H{most:.1f}" stroke="#333"/>',
                _text(_LEFT - 8, y + 14, figure.system, anchor="end"),
                _text(most + 6, y + 14, f"{figure.median:.2f}"),
            ]
            y += _BAR + _GAP
        y += 30
    return y


def _latency(figures: Sequence[Figure], parts: list[str], top: int) -> int:
    """Append latency against rate, both on logarithmic scales; return where it ends."""
    lines = _points(figures)
    if not lines:
        return top
    rates = sorted({rate for line in lines.values() for rate, _ in line})
    seconds = [value for line in lines.values() for _, value in line]
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    low, high = (low, high) if high > low else (low, low + 1)
    first, last = math.log10(rates[0]), math.log10(rates[-1])

    def x(rate: float) -> float:
        share = (math.log10(rate) - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return top + 20 + (high - math.log10(value)) / (high - low) * _PLOT_HEIGHT

    parts.append(_text(_LEFT, top, "Latency in seconds against events a second", bold=True))
    for power in range(low, high + 1):
        parts.append(f'<path d="M{_LEFT} {y(10**power):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y(10**power) + 4, f"{10.0**power:g}", anchor="end"))
    parts += [_text(x(rate), top + _PLOT_HEIGHT + 40, f"{rate:,.0f}", anchor="middle") for rate in rates]
    for metric, line in lines.items():
        path = "L".join(f"{x(rate):.1f} {y(value):.1f}" for rate, value in line)
        parts.append(f'<path d="M{path}" stroke="{_LINES[metric]}" stroke-width="2" fill="none"/>')
        parts += [
            f'<circle cx="{x(rate):.1f}" cy="{y(value):.1f}" r="3" fill="{_LINES[metric]}"/>' for rate, value in line
        ]
        parts.append(_text(x(line[-1][0]) + 8, y(line[-1][1]) + 4, _NAMES[metric]))
    return top + _PLOT_HEIGHT + 60


def _points(figures: Sequence[Figure]) -> Mapping[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        rate = _RATE.fullmatch(figure.job)
        if rate and figure.metric in _LINES and 0 < figure.median < math.inf:
            lines.setdefault(figure.metric, []).append((float(rate[1].replace(",", "")), figure.median))
    return {metric: sorted(line) for metric, line in lines.items()}


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
