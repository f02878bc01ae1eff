import json
import signal
import subprocess
import sys

import pytest

from millrace_common.failpoints import LAST_WORDS, Aim, Failpoint

# Comes by the failpoint five times, and by another one before each.
_PROCESS = """
import sys
from millrace_common import failpoints, logs
from millrace_common.failpoints import Aim, Failpoint

logs.configure("ingest", "INFO")
failpoints.arm(Aim.parse(sys.argv[1]) if sys.argv[1] else None)
for turn in range(1, 6):
    failpoints.reach(Failpoint.PRODUCE_BEFORE)
    print(turn, flush=True)
    failpoints.reach(Failpoint.PRODUCE_AFTER)
"""


def run(failpoint: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-c", _PROCESS, failpoint]
    return subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.mark.parametrize(
    ("text", "aim"),
    [
        ("produce.after", Aim(Failpoint.PRODUCE_AFTER, 1)),
        ("snapshot.before_rename:7", Aim(Failpoint.SNAPSHOT_BEFORE_RENAME, 7)),
    ],
)
def test_a_failpoint_is_a_name_and_perhaps_a_passage(text: str, aim: Aim) -> None:
    assert Aim.parse(text) == aim
    assert Aim.parse(str(aim)) == aim


@pytest.mark.parametrize("text", ["produce", "PRODUCE_AFTER", "", ":3"])
def test_an_unknown_name_is_refused_with_all_names_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"there are produce\.before, .*, group_commit\.after$"):
        Aim.parse(text)


@pytest.mark.parametrize("passage", ["0", "-1", "x", "1.5", "1:2"])
def test_a_passage_is_counted_from_one(passage: str) -> None:
    with pytest.raises(ValueError, match="from 1 on"):
        Aim.parse(f"produce.after:{passage}")


def test_the_process_dies_at_the_given_passage_and_says_so_before() -> None:
    done = run("produce.after:3")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["1", "2", "3"]
    armed, killed = [json.loads(line) for line in done.stderr.splitlines()]
    assert (armed["level"], armed["message"]) == ("warning", "a failpoint is armed")
    assert (killed["message"], killed["failpoint"], killed["passage"]) == (LAST_WORDS, "produce.after", 3)


def test_a_process_that_was_told_nothing_passes_by_in_silence() -> None:
    done = run("")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1", "2", "3", "4", "5"], "")


def test_a_failpoint_that_is_not_passed_so_often_does_nothing() -> None:
    assert run("produce.after:6").returncode == 0
