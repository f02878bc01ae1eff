import json
import xml.etree.ElementTree as ET
from pathlib import Path

import performance
import performance_page
from figures import Section, figure
from goals import GOALS, missed
from lineup import all_systems
from millrace_local.circumstances import circumstances
from running import Run
from windows import Window

HERE = {
    "at": "2026-01-02 03:04",
    "processor": "a chip",
    "cores": 2,
    "memory_gib": 8,
    "load_before": 0.1,
    "form": "full",
    "kafka": "4.3.0",
}


def run(system: str, number: int, rate: float | None, *, job: str = "enrich", marks: tuple[str, ...] = ()) -> Run:
    window = Window(20, rate * 10, 10, 1, 0.5, 100, marks) if rate is not None else None
    return Run(
        job, system, number, window, "" if window else "its output is wrong: 3 lost of 9\nmore", (0,) * 4, 0, "out"
    )


RUNS = [
    *(run("plain", number, 50_000) for number in (1, 2, 3)),
    *(run("millrace", number, 50_000 * ratio) for number, ratio in ((1, 5.0), (2, 4.5), (3, 6.0))),
]


def test_page_shows_ratio_and_goal() -> None:
    page = performance_page.render(HERE, RUNS, all_systems(), [])
    assert "| enrich | **millrace** | 250,000 | 5.00× (4.50 to 6.00) | exactly once |" in page
    assert "| millrace | 125,000 | 100 | 0.40 | 3 |  |" in page
    assert "| enrich | 4 × plain | 5.00× (4.50 to 6.00) | reached |" in page
    assert "| session | 3 × plain | not measured |  |" in page


def test_system_with_a_wrong_output_has_no_figure_and_the_page_says_why() -> None:
    runs = [run("plain", 1, 50_000), run("millrace", 1, None)]
    [row] = [line for line in performance_page.table("enrich", runs) if "millrace" in line]
    assert row == "| millrace | no figure |  |  | 0 | its output is wrong: 3 lost of 9 (round 1) |"
    assert performance_page.headline(runs, all_systems())[-1].startswith("| enrich | **millrace** | no figure |")


def test_missed_goal_is_missed_on_the_page() -> None:
    page = performance_page.render(HERE, [run("plain", 1, 50_000), run("millrace", 1, 100_000)], all_systems(), [])
    assert "| enrich | 4 × plain | 2.00× (2.00 to 2.00) | **missed** |" in page


def test_marks_stand_beside_the_figure_with_their_rounds() -> None:
    runs = [
        run("plain", 1, 50_000, marks=("short",)),
        run("plain", 2, 50_000),
        run("plain", 3, 50_000, marks=("short",)),
    ]
    assert performance_page.table("enrich", runs)[-1].endswith("| 3 | short (round 1, 3) |")


def test_missed_goal_is_named() -> None:
    slow = [run("plain", 1, 100_000), run("millrace", 1, 300_000), run("millrace", 1, 200_000, job="lake")]
    assert missed(slow) == [
        "enrich: 3.00 where the goal is 4 × plain",
        "lake: 200,000 where the goal is 300,000 records a CPU-second",
    ]
    assert missed(RUNS) == []
    assert {goal.job for goal in GOALS} == {"ingest", "enrich", "session", "lake"}


def test_everything_is_written(tmp_path: Path) -> None:
    section = Section(
        "Latency",
        ["text"],
        [
            figure(f"open loop at {rate}/s", "millrace", "p99_seconds", p99)
            for rate, p99 in (("100", 0.1), ("20,000", 0.3))
        ],
        ["at 100/s p99 is 1 s, the goal 0.5 s"],
    )
    measured = performance.Measured(
        {**circumstances(), "load_before": 0.0, "form": "quick"}, RUNS, all_systems(), [section]
    )
    page, report = tmp_path / "docs" / "performance.md", tmp_path / "bench-report.json"
    performance.write(page, report, measured)
    assert "- at 100/s p99 is 1 s, the goal 0.5 s" in page.read_text()
    figures = json.loads(report.read_text())
    assert {
        "job": "enrich",
        "system": "millrace",
        "metric": "ratio_to_plain",
        "median": 5.0,
        "min": 4.5,
        "max": 6.0,
    } in figures
    assert all(set(each) == {"job", "system", "metric", "median", "min", "max"} for each in figures)
    assert len(json.loads(page.with_suffix(".json").read_text())["runs"]) == len(RUNS)
    picture = ET.fromstring(page.with_name("performance.svg").read_text())  # noqa: S314  # our own
    texts = [element.text for element in picture.iter() if element.text]
    assert {"5.00", "20,000", "enriched, p99"} <= set(texts)
