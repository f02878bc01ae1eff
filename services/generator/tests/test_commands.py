import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from millrace_generator import commands
from millrace_generator.display import progress_display
from millrace_generator.errors import InputError
from millrace_generator.options import duration, rate
from millrace_generator.rees46 import COLUMNS
from millrace_generator.resuming import Bookmark
from millrace_generator.sending import Progress, Resumed, SendReport, Target
from millrace_generator.stack import find_target
from millrace_generator.traffic import EVENTS, Plan

CLUSTER = ["--bootstrap-servers", "broker:9092", "--registry-url", "http://registry"]
LOCAL = Target("127.0.0.1:1", "http://127.0.0.1:2")
ROW = "2019-10-01 00:00:00 UTC,view,1,2,,acme,1.50,u,s"


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for `send`: note what it is called with, and succeed."""
    calls: list[dict[str, Any]] = []

    def send(plan: Plan, target: Target, **options: Any) -> SendReport:
        calls.append({"plan": plan, "target": target, **options})
        return SendReport({(EVENTS, ""): 3}, 0, "", 1.0, 0.0, False)

    monkeypatch.setattr(commands, "send", send)
    monkeypatch.setattr(commands, "LagThrottle", NoThrottle)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    return calls


class NoThrottle:
    def __init__(self, *anything: object) -> None:
        pass

    def __call__(self) -> bool:
        return False

    def close(self) -> None:
        pass


def invoke(*arguments: str, **hooks: Any) -> Any:
    known = {"find_stack": stack_of, "lane_running": lambda work_dir, lane: nullcontext()}
    return CliRunner().invoke(commands.make_app(**(known | hooks)), arguments)


def stack_of(work_dir: Path) -> Target | None:
    return LOCAL if (work_dir / "running").exists() else None


def csv(tmp_path: Path, *rows: str) -> str:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return str(path)


def stack_in(work_dir: Path) -> list[str]:
    (work_dir / "running").touch()
    return ["--work-dir", str(work_dir)]


def test_replay_goes_through_the_backfill_lane_which_runs_meanwhile(
    tmp_path: Path, sends: list[dict[str, Any]]
) -> None:
    lanes: list[tuple[Path, str, int]] = []

    @contextmanager
    def lane_running(work_dir: Path, lane: str) -> Iterator[None]:
        lanes.append((work_dir, lane, len(sends)))
        yield
        lanes.append((work_dir, lane, len(sends)))

    result = invoke("replay", csv(tmp_path, ROW), *stack_in(tmp_path), lane_running=lane_running)
    assert result.exit_code == 0, result.output
    assert lanes == [(tmp_path, "backfill", 0), (tmp_path, "backfill", 1)]
    assert (sends[0]["lane"], sends[0]["rate"]) == ("backfill", "max")
    assert sends[0]["target"] == LOCAL


def test_lanes_of_another_cluster_are_left_to_its_operators(tmp_path: Path, sends: list[dict[str, Any]]) -> None:
    def lane_running(work_dir: Path, lane: str) -> Any:
        raise AssertionError

    result = invoke("replay", csv(tmp_path, ROW), *CLUSTER, lane_running=lane_running)
    assert result.exit_code == 0, result.output
    assert (sends[0]["lane"], sends[0]["target"]) == ("backfill", Target("broker:9092", "http://registry"))


def test_live_traffic_goes_into_the_live_lane_at_its_own_time(sends: list[dict[str, Any]]) -> None:
    for command in ("normal", "spike"):
        assert invoke(command, *CLUSTER).exit_code == 0
    assert [(call["lane"], call["rate"]) for call in sends] == [("", "live"), ("", "live")]


def test_faults_and_seed_reach_the_plan(sends: list[dict[str, Any]]) -> None:
    options = ["--duplicates", "0.05", "--late", "0.01", "--out-of-order", "2m", "--seed", "7", "--seconds", "5"]
    assert invoke("normal", *CLUSTER, *options).exit_code == 0
    facts = sends[0]["plan"].facts
    assert facts["seed"] == facts["faults"]["seed"] == 7
    assert (facts["faults"]["duplicates"], facts["faults"]["late"]) == (0.05, 0.01)
    assert facts["faults"]["out_of_order"] == 120
    assert facts["end_ms"] - facts["start_ms"] == 5000


def test_skipped_rows_are_said_at_the_end_of_the_reading(tmp_path: Path, sends: list[dict[str, Any]]) -> None:
    result = invoke("replay", csv(tmp_path, ROW, ROW.replace(",s", ",")), *CLUSTER)
    assert "1 rows skipped: 1 empty user_session" in result.output


def test_records_that_were_not_delivered_make_the_command_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    report = SendReport({(EVENTS, ""): 3}, 2, "timed out", 1.0, 0.0, False)
    monkeypatch.setattr(commands, "send", lambda *plan, **options: report)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    result = invoke("normal", *CLUSTER)
    assert result.exit_code == 1
    assert "2 records were not delivered: timed out" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["normal", "--work-dir", "nowhere"], "millrace up"),
        (["normal", "--bootstrap-servers", "b"], "go together"),
        (["normal", *CLUSTER, "--out-of-order", "10m"], "repaired"),
        (["normal", *CLUSTER, "--rate", "-3"], "no rate"),
        (["normal", *CLUSTER, "--out-of-order", "soon"], "no duration"),
        (["spike", *CLUSTER, "--rate", "max"], "takes a number"),
        (["replay", "none.csv", *CLUSTER], "none.csv"),
    ],
)
def test_mistake_is_one_clear_message(arguments: list[str], message: str, sends: list[dict[str, Any]]) -> None:
    result = invoke(*arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
    assert not sends


def test_running_stack_is_found_by_its_work_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="millrace up"):
        find_target(tmp_path, None, None, stack_of)
    stack_in(tmp_path)
    assert find_target(tmp_path, None, None, stack_of) == LOCAL


def test_durations_and_rates_are_read() -> None:
    assert [duration(text).total_seconds() for text in ("120s", "2m", "0.5")] == [120, 120, 0.5]
    assert [rate(text) for text in ("max", "10", "0.5")] == ["max", 10.0, 0.5]


def test_a_backfill_goes_on_behind_its_bookmark_with_the_end_it_had(
    sends: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[dict[str, float], bool]] = []

    class History:
        over = False

        def resume(self, options: dict[str, float], end_ms: int, *, anew: bool) -> Bookmark:
            asked.append((options, anew))
            return Bookmark(options, 1_790_000_000_000, sent=123)

        def finish(self) -> None:
            self.over = True

    history = History()
    monkeypatch.setattr(commands, "transactions", lambda target, lane: nullcontext(history))
    result = invoke("backfill", *CLUSTER, "--days", "2", "--late", "0.01", "--anew")
    assert result.exit_code == 0, result.output
    assert "going on after 123 records" in result.output
    assert (asked[0][0]["days"], asked[0][0]["late"], asked[0][1]) == (2.0, 0.01, True)
    assert sends[0]["plan"].facts["end_ms"] == 1_790_000_000_000
    assert sends[0]["resumed"] == Resumed(history, 123)  # type: ignore[arg-type]
    assert history.over


def test_a_backfill_that_was_interrupted_is_not_over(
    sends: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class History:
        def resume(self, options: dict[str, float], end_ms: int, *, anew: bool) -> Bookmark:
            return Bookmark(options, end_ms)

        def finish(self) -> None:
            raise AssertionError

    monkeypatch.setattr(commands, "transactions", lambda target, lane: nullcontext(History()))
    failed = SendReport({(EVENTS, ""): 3}, 1, "gone", 1.0, 0.0, False)
    monkeypatch.setattr(commands, "send", lambda *arguments, **options: failed)
    assert invoke("backfill", *CLUSTER).exit_code == 1


def test_a_line_of_progress_says_how_long_the_rest_takes() -> None:
    page = io.StringIO()
    with progress_display(Console(file=page, width=200)) as show:
        show(Progress("backfill", 1_000, 10_000, 1_100, 10.0, 0.0, earlier_events=3_000))
    assert page.getvalue() == "backfill: 4,000 of about 10,000 events, 110/s, at worst 0 ms late, about 0:01:00 left\n"
