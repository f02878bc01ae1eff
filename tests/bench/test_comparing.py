import os
import subprocess
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

import comparing
import filling
from comparing import Form, compare
from filling import Log
from jobs import JOBS, Job
from lineup import all_systems
from millrace_local.stack import Stack
from process_tree import on_core
from running import Place, Run
from shop_log import OPEN_SESSIONS
from systems import PLAIN, System, millrace
from windows import Asked, Window

SYSTEMS = all_systems()


def taking_part(form: Form, job: str) -> list[list[str]]:
    names = ("plain", "millrace", "bytewax", "kafka-streams", "flink-sql")
    return [
        [name for name in names if form.takes_part(SYSTEMS[name], JOBS[job], number)]
        for number in range(1, form.rounds + 1)
    ]


def test_yardstick_and_millrace_run_in_every_round_and_a_jvm_of_a_goal_twice() -> None:
    everybody = ["plain", "millrace", "bytewax", "kafka-streams", "flink-sql"]
    ours = ["plain", "millrace"]
    assert taking_part(Form(), "enrich") == [everybody, ours, [*ours, "kafka-streams"]]
    assert taking_part(Form(), "session") == [everybody, ours, [*ours, "kafka-streams", "flink-sql"]]
    assert taking_part(Form(every_round=True), "enrich") == [everybody] * 3


def test_log_is_long_enough_for_the_fastest() -> None:
    form = Form(window_seconds=10)
    fast = millrace()
    longest = max(system.fastest["enrich"] * (system.warm_seconds + 10) for system in (PLAIN, fast))
    assert form.events([PLAIN, fast], JOBS["enrich"]) >= longest
    sessions = form.events([fast], JOBS["session"])
    assert sessions >= OPEN_SESSIONS + fast.fastest["session"] * (fast.warm_seconds + 10)
    assert Form(most_events=5).events([PLAIN], JOBS["enrich"]) == 5


def test_late_closer_is_not_measured_before_its_sessions_close() -> None:
    quix, session = SYSTEMS["quix"], JOBS["session"]
    later = Form().asked(quix, session).first_record - Form().asked(PLAIN, session).first_record
    # 573 events a second of the log, for the 27 minutes that it closes later than the job asks for.
    assert later == pytest.approx(573.5 * 27 * 60, rel=0.001)
    assert Form().asked(quix, JOBS["enrich"]).first_record == 0


def test_run_that_the_broker_did_not_answer_costs_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(place: Place, system: System, job: Job, asked: Asked, number: int, per_output: float) -> Run:
        if (system.name, number) == ("millrace", 1):
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        return Run(job.name, system.name, number, Window(20, 9.0, 9.0, 1, 0.5, 100), "", (0,) * 4, 0, "")

    monkeypatch.setattr(comparing, "run", run)
    log = Log("raw", with_faults=False, epoch_ms=0)
    monkeypatch.setattr(filling, "filled", lambda *_: log)
    place, said = Place(cast(Stack, None), tmp_path, tmp_path), list[str]()
    runs = compare(place, JOBS["enrich"], [PLAIN, millrace()], Form(rounds=2, checked=False), said.append)
    assert [(each.system, each.number, each.problem.split(":")[0]) for each in runs] == [
        ("plain", 1, ""),
        ("millrace", 1, "the bench failed"),
        ("plain", 2, ""),
        ("millrace", 2, ""),
    ]
    assert "the bench failed" in said[1]


def test_what_is_started_on_a_core_stays_there() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_core(core):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert os.sched_getaffinity(child.pid) == {core}
        assert os.sched_getaffinity(0) == before
    finally:
        child.kill()
        child.wait()
    with pytest.raises(ValueError, match="inside"), on_core(core):
        message = "inside"
        raise ValueError(message)
    assert os.sched_getaffinity(0) == before
