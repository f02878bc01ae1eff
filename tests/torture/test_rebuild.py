import pyarrow as pa
import pytest

from rebuild import rows_of


def state(*pages: list[str]) -> pa.Table:
    return pa.table({"session": [f"s{number}" for number in range(len(pages))], "pages": list(pages)})


def test_the_order_of_rows_and_of_the_sets_in_them_means_nothing() -> None:
    one = state(["/", "/search"], ["/cart"])
    other = state(["/search", "/"], ["/cart"])
    assert rows_of(one) == rows_of(other.take([1, 0]))


@pytest.mark.parametrize("pages", [["/"], ["/", "/cart"], ["/", "/", "/search"]])
def test_other_values_in_a_set_are_another_state(pages: list[str]) -> None:
    assert rows_of(state(["/", "/search"])) != rows_of(state(pages))
