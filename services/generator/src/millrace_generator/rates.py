"""How many events a shop has at which time."""

import math
from collections.abc import Callable, Iterator
from typing import Final

RateAt = Callable[[float], float]
"""Events a second at a time in epoch milliseconds, UTC; positive."""

_SECOND_MS: Final = 1000.0
_DAY_MS: Final = 86_400_000.0
_QUIETEST_MS: Final = 4 * 3_600_000.0  # at four in the morning
_INTEGRATION_STEPS: Final = 10_000


def constant(per_second: float) -> RateAt:
    """Return the same rate at all times."""
    return lambda at_ms: per_second


def daily(lowest_per_second: float, highest_per_second: float) -> RateAt:
    """Return a rate that is lowest at 04:00 and highest at 16:00 UTC."""

    def rate(at_ms: float) -> float:
        swing = (1 - math.cos(2 * math.pi * (at_ms - _QUIETEST_MS) / _DAY_MS)) / 2
        return lowest_per_second + (highest_per_second - lowest_per_second) * swing

    return rate


def spike(baseline_per_second: float, peak_per_second: float, begin_ms: float, end_ms: float) -> RateAt:
    """Return a baseline that jumps to a peak from `begin_ms` to `end_ms`."""
    return lambda at_ms: peak_per_second if begin_ms <= at_ms < end_ms else baseline_per_second


def instants(rate: RateAt, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the times of events in [start_ms, end_ms), evenly spaced; the rate is looked at once a second."""
    at_ms = origin_ms = until_ms = float(start_ms)
    per_second, number = 0.0, 0
    while at_ms < end_ms:
        if at_ms >= until_ms:
            until_ms = (at_ms // _SECOND_MS + 1) * _SECOND_MS
            if (now := rate(at_ms)) != per_second:
                per_second, origin_ms, number = now, at_ms, 0
        yield int(at_ms)
        number += 1
        at_ms = origin_ms + number * _SECOND_MS / per_second  # adding steps up would add their errors up


def expected_events(rate: RateAt, start_ms: int, end_ms: int) -> int:
    """Return about how many instants there are."""
    step_ms = max(_SECOND_MS, (end_ms - start_ms) / _INTEGRATION_STEPS)
    steps = math.ceil((end_ms - start_ms) / step_ms)
    seconds = (end_ms - start_ms) / steps / _SECOND_MS if steps else 0.0
    return round(sum(rate(start_ms + (n + 0.5) * seconds * _SECOND_MS) * seconds for n in range(steps)))
