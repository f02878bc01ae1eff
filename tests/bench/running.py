"""One run: a system does a job for a while, pinned to its core, and is watched."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

import filling
from jobs import PARTITIONS, Job
from millrace_local import kafka
from millrace_local.errors import LocalStackError
from millrace_local.probes import quiet_admin
from millrace_local.stack import Stack, tail
from millrace_schemas import in_lane
from process_tree import ProcessTree, busy_seconds
from progress import Done, TableRows, committed, ends
from systems import Assignment, System
from windows import Asked, NoWindowError, Sample, Window, over, too_slow, window

BROKER_CORE: Final = 0
SERVICE_CORE: Final = 1

_SAMPLE_SECONDS: Final = 0.2
_START_SECONDS: Final = 180.0
# A second or two are enough on a machine with nothing else to do.
_STOP_SECONDS: Final = 30.0
_LOG_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run.

    Attributes:
        job, system: names.
        number: of the round, from 1.
        window: None: there is no figure.
        problem: why not; empty: there is one.
        committed: offsets the system's group has committed when it had stopped, by input partition.
        farthest: the largest offset of the input that it has come to in any partition, as far as can be seen.
        output: topic, or folder of the table, that it wrote.
        wrong: whether its output was looked at, and is not what the log says.
    """

    job: str
    system: str
    number: int
    window: Window | None
    problem: str
    committed: tuple[int, ...]
    farthest: int
    output: str
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs happen.

    Attributes:
        stack: with the filled logs.
        work_dir: for state, tables and logs of runs.
        cache_dir: for what systems have built.
    """

    stack: Stack
    work_dir: Path
    cache_dir: Path


def run(place: Place, system: System, job: Job, asked: Asked, number: int, inputs_per_output: float) -> Run:
    """Let `system` do `job` until it is measured, stop it, and return what was seen; its output stays to be checked.

    `inputs_per_output` counts the progress of a system that is only seen by its output.
    """
    stack = place.stack
    state_dir = place.work_dir / "runs" / f"{job.name}-{system.name}"
    shutil.rmtree(state_dir, ignore_errors=True)
    state_dir.mkdir(parents=True)
    output, group = _outputs(stack, system, job, number)
    work = Assignment(
        job=job,
        bootstrap_servers=stack.bootstrap_servers,
        registry_url=stack.registry_url,
        output=output,
        output_schema_id=filling.schema_id(stack, job.peer_subject, job.peer_schema_text()),
        group=group,
        state_dir=state_dir,
        cache_dir=place.cache_dir / system.name,
    )
    log_file = place.work_dir / "logs" / f"{job.name}-{system.name}-{number}.log"
    with committed(stack.bootstrap_servers, group, job.input_topic) as offsets:
        if job.name == "lake":
            output = str(work.table)
            done: Done = TableRows(work.table)
        elif job.name in system.seen_by_output:
            written = ends(stack.bootstrap_servers, output)
            done = lambda: sum(written()) * inputs_per_output  # noqa: E731
        else:
            done = lambda: sum(offsets())  # noqa: E731
        samples, problem = _watch(stack, system, work, log_file, asked, done)
        found = tuple(offsets())
        farthest = max(*found, round(done() / PARTITIONS))
    measured = None
    if not problem:
        try:
            measured = window(samples, asked)
        except NoWindowError as error:
            problem = str(error)
    return Run(job.name, system.name, number, measured, problem, found, farthest, output)


def _outputs(stack: Stack, system: System, job: Job, number: int) -> tuple[str, str]:
    """Empty what the run writes to, and return topic and group."""
    admin = quiet_admin(stack.bootstrap_servers)
    if system.writes_product_schema:
        group = in_lane(f"millrace-{job.service}", job.lane)
        _forget(admin, group)
        output = in_lane(job.output, job.lane) if job.output else ""
        others = ("session-updates", "late-events", "ledger", "dead-letters")
        names = (*((output,) if output else ()), *(in_lane(name, job.lane) for name in others))
        filling.recreate(stack, names, job.lane)
        return output, group
    output = f"bench.{job.name}.{system.name}"
    filling.delete_topics(stack, (output,))
    filling.create_topic(stack, output, like=job.output or job.input)
    return output, f"bench-{job.name}-{system.name}-{number}-{time.time_ns()}"


def _forget(admin: AdminClient, group: str) -> None:
    """Delete a group, waiting until a member that was killed has timed out."""
    deadline = time.monotonic() + 30.0
    while True:
        try:
            admin.delete_consumer_groups([group])[group].result(30)
        except KafkaException as error:
            name = error.args[0].name()
            if name == "GROUP_ID_NOT_FOUND":
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _watch(
    stack: Stack, system: System, work: Assignment, log_file: Path, asked: Asked, done: Done
) -> tuple[list[Sample], str]:
    """Start the system, sample it until it is measured, stop it; return the samples and what went wrong."""
    broker = ProcessTree(_broker_pid(stack))
    samples: list[Sample] = []
    command = system.command(work)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **work.environment(), **command.environment}
    # However the bench ends, what it measures ends with it.
    argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(SERVICE_CORE), *command.argv]
    with log_file.open("wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        tree = ProcessTree(process.pid)
        begin = time.monotonic()
        try:
            while not over(samples, asked):
                time.sleep(_SAMPLE_SECONDS)
                samples.append(_sample(done, tree, broker))
                if process.poll() is not None:
                    return samples, f"it ended with {process.returncode}:\n{tail(log_file, _LOG_LINES)}"
                if not samples[-1].records and time.monotonic() - begin > _START_SECONDS:
                    return samples, f"it did nothing in {_START_SECONDS:.0f} s:\n{tail(log_file, _LOG_LINES)}"
                if time.monotonic() - begin > asked.longest_seconds:
                    return samples, too_slow(samples[-1], asked)
        finally:
            _stop(process, tree)
    return samples, ""


def _sample(done: Done, tree: ProcessTree, broker: ProcessTree) -> Sample:
    records = done()
    used = tree.used()
    return Sample(
        at_seconds=time.monotonic(),
        records=records,
        cpu_seconds=used.cpu_seconds,
        broker_cpu_seconds=broker.used().cpu_seconds,
        broker_core_seconds=busy_seconds(BROKER_CORE),
        rss_mib=used.rss_mib,
    )


def _stop(process: "subprocess.Popen[bytes]", tree: ProcessTree) -> None:
    """Ask the system to stop; end it and all it has started if it does not."""
    tree.members()  # all are known before their parent is gone
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    tree.kill()
    process.wait()


def _broker_pid(stack: Stack) -> int:
    found = next(state.identity for state in stack.states() if state.spec.name == kafka.NAME)
    if found is None:
        message = "the broker does not run"
        raise LocalStackError(message)
    return found.pid
