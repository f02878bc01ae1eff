"""maintain: what every table of the lake needs once a week, those of the jobs too.

Each table: which files no commit knows, then VACUUM and log clean-up by the table's own retention. Nothing is removed
that VACUUM would not remove. The stream goes on appending meanwhile.
"""

from pyspark.sql import SparkSession

from millrace_batch import computations
from millrace_batch.catalog import BATCH_TABLES, RECORDS, STREAM_TABLES
from millrace_batch.compact import remove_old
from millrace_batch.disk import stored
from millrace_batch.errors import MissingTableError
from millrace_batch.lake import Lake
from millrace_batch.night import Outcome
from millrace_batch.orphans import find_orphans


def run(spark: SparkSession, lake: Lake) -> Outcome:
    """Look after every table that is there.

    A second run finds nothing to remove, and makes no new version of any table.

    Raises:
        MissingTableError: the lake has none of the tables.
    """
    present = [name for name in (*STREAM_TABLES, *BATCH_TABLES, *RECORDS) if lake.has(spark, name)]
    if not present:
        message = f"there is no table to look after in {lake.uri}: has the stream written to this lake yet?"
        raise MissingTableError(message)
    if computations.TABLE in present:
        # A row a file, and few a day.
        lake.delta_rs(computations.TABLE).optimize.compact()
    lines = []
    figures = {"orphan_files_young": 0, "orphan_files_old": 0, "orphan_bytes_old": 0, "bytes_after": 0}
    for name in present:
        uri = lake.table_uri(name)
        before = stored(spark, uri)
        orphans = find_orphans(spark, lake, name)
        remove_old(spark, lake, name)
        after = stored(spark, uri)
        lines.append(
            f"{name}: {before.files:,} files, {before.size_bytes:,} bytes -> {after.files:,} files, "
            f"{after.size_bytes:,} bytes; no commit knew {orphans.old.files:,} files past the retention, "
            f"{orphans.young.files:,} within it"
        )
        figures["orphan_files_young"] += orphans.young.files
        figures["orphan_files_old"] += orphans.old.files
        figures["orphan_bytes_old"] += orphans.old.size_bytes
        figures["bytes_after"] += after.size_bytes
    return Outcome(tuple(lines), figures)
