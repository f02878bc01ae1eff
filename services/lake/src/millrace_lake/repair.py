"""What an operator needs to know to say from where a table is to be filled."""

from millrace_common.errors import StartupError
from millrace_lake.tables import NAMES, TableSpec, tables


def table_of(topic: str) -> TableSpec:
    """Return the table that `topic` feeds, in any lane.

    Raises:
        StartupError: there is none.
    """
    for spec in tables(NAMES):
        if topic == spec.topic or topic.startswith(f"{spec.topic}."):
            return spec
    message = f"no table of the lake is fed from {topic}"
    raise StartupError(message)
