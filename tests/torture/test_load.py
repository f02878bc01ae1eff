"""The short form of every load: the books balance, and a history that is killed goes on where it was cut."""

from collections.abc import Iterator

import pytest

from load import LOADS, running_stack
from millrace_local.stack import Stack

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("load") / "stack") as stack:
        yield stack


@pytest.mark.parametrize("name", LOADS["short"])
def test_nothing_is_lost_or_doubled_under_load(name: str, stack: Stack) -> None:
    result = LOADS["short"][name](name, "short", stack)
    assert not result.problems
    assert (result.lost, result.doubled) == (0, 0)
    assert result.records > 3_000
