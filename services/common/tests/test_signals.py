"""How a process hears that it shall stop."""

import signal
from collections.abc import Iterator

import pytest

from millrace_common.signals import stop_event


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    stopping = stop_event()
    assert not stopping.is_set()
    signal.raise_signal(number)
    assert stopping.is_set()
