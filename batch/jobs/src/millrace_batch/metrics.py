"""Records a job's last success where node_exporter's textfile collector looks.

`docs/reference/metrics.md` is generated from SPECS.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from millrace_common.metrics import MetricSpec

_COMPACT: Final = "Growing from night to night after compact: compare with the retention, and read what compact prints."
# What a job's figures are called, what they say, and what to do about them.
_FIGURES: Final = {
    "last_success_timestamp_seconds": (
        "When the job last ended well, since the epoch.",
        "Older than 26 hours: the night did not get through; run the job by hand, it says why.",
    ),
    "last_duration_seconds": (
        "How long that run took.",
        "Twice what it was: the lake has grown, or other writers made it try again; see its log.",
    ),
    "files_before": ("compact: files of all tables before, log and older versions too.", _COMPACT),
    "files_after": ("compact: the same afterwards.", _COMPACT),
    "bytes_before": ("compact: bytes of all tables before, log and older versions too.", _COMPACT),
    "bytes_after": ("compact, maintain: the same afterwards.", _COMPACT),
    "orphan_files_young": (
        "maintain: files that no commit knows, within the retention.",
        "Some are commits on their way. Many every week: a writer dies between its files and its commit; see its log.",
    ),
    "orphan_files_old": (
        "maintain: files that no commit knows, past the retention; this run removed them.",
        "As for the young ones.",
    ),
    "orphan_bytes_old": ("maintain: their bytes.", "As for the files."),
    "session_differences": (
        "sessions: sessions of the day that the stream has otherwise than all events make them.",
        "A jump: many events come late; table reconciliation names the causes.",
    ),
    "session_revisions_written": (
        "sessions: revisions that this run added; a second run adds none.",
        "Not 0 although nothing came late since the last run: compare two revisions of one session.",
    ),
    **{
        f"{table}_rows": (
            f"{job}: rows of the day in table {table}.",
            "Far from yesterday's: look at the report of quality, then at the table's inputs.",
        )
        for table, job in (
            *((name, "daily_metrics") for name in ("user_daily_metrics", "product_metrics", "session_metrics_daily")),
            ("fact_daily_metrics", "daily_metrics"),
            *((name, name) for name in ("user_segments", "user_features", "recommendation_features")),
        )
    },
    "checks_failed": (
        "quality: checks of severity warn that did not hold; an error leaves no success.",
        "Read the day's report; a warning that stays is a check to mend or a fact to face.",
    ),
    "checks_not_made": (
        "quality: checks that could not be made.",
        "The report says why: a table that is not there, too few days before, commits that are gone.",
    ),
    "days_written": ("reenrich: days of events written anew.", "0 with new products: a dry run, or nothing differs."),
    "rows": (
        "load_warehouse: rows of the day, all tables together.",
        "Far from yesterday's: compare the tables' own rows.",
    ),
}

SPECS: Final = tuple(
    MetricSpec(f"millrace_batch_{name}", "gauge", says, what_to_do, ("job",))
    for name, (says, what_to_do) in _FIGURES.items()
)


def refuse_undeclared(names: Iterable[str]) -> None:
    """Do nothing if every name is one of SPECS.

    Raises:
        KeyError: one is not.
    """
    unknown = sorted(set(names) - _FIGURES.keys())
    if unknown:
        message = f"declare {', '.join(unknown)} in millrace_batch.metrics"
        raise KeyError(message)


def record(
    folder: Path, job: str, finished_at_seconds: float, duration_seconds: float, figures: Mapping[str, float]
) -> Path:
    """Write `batch_<job>.prom`; a reader sees the old file or the new one, whole.

    Args:
        folder: created if need be.
        job: name of the job.
        finished_at_seconds: since the epoch.
        duration_seconds: of the run.
        figures: name to number; becomes `millrace_batch_<name>`. All are declared.
    """
    numbers = {
        "last_success_timestamp_seconds": finished_at_seconds,
        "last_duration_seconds": duration_seconds,
        **figures,
    }
    lines = []
    for name, number in numbers.items():
        says, _ = _FIGURES[name]
        lines += [f"# HELP millrace_batch_{name} {says}", f"# TYPE millrace_batch_{name} gauge"]
        lines.append(f'millrace_batch_{name}{{job="{job}"}} {number:.17g}')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"batch_{job}.prom"
    partial = path.with_suffix(".prom.tmp")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return partial.replace(path)
