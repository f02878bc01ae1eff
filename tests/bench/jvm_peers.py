"""The peers that run on a JVM: built by Maven into the cache, started with one core in mind."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from millrace_local.errors import LocalStackError
from systems import JVM_QUICK_WARM_SECONDS, JVM_WARM_SECONDS, PEERS, Assignment, Command, System

_BUILD_SECONDS: Final = 540.0
_JOBS: Final = frozenset(("enrich", "session"))


def kafka_streams(name: str, guarantee: str) -> System:
    """Return Kafka Streams with a processing guarantee: exactly_once_v2 or at_least_once."""
    exactly_once = guarantee == "exactly_once_v2"
    return System(
        name=name,
        about=f"Kafka Streams 4.3.1, Java 17, one thread, {guarantee}; products in a GlobalKTable, sessions in RocksDB",
        # A round takes a warm-up of a minute: one form of sessions has to do.
        jobs=_JOBS if exactly_once else frozenset(("enrich",)),
        command=lambda work: _java(work, "kafka_streams", "millrace.bench.streams.Main", BENCH_GUARANTEE=guarantee),
        exactly_once=_JOBS if exactly_once else frozenset(),
        variant=not exactly_once,
        warm_seconds=JVM_WARM_SECONDS,
        quick_warm_seconds=JVM_QUICK_WARM_SECONDS,
        fastest=230_000.0,
        prepare=_builder("kafka_streams"),
    )


def flink() -> System:
    """Return Flink SQL in one process."""
    return System(
        name="flink-sql",
        about="Flink SQL 2.2.0, Java 17, in one JVM, exactly once with a checkpoint a second; state on the heap",
        jobs=_JOBS,
        command=lambda work: _java(work, "flink", "millrace.bench.flink.Main"),
        exactly_once=_JOBS,
        warm_seconds=JVM_WARM_SECONDS,
        quick_warm_seconds=JVM_QUICK_WARM_SECONDS,
        fastest=150_000.0,
        prepare=_builder("flink"),
    )


def _java(work: Assignment, peer: str, main: str, **variables: str) -> Command:
    classes = _built(work.cache_dir, peer) / "app" / "*"
    return Command(("java", f"@{PEERS / peer / 'jvm.options'}", "-cp", str(classes), main), variables)


def _builder(peer: str) -> Callable[[Path], None]:
    def build(cache_dir: Path) -> None:
        """Compile `peer` and gather its libraries.

        Raises:
            LocalStackError: there is no Maven, or it failed.
        """
        command = ["mvn", "-q", "-B", "package", "-f", str(PEERS / peer), f"-Dbench.build={_built(cache_dir, peer)}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        except FileNotFoundError as error:
            message = "no mvn on PATH: install Maven 3.8 or newer, or leave the JVM's systems out"
            raise LocalStackError(message) from error
        if done.returncode:
            message = f"{peer} cannot be built:\n{done.stdout}{done.stderr}"
            raise LocalStackError(message)

    return build


def _built(cache_dir: Path, peer: str) -> Path:
    # Beside the system's own folder: systems that are the same program with other settings share it.
    return cache_dir.parent / peer
