"""Writes the pages of docs/reference from the code: metrics, settings, topics.

    python docs/reference/generate.py           write them
    python docs/reference/generate.py --check   write nothing; exit 1 if a page is not what the code says

What the settings mean is taken from the comments in the services' `.env.reference`, which a test of each service loads.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from millrace_batch import metrics as batch_metrics
from millrace_common import codec, metrics
from millrace_common.failpoints import Failpoint
from millrace_common.metrics import MetricSpec
from millrace_common.settings import ServiceSettings
from millrace_local import reset
from millrace_schemas import SUBJECTS, schema_text, topics

SERVICES: Final = ("ingest", "enrich", "sessionize", "lake")
FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]

_GENERATED: Final = "<!-- Written by docs/reference/generate.py; change the code it names and run that again. -->"
# What the settings that every service has mean; a service's own are explained in its .env.reference.
_SHARED: Final = {
    "KAFKA_BOOTSTRAP_SERVERS": "The brokers, `host:port` separated by commas.",
    "KAFKA_SECURITY_PROTOCOL": "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.",
    "KAFKA_SASL_MECHANISM": "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.",
    "KAFKA_SASL_USERNAME": "User of the broker.",
    "KAFKA_SASL_PASSWORD": "Secret.",
    "KAFKA_SSL_CA_LOCATION": "PEM file with the authorities to trust; none: those of the system.",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "PEM file with the client's certificate.",
    "KAFKA_SSL_KEY_LOCATION": "PEM file with its key.",
    "KAFKA_SSL_KEY_PASSWORD": "Secret; of the key.",
    "SCHEMA_REGISTRY_URL": "A registry that speaks Confluent's API.",
    "SCHEMA_REGISTRY_USERNAME": "User of the registry.",
    "SCHEMA_REGISTRY_PASSWORD": "Secret.",
    "SCHEMA_REGISTRY_CA_LOCATION": "PEM file with the authorities to trust.",
    "INSTANCE": "Tells running processes of a service apart: the transactional id is `<service>-<INSTANCE>`.",
    "LANE": "Appended to the names of topics, groups and transactional ids, after a dot.",
    "STATE_URI": "Where snapshots are: a folder, or an address that pyarrow.fs knows.",
    "GROUP_PROTOCOL": "`classic` (cooperative-sticky) or `consumer` (KIP-848).",
    "SESSION_TIMEOUT_SECONDS": "After so much silence the group gives a member's partitions away (classic only).",
    "TRANSACTION_TIMEOUT_SECONDS": "The broker aborts a silent transaction then; keep it above the session timeout.",
    "BATCH_MAX_RECORDS": "The most records one poll returns.",
    "COMMIT_INTERVAL_SECONDS": "The longest a processed record waits for its commit.",
    "COMMIT_MAX_RECORDS": "After so many records a commit does not wait for the interval.",
    "SNAPSHOT_INTERVAL_SECONDS": "Between two snapshots of a partition with traffic.",
    "MAX_VALUE_BYTES": "Larger values become dead letters.",
    "BRAKE_WINDOW_RECORDS": "The brake looks at so many recent records.",
    "BRAKE_LIMIT": "It stops the service when more than this share of the window is dead; 1: never.",
    "METRICS_HOST": "Where /metrics, /healthz and /readyz are served.",
    "METRICS_PORT": "0: any free port; the log says which.",
    "STALLED_AFTER_SECONDS": "After so long without progress /healthz answers 503.",
    "LOG_LEVEL": "`DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    "FAILPOINT": "For tests: the process kills itself there. `name` or `name:passage`, like "
    "`commit_transaction.before:7`; "
    f"names: {', '.join(f'`{name}`' for name in Failpoint)}.",
}

_SETTING: Final = re.compile(r"^#?\s?([A-Z][A-Z0-9_]*)=(.*)$")


def metrics_page() -> str:
    """Return docs/reference/metrics.md: every metric of every service and of the night, with what to do about it."""
    for service in SERVICES:
        importlib.import_module(f"millrace_{service}.metrics")
    own = {service: [spec for spec in metrics.SPECS if _service_of(spec) == service] for service in SERVICES}
    shared = [spec for spec in metrics.SPECS if _service_of(spec) is None]
    parts = [
        "# Metrics",
        _GENERATED,
        "Each service serves these in the Prometheus text format at `http://<METRICS_HOST>:<METRICS_PORT>/metrics`. "
        "Times are in seconds. The second line of a row says what to do when the number looks wrong.",
        "## Every service",
        _metrics_table(shared),
    ]
    for service, specs in own.items():
        parts += [f"## {service}", _metrics_table(specs)]
    parts += [
        "## The night",
        "`millrace batch` with `--metrics-dir DIR` writes `batch_JOB.prom` there after each success, for the textfile "
        "collector of node_exporter. The job that a figure is of stands before it.",
        _metrics_table(batch_metrics.SPECS),
    ]
    return _page(parts)


def settings_page() -> str:
    """Return docs/reference/settings.md: every setting of every service."""
    shared = ServiceSettings.model_fields
    classes = {service: _settings_class(service) for service in SERVICES}
    parts = [
        "# Settings",
        _GENERATED,
        "A service is told everything by environment variables of these names. Durations are in seconds. *required* "
        "means that there is no default. A service with missing or wrong settings names all of them and exits with 1. "
        "Secrets are never printed.",
        "## Every service",
        _settings_table(ServiceSettings, shared, _SHARED),
    ]
    for service, cls in classes.items():
        own = [
            name
            for name, field in cls.model_fields.items()
            if name not in shared or field.default != shared[name].default
        ]
        parts += [f"## {service}"]
        again = [name for name in own if name in shared]
        if again:
            parts += ["Shared settings with another default: " + ", ".join(f"`{name.upper()}`" for name in again) + "."]
        parts += [_settings_table(cls, own, _SHARED | _meanings(service))]
    return _page(parts)


def topics_page() -> str:
    """Return docs/reference/topics.md: topics, the fields of their records, the reasons of dead letters."""
    live = {topic.name: topic for topic in topics("local")}
    large = {topic.name: topic for topic in topics("production")}
    rows = [
        (
            f"`{name}`",
            f"[{topic.subject}](#{_anchor(topic.subject)})",
            f"`{topic.key}`" if " " not in topic.key else topic.key,
            f"{topic.partitions} / {large[name].partitions}",
            topic.cleanup,
            "for ever" if topic.retention is None else _span(topic.retention),
            "broker" if topic.log_append_time else "producer",
        )
        for name, topic in live.items()
    ]
    parts = [
        "# Topics",
        _GENERATED,
        "`millrace topics apply` creates them and mends their settings; `millrace schemas register` registers the "
        "subjects with compatibility BACKWARD_TRANSITIVE. In a lane every name has the lane behind it: "
        "`user-events.backfill`. Values are Avro in Confluent framing: a zero byte, the schema's id, the datum.",
        _table(
            ("topic", "subject", "key", "partitions, local / production", "cleanup", "retention", "stamped by"), rows
        ),
        "Locally every topic has one replica; in production three, of which two must be in sync.",
        "# Subjects",
    ]
    for subject in SUBJECTS:
        schema = json.loads(schema_text(subject))
        parts += [f"## {subject}", schema.get("doc", ""), _fields_table(schema)]
    parts += [
        "# Dead letter reasons",
        "The closed lists, by stage. The detail of a dead letter says what exactly was wrong.",
        _table(("stage", "reason"), list(_reasons())),
    ]
    return _page([part for part in parts if part])


PAGES: Final = {"metrics.md": metrics_page, "settings.md": settings_page, "topics.md": topics_page}


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page is out of date")
    check: bool = parser.parse_args().check
    stale = []
    for name, write in PAGES.items():
        page, text = FOLDER / name, write()
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(name)
        else:
            page.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python docs/reference/generate.py\n")
    return 1 if stale else 0


def _service_of(spec: MetricSpec) -> str | None:
    return next((service for service in SERVICES if spec.name.startswith(f"millrace_{service}_")), None)


def _metrics_table(specs: Sequence[MetricSpec]) -> str:
    rows = [
        (
            f"`{spec.name}`",
            spec.kind,
            ", ".join(f"`{label}`" for label in spec.labels),
            f"{spec.help}<br>*{spec.what_to_do}*",
        )
        for spec in specs
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


def _settings_class(service: str) -> type[ServiceSettings]:
    found: type[ServiceSettings] = getattr(
        importlib.import_module(f"millrace_{service}.settings"), f"{service.capitalize()}Settings"
    )
    return found


def _settings_table(cls: type[BaseSettings], names: Iterable[str], meanings: Mapping[str, str]) -> str:
    rows = [(f"`{name.upper()}`", _default(cls.model_fields[name].default), meanings[name.upper()]) for name in names]
    return _table(("setting", "default", "meaning"), rows)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "*required*"
    if value is None or value == "":
        return "none"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if hasattr(value, "get_secret_value"):
        return f"`{value.get_secret_value()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _meanings(service: str) -> dict[str, str]:
    """Return the comment above each setting in the `.env.reference` of `service`; settings in a row share one."""
    found: dict[str, str] = {}
    comment: list[str] = []
    in_comment = False
    for line in (ROOT / "services" / service / ".env.reference").read_text(encoding="utf-8").splitlines():
        setting = _SETTING.match(line)
        if setting:
            found[setting[1]] = _sentence(" ".join(comment))
        elif not line.startswith("#") or not in_comment:
            comment = []
        in_comment = setting is None and line.startswith("#")
        if in_comment and not line.startswith("# ---"):
            comment.append(line.removeprefix("#").strip())
    return found


def _sentence(comment: str) -> str:
    """Return a comment without the dots that tie it to the one before or after it."""
    bare = comment.removeprefix("...").removesuffix("...").strip()
    return bare[:1].upper() + bare[1:]


def _fields_table(schema: Mapping[str, Any], prefix: str = "") -> str:
    return _table(("field", "type", "meaning"), list(_field_rows(schema, prefix)))


def _field_rows(schema: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str, str]]:
    for field in schema["fields"]:
        name = prefix + field["name"]
        yield f"`{name}`", _type(field["type"]), field.get("doc", "")
        inner = field["type"]
        if isinstance(inner, Mapping) and inner["type"] == "record":
            yield from _field_rows(inner, f"{name}.")
        elif isinstance(inner, Mapping) and inner["type"] == "array" and isinstance(inner["items"], Mapping):
            yield from _field_rows(inner["items"], f"{name}[].")


def _type(avro: Any) -> str:
    if isinstance(avro, list):
        return " or ".join(_type(branch) for branch in avro)
    if not isinstance(avro, Mapping):
        return str(avro)
    kind = avro["type"]
    if kind == "enum":
        return "one of " + ", ".join(f"`{symbol}`" for symbol in avro["symbols"])
    if kind == "map":
        return f"map of {_type(avro['values'])}"
    if kind == "array":
        return f"list of {_type(avro['items'])}"
    return str(avro.get("logicalType", kind))


def _reasons() -> Iterable[tuple[str, str]]:
    """Yield (stage, reason), as the services declare them."""
    yield from ((f"`{codec.DECODE}` (every service)", f"`{reason}`") for reason in codec.Reason)
    for service, module, stage in (
        ("ingest", "reasons", "VALIDATE"),
        ("enrich", "processor", "ENRICH"),
        ("lake", "conversion", "STAGE"),
    ):
        declared = importlib.import_module(f"millrace_{service}.{module}")
        yield from ((f"`{getattr(declared, stage)}` ({service})", f"`{reason}`") for reason in declared.Reason)
    shapes = importlib.import_module("millrace_sessionize.shapes")
    yield f"`{shapes.STAGE}` (sessionize)", f"`{shapes.TIME_OUT_OF_RANGE}`"
    yield from ((f"`{reset.RESET}` (`millrace reset`)", f"`{reason}`") for reason in reset.Reason)


def _span(duration: timedelta) -> str:
    return f"{duration.days} days" if duration.days else f"{duration.seconds // 3600} hours"


def _anchor(heading: str) -> str:
    """Return the fragment under which a heading is found: lower case, dots dropped."""
    return heading.lower().replace(".", "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
