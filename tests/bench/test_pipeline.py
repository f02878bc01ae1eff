import json
from pathlib import Path

from latency import Latency, Run
from pipeline import cost_section, latency_section, rush_sections

RUSH = {"about": "up and down", "lost": 0, "doubled": 0, "run": {"at": "2026-01-01 00:00"}}


def run(p99_seconds: float, row_seconds: float = 3.0) -> Run:
    results, rows = Latency(0.1, p99_seconds, 1_000, 0), Latency(1.0, row_seconds, 1_000, 0)
    return Run(100.0, 10.0, results, rows, 0.01, {"ingest": 1.0, "kafka": 2.0}, {})


def test_a_goal_that_is_missed_is_said() -> None:
    assert not latency_section([run(0.499, 9.9)]).missed
    assert len(latency_section([run(0.5, 9.9)]).missed) == 1
    assert len(latency_section([run(0.5, 10.0)]).missed) == 2


def test_cost_is_by_process_and_in_all() -> None:
    figures = cost_section([run(0.1)]).figures
    assert {one.system: one.median for one in figures} == {"ingest": 1_000.0, "kafka": 2_000.0, "millrace": 3_000.0}


def test_a_rush_is_taken_from_the_load_that_was_run(tmp_path: Path) -> None:
    numbers = tmp_path / "load.json"
    assert rush_sections(numbers) == []
    for seconds, missed in ((3.5, 0), (31.0, 1), (None, 1)):
        numbers.write_text(json.dumps({"rush to 50,000/s long": {**RUSH, "recovery_seconds": seconds}}))
        assert len(rush_sections(numbers)[0].missed) == missed
