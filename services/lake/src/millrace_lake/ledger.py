"""How the ledger and the positions are kept inside Delta commits."""

from typing import Final

from millrace_common.ledger import LedgerRow

SERVICE: Final = "lake"
# Inside a commit's commitInfo, beside its ledger rows: an id that tells two like commits apart.
COMMIT_KEY: Final = "millrace.commit"
# A table property a topic: the id of the topic the table is fed from.
TOPIC_ID_PROPERTY: Final = "millrace.topic_id."


def app_id(topic_id: str, index: int) -> str:
    """Return the Delta application id whose transaction version is the position of one partition."""
    return f"{topic_id}-{index}"


def row_app_id(row: LedgerRow) -> str:
    """Return the Delta application id of the partition that `row` is about."""
    return app_id(row.topic_id, row.partition.index)
