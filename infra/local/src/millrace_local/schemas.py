"""Registering the Avro subjects, and checking them against what a Confluent-compatible registry holds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from millrace_common.errors import RegistryUnavailableError
from millrace_local.errors import SchemaConflictError
from millrace_schemas import SUBJECTS, schema_text

COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a subject brought about.

    Attributes:
        subject: its name.
        schema_id: the id records carry.
        changed: whether the registry did not have this schema or this compatibility level before.
    """

    subject: str
    schema_id: int
    changed: bool


def declared() -> dict[str, str]:
    """Return the schema text of every subject."""
    return {subject: schema_text(subject) for subject in SUBJECTS}


def client(registry_url: str, config: Mapping[str, Any] | None = None) -> SchemaRegistryClient:
    """Return a registry client; `config` as for confluent_kafka (authentication, certificates)."""
    return SchemaRegistryClient({"url": registry_url, "timeout": 10, "max.retries": 2, **(config or {})})


def register(registry: SchemaRegistryClient, subjects: Mapping[str, str]) -> tuple[Registered, ...]:
    """Register each schema text under its subject, compatible with all versions before it. Twice is the same as once.

    Raises:
        SchemaConflictError: the registry refuses one; subjects before it are registered.
        RegistryUnavailableError: no answer.
    """
    return tuple(_register(registry, subject, Schema(text, "AVRO")) for subject, text in subjects.items())


def check(registry: SchemaRegistryClient, subjects: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each subject that `register` could not register; changes nothing.

    Raises:
        RegistryUnavailableError: no answer.
    """
    problems = (_problem(registry, subject, text) for subject, text in subjects.items())
    return tuple(problem for problem in problems if problem is not None)


def _register(registry: SchemaRegistryClient, subject: str, schema: Schema) -> Registered:
    with _answers(subject):
        # The level first: it then guards this very registration.
        levelled = _level(registry, subject) == COMPATIBILITY
        if not levelled:
            registry.set_compatibility(subject, COMPATIBILITY)
        known = _schema_id(registry, subject, schema)
        schema_id = registry.register_schema(subject, schema) if known is None else known
        return Registered(subject, schema_id, changed=known is None or not levelled)


def _problem(registry: SchemaRegistryClient, subject: str, text: str) -> str | None:
    with _answers(subject):
        schema = Schema(text, "AVRO")
        versions = _versions(registry, subject)
        if not versions or _schema_id(registry, subject, schema) is not None:
            return None
        level = _level(registry, subject)
        if level != COMPATIBILITY:
            return f"{subject}: its compatibility is {level}, not {COMPATIBILITY}, so nothing can be said about it"
        refusing = [version for version in versions if not registry.test_compatibility(subject, schema, version)]
        if not refusing:
            return None
        old = registry.get_version(subject, refusing[-1]).schema.schema_str
        hints = "; ".join(differences(json.loads(old), json.loads(text)))
        shown = ", ".join(str(version) for version in refusing)
        return f"{subject}: the registry says it is not compatible with version {shown}" + (
            f" ({hints})" if hints else ""
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[str]:
    """Return in words what most often makes a record schema `new` unable to read `old` data; pure."""
    before = {field["name"]: field for field in old.get("fields", ())}
    words = []
    for field in new.get("fields", ()):
        name = field["name"]
        if name not in before and "default" not in field:
            words.append(f"new field {name} has no default")
        elif name in before and before[name]["type"] != field["type"]:
            words.append(f"field {name} has another type")
    return words


def _versions(registry: SchemaRegistryClient, subject: str) -> list[int]:
    try:
        return list(registry.get_versions(subject))
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return []
        raise


def _schema_id(registry: SchemaRegistryClient, subject: str, schema: Schema) -> int | None:
    try:
        return int(registry.lookup_schema(subject, schema).schema_id)
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return None
        raise


def _level(registry: SchemaRegistryClient, subject: str) -> str | None:
    try:
        return str(registry.get_compatibility(subject))
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:  # no level of its own yet
            return None
        raise


@contextmanager
def _answers(subject: str) -> Iterator[None]:
    """Turn what the registry's client raises into this project's errors."""
    try:
        yield
    except SchemaRegistryError as error:
        if error.http_status_code == _CONFLICT:
            message = f"{subject}: the registry refuses it: {error.error_message}"
            raise SchemaConflictError(message) from error
        message = f"{subject}: the registry answered {error.http_status_code}: {error.error_message}"
        raise RegistryUnavailableError(message) from error
    except httpx2.HTTPError as error:  # the client lets its HTTP library's errors through
        message = f"the schema registry did not answer: {error}"
        raise RegistryUnavailableError(message) from error
