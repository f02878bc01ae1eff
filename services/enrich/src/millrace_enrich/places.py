"""Where an address is, by a MaxMind-format database file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import maxminddb

from millrace_common.errors import StartupError

_REMEMBERED: Final = 65_536


@dataclass(frozen=True, slots=True)
class Place:
    """ISO 3166-1 alpha-2 code of the country and the name of its first-level subdivision, where known."""

    country_code: str | None = None
    region: str | None = None


NOWHERE: Final = Place()


class Places:
    """Looks addresses up in a database; each distinct one once as long as it is remembered."""

    def __init__(self, database: Path) -> None:
        """Open `database`, which is mapped into memory and never written.

        Raises:
            StartupError: there is no such file, or it is not a MaxMind-format database.
        """
        try:
            self._reader = maxminddb.open_database(database)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            message = f"GEO_DATABASE {database} cannot be read: {error}"
            raise StartupError(message) from error
        self.find = lru_cache(maxsize=_REMEMBERED)(self._find)

    def _find(self, address: str) -> Place:
        """Return where `address` is; private, unknown and malformed addresses are nowhere."""
        try:
            entry = self._reader.get(address)
        except ValueError:  # not an address, or IPv6 in a database of IPv4
            return NOWHERE
        return place_of(entry) if isinstance(entry, Mapping) else NOWHERE


def place_of(entry: Mapping[str, Any]) -> Place:
    """Return the place in a database record: MaxMind's nested shape or the flat one of the free databases."""
    country = entry.get("country")
    if isinstance(country, Mapping):
        code = country.get("iso_code")
        subdivisions = entry.get("subdivisions")
        first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else {}
        region = first.get("names", {}).get("en") if isinstance(first, Mapping) else None
    else:
        code = entry.get("country_code", country)
        region = entry.get("state1") or entry.get("region")
    return Place(_text(code), _text(region))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
