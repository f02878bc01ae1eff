import dataclasses

import pytest

from windows import Asked, NoWindowError, Sample, begin_of, over, too_slow, window

ASKED = Asked(warm_seconds=3, window_seconds=10, first_record=0, records=1_000_000)


def sample(at: float, records: int, cpu: float | None = None) -> Sample:
    return Sample(at, records, at if cpu is None else cpu, at / 10, at / 2, 100.0)


def steady(seconds: int = 20, rate: int = 1_000) -> list[Sample]:
    """A second to start, then `rate` records a second, at a quarter of a CPU-second each."""
    return [sample(float(at), max(0, at - 1) * rate, cpu=at / 4) for at in range(seconds)]


def test_window_begins_after_the_warm_up_and_ends_with_the_last_progress() -> None:
    measured = window(steady(), ASKED)
    assert (measured.seconds, measured.records) == (14, 14_000)  # from second 5 (2 + 3) to 19
    assert measured.records_per_cpu_second == pytest.approx(4_000)
    assert measured.core_share == pytest.approx(0.25)


def test_start_is_not_part_of_the_warm_up() -> None:
    slow_start = [sample(at, 0) for at in range(60)] + [sample(60 + at, at * 10) for at in range(1, 9)]
    assert begin_of(slow_start, ASKED) == 63


def test_window_waits_for_the_first_record_asked_for() -> None:
    asked = dataclasses.replace(ASKED, first_record=9_000)
    assert begin_of(steady(), asked) == 10
    assert begin_of(steady(), dataclasses.replace(ASKED, first_record=19_000)) is None


def test_steps_of_progress_are_measured_from_step_to_step() -> None:
    # A commit every 4 s; the CPU works evenly. A window cut at any moment would say more or less.
    stepped = [sample(at, at // 4 * 4_000) for at in range(30)]
    measured = window(stepped, ASKED)
    assert measured.records_per_cpu_second == pytest.approx(1_000)
    assert measured.records == 20_000  # commits at 8 and 28


def test_run_is_over_with_the_window_or_with_the_log() -> None:
    assert not over(steady(15), ASKED)
    assert over(steady(16), ASKED)
    assert over(steady(5), dataclasses.replace(ASKED, records=3_000))
    assert not over([], ASKED)


def test_run_of_few_steps_goes_on_until_it_has_some() -> None:
    stepped = [sample(at, at // 20 * 50_000) for at in range(101)]
    assert not over(stepped[:100], ASKED)
    assert over(stepped, ASKED)  # steps at 40, 60, 80 and 100


def test_samples_behind_the_end_of_the_log_do_not_count() -> None:
    idle = [*steady(12), *(sample(float(at), 11_000, cpu=at / 4) for at in range(12, 20))]
    measured = window(idle, dataclasses.replace(ASKED, records=11_000))
    assert measured.records_per_second == pytest.approx(1_000)
    assert "window of 6.0 s only" in measured.marks


@pytest.mark.parametrize(
    "samples",
    [[], [sample(at, 0) for at in range(30)], steady(4), [*steady(6), *(sample(at, 4_000) for at in range(6, 30))]],
    ids=["nothing", "no progress", "too short", "stuck after the warm-up"],
)
def test_no_window_is_no_figure(samples: list[Sample]) -> None:
    with pytest.raises(NoWindowError):
        window(samples, ASKED)


def test_full_broker_core_is_marked_only_before_the_service() -> None:
    full = [dataclasses.replace(each, broker_core_seconds=each.at_seconds) for each in steady()]
    assert any("broker's core was full" in mark for mark in window(full, ASKED).marks)
    both = [dataclasses.replace(each, cpu_seconds=each.at_seconds) for each in full]
    assert window(both, ASKED).marks == ()


def test_little_cpu_time_is_marked() -> None:
    idle = [dataclasses.replace(each, cpu_seconds=each.at_seconds / 100) for each in steady()]
    assert window(idle, ASKED).marks == ("only 0.1 s of CPU time",)


def test_system_that_is_given_up_says_what_it_reached() -> None:
    asked = dataclasses.replace(ASKED, first_record=50_000, longest_seconds=20)
    assert too_slow(steady()[-1], asked) == (
        "not measured in 20 s: 18,000 records were done by then, 3,789 a CPU-second; the window begins at 50,000"
    )
    assert too_slow(sample(20, 0, cpu=0.0), asked).startswith("not measured in 20 s: 0 records")


def test_window_goes_on_while_others_have_the_core() -> None:
    starved = [sample(float(at), max(0, at - 1) * 10, cpu=at / 20) for at in range(60)]
    assert not over(starved[:40], ASKED)
    assert over(starved[:47], ASKED)  # two CPU-seconds after second 5
