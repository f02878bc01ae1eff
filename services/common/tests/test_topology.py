from concurrent.futures import Future
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo

from millrace_common.errors import StartupError
from millrace_common.records import Committed, Partition
from millrace_common.topology import Topology, refuse_lost_input, refuse_uneven_topics

PLACE = Partition("user-events", 3)
REPAIR = "`millrace reset ingest --topic user-events --partition 3 --to earliest`"


def refuse(committed: Committed | None, kept: tuple[int, int]) -> None:
    refuse_lost_input(PLACE, committed, kept, "id-now", "ingest")


def test_equal_partition_counts_pass() -> None:
    refuse_uneven_topics({"a": 4, "b": 4})
    refuse_uneven_topics({})


def test_uneven_partition_counts_are_listed_with_the_way_out() -> None:
    with pytest.raises(StartupError, match=r"a has 4, b has 6.*add partitions to the smaller ones, downstream"):
        refuse_uneven_topics({"b": 6, "a": 4})


@pytest.mark.parametrize("offset", [10, 15, 20])
def test_an_offset_between_the_first_kept_and_the_end_passes(offset: int) -> None:
    refuse(Committed(offset, topic_id="id-now"), (10, 20))


def test_a_first_start_passes() -> None:
    refuse(None, (10, 20))


def test_an_offset_committed_without_a_topic_id_passes() -> None:
    refuse(Committed(15), (10, 20))


@pytest.mark.parametrize(
    ("committed", "problem"),
    [
        (Committed(9, topic_id="id-now"), "offsets 9 to 9 were deleted before they were processed"),
        (Committed(21, topic_id="id-now"), "the committed offset 21 is behind the end 20"),
    ],
)
def test_lost_input_is_refused_with_partition_problem_and_repair_command(committed: Committed, problem: str) -> None:
    with pytest.raises(StartupError) as caught:
        refuse(committed, (10, 20))
    message = str(caught.value)
    assert message.startswith("ingest cannot go on at user-events[3]: ")
    assert problem in message
    assert REPAIR in message


def test_a_topic_created_again_is_refused_with_one_command_for_all_of_it() -> None:
    with pytest.raises(StartupError) as caught:
        refuse(Committed(15, topic_id="id-then"), (10, 20))
    assert str(caught.value).startswith(
        "ingest cannot go on at user-events[3]: the topic was deleted and created again (its id was id-then, now it is "
        "id-now)."
    )
    assert "`millrace reset ingest --topic user-events --to earliest`" in str(caught.value)


class Admin:
    """Answers offset requests with an error until its metadata was refreshed."""

    def __init__(self, error: int) -> None:
        self.error: int | None = error
        self.refreshes = 0

    def list_topics(self, timeout: float) -> None:
        self.refreshes += 1
        self.error = None

    def list_offsets(self, asked: dict[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Any]:
        answers = {}
        for place in asked:
            answers[place] = future = Future[ListOffsetsResultInfo]()
            if self.error is None:
                future.set_result(ListOffsetsResultInfo(7, -1, -1))
            else:
                future.set_exception(KafkaException(KafkaError(self.error)))
        return answers


def test_ends_are_known_after_a_broker_restarted() -> None:
    admin = Admin(KafkaError.FENCED_LEADER_EPOCH)
    assert Topology(cast("AdminClient", admin)).ends([PLACE], 1.0) == {PLACE: 7}
    assert admin.refreshes == 1


def test_a_broker_that_never_answers_is_not_waited_for_longer_than_asked() -> None:
    class Silent(Admin):
        def list_offsets(self, asked: dict[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Any]:
            return {place: Future[ListOffsetsResultInfo]() for place in asked}

    with pytest.raises(KafkaException, match="_TIMED_OUT"):
        Topology(cast("AdminClient", Silent(0))).ends([PLACE], 0.0)


def test_another_error_is_not_asked_away() -> None:
    admin = Admin(KafkaError.NOT_LEADER_FOR_PARTITION)
    with pytest.raises(KafkaException):
        Topology(cast("AdminClient", admin)).ends([PLACE], 1.0)
    assert not admin.refreshes
