from pathlib import Path

import pytest

from millrace_local.errors import LocalStackError
from millrace_local.log_reading import LogReader, choose, log_names


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    for name in ("kafka", "ingest-1"):
        (tmp_path / "logs" / f"{name}.log").write_text("one\ntwo\n")
    (tmp_path / "logs" / "kafka.log.1").write_text("older\n")
    return tmp_path


def test_every_process_with_a_log_is_named_once(work_dir: Path) -> None:
    assert log_names(work_dir) == ("ingest-1", "kafka")
    assert choose(work_dir, None) == ("ingest-1", "kafka")
    assert choose(work_dir, "kafka") == ("kafka",)


def test_a_wrong_name_is_answered_with_the_right_ones(work_dir: Path) -> None:
    with pytest.raises(LocalStackError, match="no log of lake: there are ingest-1, kafka"):
        choose(work_dir, "lake")


def test_no_logs_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="there are no logs"):
        choose(tmp_path, None)


def test_only_new_whole_lines_are_read(work_dir: Path) -> None:
    reader, log = LogReader(work_dir, "kafka"), work_dir / "logs" / "kafka.log"
    assert list(reader.new_lines()) == ["one", "two"]
    with log.open("a") as file:
        file.write("thr")
    assert list(reader.new_lines()) == []
    with log.open("a") as file:
        file.write("ee\n")
    assert list(reader.new_lines()) == ["three"]


def test_an_emptied_log_is_read_from_its_start(work_dir: Path) -> None:
    reader, log = LogReader(work_dir, "kafka"), work_dir / "logs" / "kafka.log"
    list(reader.new_lines())
    log.write_text("new\n")
    assert list(reader.new_lines()) == ["new"]
