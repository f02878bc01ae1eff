"""millrace batch versions, and maintain: the lake's tables as such."""

import json
import time

import typer

from millrace_batch import catalog, metrics
from millrace_batch import maintain as maintaining
from millrace_batch import spark as spark_sessions
from millrace_batch.lake import Lake
from millrace_local import batch_options, options


def register(batch: typer.Typer) -> None:
    """Add the commands to those of `millrace batch`."""
    batch.command()(versions)
    batch.command()(maintain)


def versions(lake: batch_options.LakeUri = "", work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Print which version each table is at, as JSON on one line; those that are not there are left out."""
    found = catalog.versions(Lake(lake or str(work_dir / "lake")))
    batch_options.show(json.dumps(found))


def maintain(
    lake: batch_options.LakeUri = "",
    master: batch_options.Master = spark_sessions.LOCAL_MASTER,
    memory_mib: batch_options.Memory = 1024,
    metrics_dir: batch_options.MetricsDir = None,
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Remove what is past the retention of every table, and tell of files that no commit knows."""
    began = time.monotonic()
    outcome = maintaining.run(batch_options.spark_maker(master, memory_mib)(), Lake(lake or str(work_dir / "lake")))
    if metrics_dir is not None:
        metrics.record(metrics_dir, "maintain", time.time(), time.monotonic() - began, outcome.figures)
    for line in outcome.lines:
        batch_options.show(line)
