"""Records a job's last success where node_exporter's textfile collector looks."""

from collections.abc import Mapping
from pathlib import Path


def record(
    folder: Path, job: str, finished_at_seconds: float, duration_seconds: float, figures: Mapping[str, float]
) -> Path:
    """Write `batch_<job>.prom`; a reader sees the old file or the new one, whole.

    Args:
        folder: created if need be.
        job: name of the job.
        finished_at_seconds: since the epoch.
        duration_seconds: of the run.
        figures: name to number; becomes `millrace_batch_<name>`.
    """
    numbers = {
        "last_success_timestamp_seconds": finished_at_seconds,
        "last_duration_seconds": duration_seconds,
        **figures,
    }
    lines = []
    for name, number in numbers.items():
        lines += [f"# TYPE millrace_batch_{name} gauge", f'millrace_batch_{name}{{job="{job}"}} {number:.17g}']
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"batch_{job}.prom"
    partial = path.with_suffix(".prom.tmp")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return partial.replace(path)
