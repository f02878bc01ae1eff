"""Schedules of a simulated world, as hypothesis draws them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from millrace_common.records import Partition
from simulated_network import CALLS, Fate, Trap
from simulated_processor import WINDOWS, Model
from simulated_worker import Ports
from simulated_world import INPUTS, Happening, World

PLACES = st.sampled_from(INPUTS)
NUMBERS = st.integers(0, 3)
AGES_MS = st.lists(st.sampled_from([0, 100, 1_500, 5_000, 20_000]), min_size=1, max_size=6)
# Within one transaction, past its end, past a snapshot's interval, past the idle timeout.
SECONDS = st.sampled_from([0.0, 0.06, 0.06, 0.6, 1.1, 4.0])
# How many items get from the source to the sink before the next poll; None: all.
AT_MOST = st.sampled_from([None, None, 0, 1, 3])
CALLS_BEFORE = st.sampled_from([0, 0, 0, 1, 2])
PAUSES = (Fate.PAUSED_BEFORE, Fate.PAUSED_AFTER)
BLOWS = tuple(fate for fate in Fate if fate not in PAUSES)
TRAP = st.builds(Trap, st.sampled_from(CALLS), st.sampled_from(BLOWS), CALLS_BEFORE, st.booleans())
TRAPS = st.lists(TRAP, min_size=1, max_size=3)
ENDINGS = st.sampled_from(["send_offsets", "commit_transaction"])


class Simulation(RuleBasedStateMachine):
    """Draws schedules; a subclass may name another `model`."""

    model: ClassVar[Model] = WINDOWS

    def plant(self, ports: Ports) -> Ports:
        """Return what workers are made of; a subclass may put a fault into it."""
        return ports

    @initialize()
    def begin(self) -> None:
        self.world = World(self.plant, self.model)
        self.world.start(0)
        self.world.start(1)

    @rule(place=PLACES, ages_ms=AGES_MS, how=st.sampled_from(["plain", "plain", "transactional", "poison"]))
    def produce(self, place: Partition, ages_ms: Sequence[int], how: str) -> None:
        if how == "transactional":
            self.world.produce_in_transaction(place, ages_ms)
        else:
            self.world.produce(place, ages_ms, poison=how == "poison")

    @rule(commit=st.booleans())
    def end_input_transaction(self, commit: bool) -> None:
        self.world.end_input_transaction(commit=commit)

    @rule(number=NUMBERS, seconds=SECONDS, at_most=AT_MOST)
    def step(self, number: int, seconds: float, at_most: int | None) -> None:
        self.world.pass_time(seconds)
        self.world.step(number, at_most)

    @rule(rounds=st.integers(1, 4), seconds=SECONDS)
    def steps(self, rounds: int, seconds: float) -> None:
        for _ in range(rounds):
            self.world.pass_time(seconds)
            for number in range(len(self.world.workers)):
                self.world.step(number)

    @rule(number=NUMBERS, seconds=st.sampled_from([0.06, 0.6, 0.6]), traps=TRAPS)
    def step_into_traps(self, number: int, seconds: float, traps: Sequence[Trap]) -> None:
        self.world.pass_time(seconds)
        self.world.step(number, None, traps)

    @rule(number=NUMBERS, place=PLACES, late=ENDINGS, call=ENDINGS, fate=st.sampled_from(BLOWS))
    def answer_late_within_the_next_transaction(
        self, number: int, place: Partition, late: str, call: str, fate: Fate
    ) -> None:
        self.world.produce(place, [0])
        self.world.step(number)
        self.world.pass_time(0.6)
        self.world.step(number, None, [Trap(late, Fate.REQUEST_LATE)])
        self.world.step(number)
        self.world.pass_time(0.6)
        self.world.step(number, None, [Trap(call, fate, overtaken=True)])

    @rule(
        number=NUMBERS,
        call=st.sampled_from(CALLS),
        fate=st.sampled_from(PAUSES),
        happenings=st.lists(st.sampled_from(Happening), min_size=1, max_size=5),
    )
    def step_with_a_pause(self, number: int, call: str, fate: Fate, happenings: Sequence[Happening]) -> None:
        self.world.pass_time(0.6)
        self.world.step(number, None, [Trap(call, fate, meanwhile=self.world.meanwhile(number, happenings))])

    @rule(slot=NUMBERS, traps=TRAPS)
    def start(self, slot: int, traps: Sequence[Trap]) -> None:
        self.world.start(slot, traps)

    @rule(number=NUMBERS, end=st.sampled_from([World.stop, World.kill, World.kill]))
    def end(self, number: int, end: Callable[[World, int], None]) -> None:
        end(self.world, number)

    @rule(number=NUMBERS, change=st.sampled_from([World.deal, World.expel]))
    def rebalance(self, number: int, change: Callable[[World, int], None]) -> None:
        change(self.world, number)

    @rule(number=NUMBERS, change=st.sampled_from([World.deliver, World.deliver, World.expire]))
    def change_a_transaction(self, number: int, change: Callable[[World, int], None]) -> None:
        change(self.world, number)

    @rule(number=NUMBERS)
    def redeliver(self, number: int) -> None:
        self.world.redeliver(number, 2)

    @rule(number=NUMBERS)
    def write_a_snapshot(self, number: int) -> None:
        self.world.write_snapshot(number)

    @rule(place=PLACES, broken=st.booleans())
    def hurt_the_store_and_read(self, place: Partition, broken: bool) -> None:
        if broken:
            self.world.break_store()
        else:
            self.world.lose_snapshots(place)
        self.world.read()

    def teardown(self) -> None:
        self.world.drain()
        self.world.check()


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing: everything that is worth a warning happens all the time."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def schedules(count: int) -> settings:
    """Return how to try `count` schedules."""
    return settings(
        max_examples=count,
        stateful_step_count=50,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
