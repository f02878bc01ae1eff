"""Workers in a simulated world: any order of kills, pauses, rebalances and lost answers comes to the same output.

`SCHEDULES` says how many schedules are tried. A failure is shrunk and printed as the calls that lead to it, with the
line that runs it again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from millrace_common.assignments import Assignments
from millrace_common.records import Partition
from millrace_common.transactions import CALL_SECONDS, AbandonedError, TransactionalProducer
from simulated_schedules import Simulation, quiet, schedules
from simulated_worker import Ports


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    with quiet():
        yield


def test_every_schedule_comes_to_what_the_log_says() -> None:
    run_state_machine_as_test(Simulation, settings=schedules(int(os.environ.get("SCHEDULES", "500"))))


class CommitsOffsetsApart(TransactionalProducer):
    """Commits the offsets beside the transaction, as a consumer would."""

    ports: ClassVar[Ports]

    def commit(self, offsets: Sequence[TopicPartition], group_metadata: object) -> None:
        self.ports.kafka.commit_offsets(
            {Partition(place.topic, place.partition): (place.offset, place.metadata) for place in offsets}
        )
        super().commit([], group_metadata)


class KeepsItsProducer(TransactionalProducer):
    """Aborts and goes on with the same producer when it does not know whether it has committed."""

    def _replace(self, error: KafkaError) -> NoReturn:
        message = f"outcome unknown: {error.name()}"
        try:
            self._producer.abort_transaction(CALL_SECONDS)
        except KafkaException:  # it had been committed
            raise AbandonedError(message) from None
        raise AbandonedError(message)


class DropsNothing(Assignments):
    """Takes what a generation that is over has brought about."""

    def is_current(self, partition: Partition, generation: int) -> bool:
        return partition in self.owned()


def commits_offsets_apart(ports: Ports) -> Ports:
    return replace(ports, producer_class=type("Planted", (CommitsOffsetsApart,), {"ports": ports}))


def keeps_its_producer(ports: Ports) -> Ports:
    return replace(ports, producer_class=KeepsItsProducer)


def drops_nothing(ports: Ports) -> Ports:
    return replace(ports, make_assignments=DropsNothing)


@pytest.mark.parametrize("plant", [commits_offsets_apart, keeps_its_producer, drops_nothing])
def test_a_planted_fault_is_found(plant: Callable[[Ports], Ports]) -> None:
    machine = type("Planted", (Simulation,), {"plant": lambda self, ports: plant(ports)})
    looking = settings(
        schedules(10_000),  # it stops at the first one that finds it; which one that is changes with the code
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
    )
    # A worker that goes on with what it no longer owns may also fall over it.
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(machine, settings=looking)
