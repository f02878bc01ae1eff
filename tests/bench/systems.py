"""The systems under test: what each is started with, and how its progress is seen from outside.

To add one: make a `System` and put it into lineup.py. The environment it gets is listed in README.md.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs import Job
from shop_log import GAP_MS, LATENESS_MS

PEERS: Final = Path(__file__).with_name("peers")
YARDSTICK: Final = "plain"
"""The system that all others are divided by."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A system's rule for closing sessions, by event time.

    Attributes:
        after_ms: how far the log must go on after a session's last event.
        by_all: whether all partitions must, not the session's own alone: there is one watermark.
    """

    after_ms: int = GAP_MS + LATENESS_MS
    by_all: bool = False


CLOSING: Final = Closing()
"""What the job session asks for."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run's work for a system.

    Attributes:
        job: what to do.
        bootstrap_servers, registry_url: where broker and registry are.
        output: topic to write to, empty and with as many partitions as the input.
        output_schema_id: to frame output with.
        group: consumer group or application id.
        state_dir: an empty folder of this run.
        cache_dir: where `System.prepare` has put what it built.
    """

    job: Job
    bootstrap_servers: str
    registry_url: str
    output: str
    output_schema_id: int
    group: str
    state_dir: Path
    cache_dir: Path

    @property
    def table(self) -> Path:
        """The folder of the Delta table that the job lake fills."""
        return self.state_dir / "lake" / "events"

    def environment(self) -> dict[str, str]:
        """Return the variables that every system is told."""
        job = self.job
        return {
            "BENCH_BOOTSTRAP": self.bootstrap_servers,
            "BENCH_REGISTRY_URL": self.registry_url,
            "BENCH_JOB": job.name,
            "BENCH_INPUT": job.input_topic,
            "BENCH_OUTPUT": self.output,
            "BENCH_PRODUCTS": job.products_topic,
            "BENCH_INPUT_SCHEMA": str(_SUBJECTS / f"{job.input_subject}.avsc"),
            "BENCH_OUTPUT_SCHEMA": str(job.peer_schema or _SUBJECTS / f"{job.input_subject}.avsc"),
            "BENCH_PRODUCTS_SCHEMA": str(_SUBJECTS / "products.avsc"),
            "BENCH_OUTPUT_SCHEMA_ID": str(self.output_schema_id),
            "BENCH_GROUP": self.group,
            "BENCH_STATE_DIR": str(self.state_dir),
        }


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: a program with its arguments, and variables in addition to Assignment.environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class System:
    """Something that does jobs.

    Attributes:
        name: as the page shows it.
        about: what it is, for the page: version, language, form.
        exactly_once: the jobs it does exactly once; the others at least once.
        command: what to start for an assignment.
        warm_seconds: from its first record until it is measured; quick_warm_seconds: the same with --quick.
        seen_by_output: the jobs whose progress is counted in the output topic, a closed session as the events in it;
            of the others by the offsets that its group has committed.
        closing: its rule for sessions; it is not measured before they close.
        jvm: whether it runs on one; takes longer to start.
        step_seconds: between two times that its progress can be seen, at the most.
        fastest: records a second it will not exceed, by job; decides how much log there must be.
        prepare: builds what it needs into a folder of its own, before anything is measured; twice is the same as once.
        variant: of another system: measured only if it is asked for by name.
        writes_product_schema: whether its output has the product's own schema, topic and group.
    """

    name: str
    about: str
    command: Callable[[Assignment], Command]
    fastest: Mapping[str, float]
    exactly_once: frozenset[str] = frozenset()
    warm_seconds: float = 3.0
    quick_warm_seconds: float = 2.0
    seen_by_output: frozenset[str] = frozenset()
    closing: Closing = CLOSING
    jvm: bool = False
    step_seconds: float = 0.1
    prepare: Callable[[Path], None] = lambda _: None
    variant: bool = False
    writes_product_schema: bool = False

    @property
    def jobs(self) -> Collection[str]:
        """Those it does."""
        return self.fastest.keys()


_SUBJECTS: Final = Path(__file__).parents[2] / "schemas"
JVM_WARM_SECONDS: Final = 60.0
JVM_QUICK_WARM_SECONDS: Final = 6.0


def millrace(name: str = "millrace", python: str = sys.executable) -> System:
    """Return the real services, run by an interpreter that has them."""

    def command(work: Assignment) -> Command:
        return Command((python, "-m", f"millrace_{work.job.service}"), _service_environment(work))

    return System(
        name=name,
        about="The real service with its defaults: transactions every 100 ms, dead letters, ledger, every field",
        command=command,
        fastest={"ingest": 350_000.0, "enrich": 350_000.0, "session": 450_000.0, "lake": 450_000.0},
        exactly_once=frozenset(("ingest", "enrich", "session", "lake")),
        writes_product_schema=True,
    )


def _service_environment(work: Assignment) -> dict[str, str]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": work.bootstrap_servers,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "SCHEMA_REGISTRY_URL": work.registry_url,
        "STATE_URI": str(work.state_dir / "state"),
        "LAKE_URI": str(work.state_dir / "lake"),
        "LANE": work.job.lane,
        "INSTANCE": "0",
        "METRICS_PORT": "0",
    }
    if work.job.name == "lake":
        environment |= {"TABLES": "events", "COMMIT_MAX_RECORDS": "50000"}
    return environment


def _plain(work: Assignment) -> Command:
    return Command((sys.executable, str(PEERS / "plain" / f"plain_{work.job.name}.py")), {})


PLAIN: Final = System(
    name=YARDSTICK,
    about="A loop per record: confluent-kafka and fastavro",
    command=_plain,
    fastest={"ingest": 100_000.0, "enrich": 80_000.0, "session": 90_000.0, "lake": 60_000.0},
)
