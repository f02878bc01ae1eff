from millrace_common.transactions import CALL_SECONDS, producer_properties


def test_no_request_of_a_transaction_outlives_the_call_that_made_it() -> None:
    properties = producer_properties({"socket.timeout.ms": 60_000}, "ingest-0", 60.0)
    assert properties["socket.timeout.ms"] == CALL_SECONDS * 1000
