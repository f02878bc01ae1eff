"""Why ingest refuses a readable record: the closed list of stage `validate`."""

from enum import StrEnum
from typing import Final

VALIDATE: Final = "validate"


class Reason(StrEnum):
    """One broken rule each; a record is refused for the first one it breaks, in the order they are listed here."""

    EMPTY_ID = "empty_id"
    NUL_IN_STRING = "nul_in_string"
    TOO_MANY_PROPERTIES = "too_many_properties"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    INVALID_IP = "invalid_ip"
    INVALID_AMOUNT = "invalid_amount"
    NO_ITEMS = "no_items"
    INVALID_QUANTITY = "invalid_quantity"
    NEGATIVE_PRICE = "negative_price"
    TOTAL_MISMATCH = "total_mismatch"
    UNKNOWN_CURRENCY = "unknown_currency"
