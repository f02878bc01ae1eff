"""The shop at work: an ordinary day, a rush, a year of history, a few hours told in a minute."""

from datetime import datetime, timedelta
from typing import Final

from millrace_generator.errors import InputError
from millrace_generator.rates import constant, daily, expected_events, spike
from millrace_generator.shop import Shop, shop_plan
from millrace_generator.traffic import Plan

_MS: Final = timedelta(milliseconds=1)

QUIETEST_PER_SECOND: Final = 10.0
BUSIEST_PER_SECOND: Final = 100.0
"""Of an ordinary day."""


def normal_plan(start: datetime, length: timedelta, *, seed: int = 1, per_second: float | None = None) -> Plan:
    """Return ordinary traffic from `start` (aware) on: 10 to 100 events a second by a daily curve, or `per_second`.

    Raises:
        InputError: a rate or a length is not positive.
    """
    rate = daily(QUIETEST_PER_SECOND, BUSIEST_PER_SECOND)
    if per_second is not None:
        rate = constant(_positive("rate", per_second))
    start_ms, end_ms = _window(start, length)
    return shop_plan(Shop("normal", seed, start_ms, end_ms, rate), mode="normal")


def spike_plan(
    start: datetime,
    *,
    baseline: float = 500.0,
    peak: float = 3_000.0,
    before: timedelta = timedelta(seconds=10),
    during: timedelta = timedelta(seconds=10),
    after: timedelta = timedelta(seconds=30),
    seed: int = 1,
) -> Plan:
    """Return a rush from `start` (aware) on: `baseline` events a second, then `peak`, then `baseline` again.

    Raises:
        InputError: a rate or a length is not positive.
    """
    start_ms, end_ms = _window(start, before + during + after)
    begin_ms = start_ms + before // _MS
    rate = spike(_positive("baseline", baseline), _positive("peak", peak), begin_ms, begin_ms + during // _MS)
    facts = {"mode": "spike", "baseline_per_second": baseline, "peak_per_second": peak}
    return shop_plan(Shop("spike", seed, start_ms, end_ms, rate), **facts)


def backfill_plan(end: datetime, days: float = 365.0, *, events_per_day: float = 20_000.0, seed: int = 1) -> Plan:
    """Return the history of `days` before `end` (aware), by the daily curve.

    Raises:
        InputError: a number is not positive.
    """
    length = timedelta(days=_positive("days", days))
    mean = _positive("events per day", events_per_day) / timedelta(days=1).total_seconds()
    scale = mean / ((QUIETEST_PER_SECOND + BUSIEST_PER_SECOND) / 2)
    start_ms, end_ms = _window(end - length, length)
    rate = daily(QUIETEST_PER_SECOND * scale, BUSIEST_PER_SECOND * scale)
    return shop_plan(Shop("backfill", seed, start_ms, end_ms, rate), mode="backfill", days=days)


def window_plan(start: datetime, end: datetime, events: int, *, seed: int = 1) -> Plan:
    """Return about `events` events of the shop's time from `start` to `end` (aware), by the daily curve.

    Sent at a rate of one's own, hours of shop time pass in a minute. If `end` lies more than gap and allowed lateness
    (35 minutes) back, all sessions of the window are over, and an idle pipeline closes them.

    Raises:
        InputError: there is no time between start and end, or no event.
    """
    start_ms, end_ms = _window(start, end - start)
    curve = daily(QUIETEST_PER_SECOND, BUSIEST_PER_SECOND)
    scale = _positive("events", events) / expected_events(curve, start_ms, end_ms)
    rate = daily(QUIETEST_PER_SECOND * scale, BUSIEST_PER_SECOND * scale)
    return shop_plan(Shop("shop window", seed, start_ms, end_ms, rate), mode="window", events=events)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        message = f"{name} is {value}: it must be positive"
        raise InputError(message)
    return value


def _window(start: datetime, length: timedelta) -> tuple[int, int]:
    _positive("length in seconds", length.total_seconds())
    start_ms = round(start.timestamp() * 1000)
    return start_ms, start_ms + length // _MS
