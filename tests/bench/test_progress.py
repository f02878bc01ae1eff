from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from progress import TableRows


def test_rows_of_a_table_are_counted_once_whatever_is_merged(tmp_path: Path) -> None:
    rows = TableRows(tmp_path / "table")
    assert rows() == 0
    for size in (3, 4, 5):
        write_deltalake(tmp_path / "table", pa.table({"n": pa.array(range(size))}), mode="append")
    assert rows() == 12
    DeltaTable(str(tmp_path / "table")).optimize.compact()
    assert rows() == 12
    write_deltalake(tmp_path / "table", pa.table({"n": pa.array(range(2))}), mode="append")
    assert rows() == 14
