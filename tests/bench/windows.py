"""From samples of a run to a rate: where the measured window lies, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

SATURATED: Final = 0.97
"""From this share of its time on a core counts as full."""
# CPU time is counted in hundredths of a second: less than this of it says nothing.
_LEAST_CPU_SECONDS: Final = 2.0
# A window in which records are done this often begins and ends with progress, and has some in between.
LEAST_STEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """A system at a moment.

    Attributes:
        at_seconds: monotonic.
        records: of the input that are done.
        cpu_seconds: of the system's process tree.
        broker_cpu_seconds: of the broker.
        broker_core_seconds: how long the broker's core has worked, for whomever.
        rss_mib: of the system's process tree.
    """

    at_seconds: float
    records: float
    cpu_seconds: float
    broker_cpu_seconds: float
    broker_core_seconds: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Asked:
    """How a run is to be measured.

    Attributes:
        warm_seconds: from the first record done.
        window_seconds: of measuring, after that.
        first_record: the window does not begin before as many are done.
        records: in the log.
        longest_seconds: when to give up.
    """

    warm_seconds: float
    window_seconds: float
    first_record: int
    records: int
    longest_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured between two samples.

    Attributes:
        seconds: of the wall clock.
        records: done meanwhile.
        cpu_seconds: used meanwhile by the system.
        broker_cpu_seconds: by the broker.
        broker_core_share: how much of the time the broker's core worked, for whomever.
        peak_rss_mib: the most memory the system had until the end of the window.
        marks: what a reader of the figure must know, a few words each.
    """

    seconds: float
    records: float
    cpu_seconds: float
    broker_cpu_seconds: float
    broker_core_share: float
    peak_rss_mib: float
    marks: tuple[str, ...] = ()

    @property
    def records_per_cpu_second(self) -> float:
        """The figure."""
        return self.records / self.cpu_seconds

    @property
    def records_per_second(self) -> float:
        """The same by the wall clock."""
        return self.records / self.seconds

    @property
    def core_share(self) -> float:
        """How much of its core the system used."""
        return self.cpu_seconds / self.seconds


class NoWindowError(Exception):
    """The samples hold no window."""


def begin_of(samples: Sequence[Sample], asked: Asked) -> int | None:
    """Return the number of the sample at which the window begins; None: not yet."""
    working = next((sample for sample in samples if sample.records > 0), None)
    if working is None:
        return None
    ready = (
        number
        for number, sample in enumerate(samples)
        if sample.records >= max(1, asked.first_record) and sample.at_seconds - working.at_seconds >= asked.warm_seconds
    )
    return next(ready, None)


def over(samples: Sequence[Sample], asked: Asked) -> bool:
    """Return whether enough was measured, or nothing is left to be done."""
    if samples and samples[-1].records >= asked.records:
        return True
    begin = begin_of(samples, asked)
    if begin is None or samples[-1].at_seconds - samples[begin].at_seconds < asked.window_seconds:
        return False
    if samples[-1].cpu_seconds - samples[begin].cpu_seconds < _LEAST_CPU_SECONDS:  # others have had the core
        return False
    return len(_moved(samples, begin)) >= LEAST_STEPS


def window(samples: Sequence[Sample], asked: Asked) -> Window:
    """Return what the samples say; progress that comes in steps is measured from step to step.

    Raises:
        NoWindowError: it did not get that far, or stood still.
    """
    begin = begin_of(samples, asked)
    if begin is None:
        last = samples[-1].records if samples else 0
        message = f"no window: {last:,.0f} records done, then the time or the log was over"
        raise NoWindowError(message)
    inside = [number for number in _moved(samples, begin) if samples[number].records < asked.records]
    if len(inside) < 2:
        message = "no window: nothing was done after the warm-up"
        raise NoWindowError(message)
    first, last_one = samples[inside[0]], samples[inside[-1]]
    seconds = last_one.at_seconds - first.at_seconds
    measured = Window(
        seconds=seconds,
        records=last_one.records - first.records,
        cpu_seconds=last_one.cpu_seconds - first.cpu_seconds,
        broker_cpu_seconds=last_one.broker_cpu_seconds - first.broker_cpu_seconds,
        broker_core_share=(last_one.broker_core_seconds - first.broker_core_seconds) / seconds,
        peak_rss_mib=max(sample.rss_mib for sample in samples[: inside[-1] + 1]),
    )
    if measured.cpu_seconds <= 0:
        message = "no window: no CPU time was seen"
        raise NoWindowError(message)
    return replace(measured, marks=_marks(measured, asked))


def too_slow(last: Sample, asked: Asked) -> str:
    """Return that a system was given up, and what it had reached."""
    rate = last.records / last.cpu_seconds if last.cpu_seconds else 0.0
    return (
        f"not measured in {asked.longest_seconds:.0f} s: {last.records:,.0f} records were done by then, "
        f"{rate:,.0f} a CPU-second; the window begins at {asked.first_record:,}"
    )


def _moved(samples: Sequence[Sample], begin: int) -> list[int]:
    """Return the numbers of the samples, from `begin` on, before which records were done."""
    steps = enumerate(pairwise(samples), start=1)
    return [number for number, (before, after) in steps if number >= begin and after.records > before.records]


def _marks(measured: Window, asked: Asked) -> tuple[str, ...]:
    marks = []
    if measured.seconds < 0.8 * asked.window_seconds:
        marks.append(f"window of {measured.seconds:.1f} s only")
    if measured.cpu_seconds < _LEAST_CPU_SECONDS:
        marks.append(f"only {measured.cpu_seconds:.1f} s of CPU time")
    if measured.broker_core_share >= SATURATED and measured.core_share < SATURATED:
        marks.append(
            f"the broker's core was full ({measured.broker_core_share:.0%}) before the service's "
            f"({measured.core_share:.0%})"
        )
    return tuple(marks)
