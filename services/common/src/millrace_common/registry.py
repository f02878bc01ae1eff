"""The schema registry as this project needs it: ids to schemas, schemas to ids, and "no" apart from "no answer"."""

import math
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, Final, Protocol

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from millrace_common.errors import RegistryUnavailableError, StartupError

NO_SECONDS: Final = 0.5
"""How long "no such id" is believed: an id may be registered at any moment, and is used at once."""

GRACE_SECONDS: Final = 5.0
"""For so long after a registry did not answer, it is not believed that there is no such id."""

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

    "No such id" is believed for half a second, so that a producer with an unknown id costs two requests a second and
    not one for every run of records. No answer is never taken for "no". And a registry may answer before it has read
    its storage: then it knows nothing. So "no" counts only from one that has answered for some seconds, and that knows
    the newest id it has told us of.
    """

    def __init__(self, config: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare a client; nothing is sent yet. `config` as for confluent_kafka's SchemaRegistryClient."""
        self._client = SchemaRegistryClient({"timeout": 5, "max.retries": 1} | config)
        self._clock = clock
        self._texts: dict[int, str] = {}
        self._refused: dict[int, float] = {}  # until when "no such id" is believed, in the order it was said
        self._newest_id: int | None = None  # of those it has told us of
        self._silent_until = -math.inf  # when it did not answer last
        self._sound_at = -math.inf  # when it last knew its newest id

    def schema(self, schema_id: int) -> str | None:
        """Return the text of schema `schema_id`, None if the registry says there is none.

        Raises:
            RegistryUnavailableError: no answer, or none that can be believed.
        """
        known = self._texts.get(schema_id)
        if known is not None:
            return known
        if self._is_refused(schema_id):
            return None
        asked_at = self._clock()
        text = self._ask(schema_id)
        if text is None and self._sound_at < asked_at - NO_SECONDS:
            self._see_that_it_is_sound(schema_id)
            text = self._ask(schema_id)  # it may have read its storage in between
        if text is None:
            self._refused[schema_id] = asked_at + NO_SECONDS
            return None
        self._texts[schema_id] = text
        self._newest_id = max(schema_id, self._newest_id or 0)
        return text

    def _ask(self, schema_id: int) -> str | None:
        try:
            text = self._client.get_schema(schema_id).schema_str
        except _NO_ANSWER as error:
            if _is_no(error):
                return None
            self._silent_until = self._clock()
            message = f"the schema registry did not answer for schema id {schema_id}: {error}"
            raise RegistryUnavailableError(message) from error
        return None if text is None else str(text)

    def _see_that_it_is_sound(self, schema_id: int) -> None:
        """Refuse to believe that there is no `schema_id` where the registry may not have read its storage."""
        now = self._clock()
        if now - self._silent_until < GRACE_SECONDS:
            message = f"the schema registry answers again only now, and does not know schema id {schema_id} yet"
            raise RegistryUnavailableError(message)
        if self._newest_id is not None:
            self._client.clear_caches()
            if self._ask(self._newest_id) is None:
                message = (
                    f"the schema registry has forgotten schema id {self._newest_id}; {schema_id} is asked for again"
                )
                raise RegistryUnavailableError(message)
        self._sound_at = now

    def _is_refused(self, schema_id: int) -> bool:
        """Return whether "no such id" was said a moment ago; forget what was said before."""
        now = self._clock()
        while self._refused and next(iter(self._refused.values())) <= now:
            del self._refused[next(iter(self._refused))]
        return schema_id in self._refused

    def schema_id(self, subject: str, schema_text: str) -> int:
        """Return the id under which `schema_text` is registered for `subject`.

        Raises:
            StartupError: it is not registered; the message has the command that does it.
            RegistryUnavailableError: no answer.
        """
        try:
            schema_id = int(self._client.lookup_schema(subject, Schema(schema_text, "AVRO")).schema_id)
        except _NO_ANSWER as error:
            if _is_no(error):
                message = f"subject {subject} does not have this version's schema: run `millrace schemas register`"
                raise StartupError(message) from error
            self._silent_until = self._clock()
            message = f"the schema registry did not answer for subject {subject}: {error}"
            raise RegistryUnavailableError(message) from error
        self._newest_id = max(schema_id, self._newest_id or 0)
        return schema_id


def _is_no(error: Exception) -> bool:
    return isinstance(error, SchemaRegistryError) and error.http_status_code == _NOT_FOUND
