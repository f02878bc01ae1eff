from pathlib import Path

import pytest

from millrace_local import supervisor
from millrace_local.log_reading import LogReader
from millrace_local.supervisor import Supervisor


def test_a_long_log_is_kept_once_and_goes_on_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LONGEST_LOG_BYTES", 10)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "short.log").write_text("short\n")
    with (logs / "long.log").open("a") as writer:
        writer.write("a line that is long\n")
        writer.flush()
        Supervisor(tmp_path, owner=None)._rotate_logs()
        writer.write("next\n")
    assert (logs / "long.log.1").read_text() == "a line that is long\n"
    assert list(LogReader(tmp_path, "long").new_lines()) == ["next"]
    assert (logs / "short.log").read_text() == "short\n"
    assert not (logs / "short.log.1").exists()
