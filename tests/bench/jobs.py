"""What is measured: four jobs, each with a log of its own that is filled once and read by every system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from millrace_schemas import in_lane, schema_text, topics

PARTITIONS: Final = 4
SEED: Final = 7
_SCHEMAS: Final = Path(__file__).with_name("schemas")

Shape = Literal["raw", "enriched"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do with a log.

    Attributes:
        name: ingest, enrich, session or lake.
        service: Millrace's, without prefix.
        lane: of the log; the lanes keep the output of one job out of the log of the next.
        input: topic, without lane.
        shape: of the input's records.
        with_faults: whether some records are there twice, and some are bad.
        output: topic of Millrace's service, without lane; empty: a table.
        peer_schema: Avro schema that the other systems write; None: the job passes records on, or writes a table.
        outputs_are: what one output is.
    """

    name: str
    service: str
    lane: str
    input: str
    shape: Shape
    with_faults: bool
    output: str
    peer_schema: Path | None
    outputs_are: Literal["events", "sessions"] = "events"

    @property
    def input_topic(self) -> str:
        """The log's topic."""
        return in_lane(self.input, self.lane)

    @property
    def products_topic(self) -> str:
        """The topic of product facts beside the log."""
        return in_lane("products", self.lane)

    @property
    def input_subject(self) -> str:
        """The subject of the input's records."""
        return "user-events" if self.shape == "raw" else "user-events.enriched"

    @property
    def output_subject(self) -> str:
        """The subject of what Millrace's service writes."""
        return next(topic.subject for topic in topics("local") if topic.name == self.output)

    @property
    def peer_subject(self) -> str:
        """The subject that other systems' records are registered under."""
        return f"bench-{self.name}" if self.peer_schema else self.input_subject

    def peer_schema_text(self) -> str:
        """Return the schema of what other systems write."""
        return self.peer_schema.read_text(encoding="utf-8") if self.peer_schema else schema_text(self.input_subject)


JOBS: Final = {
    job.name: job
    for job in (
        Job("ingest", "ingest", "ingest", "user-events", "raw", True, "user-events.valid", None),
        Job(
            "enrich",
            "enrich",
            "enrich",
            "user-events.valid",
            "raw",
            False,
            "user-events.enriched",
            _SCHEMAS / "enriched.avsc",
        ),
        Job(
            "session",
            "sessionize",
            "session",
            "user-events.enriched",
            "enriched",
            False,
            "session-metrics",
            _SCHEMAS / "session.avsc",
            outputs_are="sessions",
        ),
        Job("lake", "lake", "session", "user-events.enriched", "enriched", False, "", None),
    )
}
"""By name, in the order of the pipeline."""
