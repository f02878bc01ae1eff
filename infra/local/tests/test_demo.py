"""Where a demo may begin, and how its services run."""

from pathlib import Path

import polars as pl
import pytest

from millrace_local import stack as stacks
from millrace_local.demo import begin, services
from millrace_local.errors import LocalStackError


def events(work_dir: Path, rows: int) -> None:
    pl.DataFrame({"event_id": ["x"] * rows}, {"event_id": pl.String}).write_delta(str(work_dir / "lake" / "events"))
    (work_dir / "kafka").mkdir()


def said_when_begun(work_dir: Path) -> list[str]:
    said: list[str] = []
    begin(work_dir, said.append)
    return said


def test_a_new_folder_becomes_a_demos(tmp_path: Path) -> None:
    assert said_when_begun(tmp_path / "new") == []
    assert (tmp_path / "new" / stacks.DEMO_MARK).exists()


def test_what_a_demo_has_left_is_removed_and_that_is_said(tmp_path: Path) -> None:
    begin(tmp_path, lambda line: None)
    events(tmp_path, 3)
    (tmp_path / "mine.txt").touch()
    (line,) = said_when_begun(tmp_path)
    assert line.startswith("starting clean")
    assert not (tmp_path / "lake").exists()
    assert (tmp_path / "mine.txt").exists()


def test_events_that_are_not_a_demos_are_never_removed(tmp_path: Path) -> None:
    events(tmp_path, 3)
    with pytest.raises(LocalStackError, match="--purge"):
        begin(tmp_path, lambda line: None)
    assert (tmp_path / "lake").exists()


def test_a_warehouse_that_no_demo_has_filled_is_never_removed_nor_filled(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    with pytest.raises(LocalStackError, match="--purge"):
        begin(tmp_path, lambda line: None)
    assert (tmp_path / "warehouse").exists()


def test_a_stack_that_saw_no_event_is_nobodys_loss(tmp_path: Path) -> None:
    events(tmp_path, 0)
    assert len(said_when_begun(tmp_path)) == 1


def test_history_is_not_refused_for_its_age_and_a_stall_does_not_cut_sessions() -> None:
    settings = {service.name: service.environment for service in services(history=True)}
    assert settings["ingest"]["MAX_AGE_SECONDS"] == "0"
    assert settings["sessionize"]["IDLE_TIMEOUT_SECONDS"] == "0"
    assert "MAX_AGE_SECONDS" not in dict(next(s for s in services(history=False) if s.name == "ingest").environment)
