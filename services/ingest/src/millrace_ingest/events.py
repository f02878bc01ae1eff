"""The rules of user-events, in the order they are applied."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import Int64s, StringMap, Text, any_of, list_lengths
from millrace_ingest.addresses import not_addresses
from millrace_ingest.checks import Batch, Rule, empty_strings, rows_of, strings_with_nul, timestamp_rules
from millrace_ingest.fingerprints import Fingerprints, fingerprints
from millrace_ingest.reasons import Reason

# Digits, and at most two behind a point: what decimal(18,2) holds. No sign, exponent, blank, or separator of thousands.
AMOUNT: Final = r"^[0-9]{1,16}(\.[0-9]{1,2})?$"


def identify(columns: pa.RecordBatch) -> Fingerprints:
    """Return what makes two events the same one: the eventId."""
    return fingerprints([columns.column("eventId")])


def _empty_id(batch: Batch) -> Int64s:
    return empty_strings([batch.columns.column(name) for name in ("eventId", "sessionId", "userId")])


def _nul(batch: Batch) -> Int64s:
    return any_of([strings_with_nul(column) for column in batch.columns.columns])


def _many_properties(batch: Batch) -> Int64s:
    return rows_of(list_lengths(batch.columns.column("properties")) > batch.limits.max_properties)


def _properties_detail(batch: Batch, row: int) -> str:
    count = list_lengths(batch.columns.column("properties"))[row]
    return f"{count} properties, {batch.limits.max_properties} allowed"


def _bad_ip(batch: Batch) -> Int64s:
    return not_addresses(batch.columns.column("context").field("ip"))


def _bad_amount(batch: Batch) -> Int64s:
    purchases = Text(batch.columns.column("eventType")).rows_equal("purchase")
    if not len(purchases):
        return purchases
    amounts = StringMap(batch.columns.column("properties").take(pa.array(purchases))).get("amount")
    good = pc.fill_null(pc.match_substring_regex(amounts, AMOUNT), False)  # noqa: FBT003
    bad: Int64s = purchases[~np.asarray(good)]
    return bad


RULES: Final[tuple[Rule, ...]] = (
    Rule(Reason.EMPTY_ID, _empty_id, lambda batch, row: "eventId, sessionId or userId is empty"),
    Rule(Reason.NUL_IN_STRING, _nul, lambda batch, row: "a string contains the character U+0000"),
    Rule(Reason.TOO_MANY_PROPERTIES, _many_properties, _properties_detail),
    *timestamp_rules(),
    Rule(Reason.INVALID_IP, _bad_ip, lambda batch, row: "context.ip is not an IPv4 or IPv6 address"),
    Rule(Reason.INVALID_AMOUNT, _bad_amount, lambda batch, row: f"a purchase whose amount does not match {AMOUNT}"),
)
