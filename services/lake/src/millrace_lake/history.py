"""Reading what lake committed, for the proof that the books balance."""

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from millrace_common.ledger import LEDGER_KEY, LedgerRow


def ledger_rows(table_uri: str, storage_options: Mapping[str, str] | None = None) -> list[LedgerRow]:
    """Return every ledger row still in the table's log, oldest first.

    The log is kept for `delta.logRetentionDuration` (7 days); rows of older commits are gone, positions are not.

    Raises:
        deltalake.exceptions.TableNotFoundError: there is no table.
    """
    table = DeltaTable(table_uri, storage_options=dict(storage_options or {}))
    return [LedgerRow.from_record(record) for info in reversed(table.history()) for record in info.get(LEDGER_KEY, ())]


def positions(
    table_uri: str, app_ids: Iterable[str], storage_options: Mapping[str, str] | None = None
) -> dict[str, int | None]:
    """Return the next offset to read for each partition, by `millrace_lake.ledger.app_id`; None: it has no row yet.

    Raises:
        deltalake.exceptions.TableNotFoundError: there is no table.
    """
    table = DeltaTable(table_uri, storage_options=dict(storage_options or {}))
    return {app_id: table.transaction_version(app_id) for app_id in app_ids}


def row_count(table_uri: str, storage_options: Mapping[str, str] | None = None) -> int | None:
    """Return the number of rows by the log's statistics, without reading data; None if a file has none.

    Raises:
        deltalake.exceptions.TableNotFoundError: there is no table.
    """
    table = DeltaTable(table_uri, storage_options=dict(storage_options or {}))
    records = pa.table(table.get_add_actions(flatten=True))["num_records"]
    return None if records.null_count else int(pc.sum(records).as_py() or 0)
