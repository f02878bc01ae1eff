"""The peers that run on a JVM: built by Maven into the cache, started with one core in mind."""

import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from millrace_local.errors import LocalStackError
from systems import JVM_QUICK_WARM_SECONDS, JVM_WARM_SECONDS, PEERS, Assignment, Closing, Command, System

_BUILD_SECONDS: Final = 540.0
# Each second costs session about half of its speed; ten seconds would be too rare to measure a window of 20 by.
_FLINK_CHECKPOINT_MS: Final = {"enrich": "1000", "session": "5000"}
_JOBS: Final = frozenset(("enrich", "session"))


def kafka_streams(name: str, guarantee: str) -> System:
    """Return Kafka Streams with a processing guarantee: exactly_once_v2 or at_least_once."""
    exactly_once = guarantee == "exactly_once_v2"
    return System(
        name=name,
        about=f"Kafka Streams 4.3.1, Java 17, one thread, {guarantee}; products in a GlobalKTable, sessions in RocksDB",
        command=lambda work: _java(work, "kafka_streams", "millrace.bench.streams.Main", BENCH_GUARANTEE=guarantee),
        # A round takes a warm-up of a minute: one form of sessions has to do.
        fastest={"enrich": 230_000.0} | ({"session": 80_000.0} if exactly_once else {}),
        exactly_once=_JOBS if exactly_once else frozenset(),
        variant=not exactly_once,
        jvm=True,
        warm_seconds=JVM_WARM_SECONDS,
        quick_warm_seconds=JVM_QUICK_WARM_SECONDS,
        prepare=_builder("kafka_streams"),
    )


def flink() -> System:
    """Return Flink SQL in one process."""
    return System(
        name="flink-sql",
        about=(
            "Flink SQL 2.2.0, Java 17, in one JVM, state on the heap; exactly once with a checkpoint each second, in "
            "session each five seconds: it writes all of the state each time"
        ),
        command=lambda work: _java(
            work, "flink", "millrace.bench.flink.Main", BENCH_CHECKPOINT_MS=_FLINK_CHECKPOINT_MS[work.job.name]
        ),
        step_seconds=5.0,
        closing=Closing(by_all=True),
        fastest={"enrich": 110_000.0, "session": 140_000.0},
        exactly_once=_JOBS,
        jvm=True,
        warm_seconds=JVM_WARM_SECONDS,
        quick_warm_seconds=JVM_QUICK_WARM_SECONDS,
        prepare=_builder("flink"),
    )


def _java(work: Assignment, peer: str, main: str, **variables: str) -> Command:
    classes = _built(work.cache_dir, peer) / "app" / "*"
    return Command(("java", f"@{PEERS / peer / 'jvm.options'}", "-cp", str(classes), main), variables)


def _builder(peer: str) -> Callable[[Path], None]:
    def build(cache_dir: Path) -> None:
        """Compile `peer` and gather its libraries, unless they are there and of the same sources.

        Raises:
            LocalStackError: there is no Maven or no compiler, or it failed, for want of a network for example.
        """
        folder, sources = _built(cache_dir, peer), _fingerprint(PEERS / peer)
        note = folder / "sources.sha256"
        if note.exists() and note.read_text(encoding="utf-8") == sources:
            return
        for program in ("mvn", "javac"):
            if shutil.which(program) is None:
                message = f"no {program} on PATH: install Maven 3.8 and a JDK 17, or leave the JVM's systems out"
                raise LocalStackError(message)
        command = ["mvn", "-q", "-B", "package", "-f", str(PEERS / peer), f"-Dbench.build={folder}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            message = f"{peer}: Maven was not done in {_BUILD_SECONDS:.0f} s"
            raise LocalStackError(message) from error
        if done.returncode:
            message = f"{peer}: Maven failed\n{done.stdout}{done.stderr}"
            raise LocalStackError(message)
        note.write_text(sources, encoding="utf-8")

    return build


def _fingerprint(folder: Path) -> str:
    """Return a hash of the sources in `folder`, names included."""
    found = sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(folder)}\0".encode())
        found.update(sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _built(cache_dir: Path, peer: str) -> Path:
    # Beside the system's own folder: systems that are the same program with other settings share it.
    return cache_dir.parent / peer
