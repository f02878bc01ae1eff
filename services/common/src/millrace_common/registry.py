"""The schema registry as this project needs it: ids to schemas, schemas to ids, and "no" apart from "no answer"."""

from json import JSONDecodeError
from typing import Any, Final, Protocol

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from millrace_common.errors import RegistryUnavailableError, StartupError

_NOT_FOUND: Final = 404
# What the client raises when there is no usable answer: a status that is no success, once it has tried again (of these,
# 404 is a "no"); its HTTP library's errors (refused, reset, timed out), which it lets through; and what the parser of a
# page says that came with a good status, from a proxy, say. Anything else is a defect and must be seen as one.
_NO_ANSWER: Final = (SchemaRegistryError, httpx2.RequestError, JSONDecodeError)


class Schemas(Protocol):
    """Answers which writer schema an id stands for."""

    def schema(self, schema_id: int) -> str | None:
        """Return the schema's JSON text; None if there is no such id.

        Raises:
            RegistryUnavailableError: no answer; the same call may succeed later.
        """


class SchemaRegistry:
    """Any Confluent-compatible registry. Answers are cached for ever: an id never changes its meaning.

    "No such id" is not cached: the id may be registered a moment later.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        """Prepare a client; nothing is sent yet. `config` as for confluent_kafka's SchemaRegistryClient."""
        self._client = SchemaRegistryClient({"timeout": 5, "max.retries": 1} | config)
        self._texts: dict[int, str] = {}

    def schema(self, schema_id: int) -> str | None:
        """Return the text of schema `schema_id`, None if the registry says there is none."""
        known = self._texts.get(schema_id)
        if known is not None:
            return known
        try:
            text = self._client.get_schema(schema_id).schema_str
        except _NO_ANSWER as error:
            if _is_no(error):
                return None
            message = f"the schema registry did not answer for schema id {schema_id}: {error}"
            raise RegistryUnavailableError(message) from error
        if text is None:
            return None
        self._texts[schema_id] = text
        return str(text)

    def schema_id(self, subject: str, schema_text: str) -> int:
        """Return the id under which `schema_text` is registered for `subject`.

        Raises:
            StartupError: it is not registered; the message has the command that does it.
            RegistryUnavailableError: no answer.
        """
        try:
            return int(self._client.lookup_schema(subject, Schema(schema_text, "AVRO")).schema_id)
        except _NO_ANSWER as error:
            if _is_no(error):
                message = f"subject {subject} does not have this version's schema: run `millrace schemas register`"
                raise StartupError(message) from error
            message = f"the schema registry did not answer for subject {subject}: {error}"
            raise RegistryUnavailableError(message) from error


def _is_no(error: Exception) -> bool:
    return isinstance(error, SchemaRegistryError) and error.http_status_code == _NOT_FOUND
