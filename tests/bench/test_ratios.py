from dataclasses import replace

from ratios import Spread, figures_of, ratios, trusted
from running import Run
from windows import Window


def run(system: str, number: int, rate: float | None, job: str = "enrich") -> Run:
    window = Window(20, rate * 10, 10, 1, 0.5, 100) if rate is not None else None
    return Run(job, system, number, window, "" if window else "lost", (0, 0, 0, 0), 0, "")


def test_ratio_is_taken_inside_a_round() -> None:
    # The machine was twice as slow in the second round: the ratio does not know.
    runs = [run("plain", 1, 100), run("fast", 1, 500), run("plain", 2, 50), run("fast", 2, 250)]
    assert ratios(runs, "plain")["enrich", "fast"] == Spread(5, 5, 5, 2)
    assert figures_of(runs, lambda window: window.records_per_cpu_second)["enrich", "fast"] == Spread(375, 250, 500, 2)


def test_spread_has_median_least_and_most() -> None:
    runs = [run("plain", number, 100) for number in (1, 2, 3)]
    runs += [run("fast", number, rate) for number, rate in ((1, 900), (2, 200), (3, 300))]
    assert ratios(runs, "plain")["enrich", "fast"] == Spread(3, 2, 9, 3)


def test_run_without_figure_has_no_ratio() -> None:
    runs = [run("plain", 1, 100), run("lossy", 1, None), run("fast", 2, 300)]
    found = ratios(runs, "plain")
    assert ("enrich", "lossy") not in found
    assert ("enrich", "fast") not in found  # its round has no yardstick


def test_system_that_was_wrong_once_has_no_figure_of_any_round() -> None:
    wrong = replace(run("lossy", 2, None), wrong=True)
    runs = trusted([run("plain", 1, 100), run("lossy", 1, 300), wrong, run("lossy", 1, 300, job="session")])
    assert set(figures_of(runs, lambda window: window.records_per_cpu_second)) == {
        ("enrich", "plain"),
        ("session", "lossy"),
    }


def test_jobs_are_not_mixed() -> None:
    runs = [run("plain", 1, 100), run("fast", 1, 500, job="session")]
    assert ("session", "fast") not in ratios(runs, "plain")


def test_no_values_have_no_spread() -> None:
    assert Spread.of([]) is None
    assert Spread.of([2.0]) == Spread(2, 2, 2, 1)
