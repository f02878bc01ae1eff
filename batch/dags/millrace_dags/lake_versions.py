"""Which tables have a version that nobody was told of yet.

What was told is kept where it was told: a table's newest asset event has the version as its extra. So an event and the
memory of it are one row, and a run that was lost, or events that were cleaned away, cost telling it late, or again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

VERSION: Final = "version"


def read(lines: Sequence[str]) -> Mapping[str, int]:
    """Return the versions that `millrace batch versions` printed.

    Raises:
        ValueError: it printed something else.
    """
    found = json.loads(lines[-1]) if lines else None
    if not isinstance(found, dict) or not all(isinstance(version, int) for version in found.values()):
        message = "millrace batch versions printed no JSON object of versions"
        raise ValueError(message)
    return found


def news(now: Mapping[str, int], told: Mapping[str, Any]) -> dict[str, int]:
    """Return the tables whose version is another one than the newest event says, or that have no such event.

    A lower version is news too: the table was made again. An event of somebody who wrote the table says no version.
    """
    return {table: version for table, version in now.items() if told.get(table) != version}
