"""The drop folder: a local one, or a path of a bucket. Nothing in it is moved, changed or deleted."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pyarrow import fs

from millrace_batch.orders_csv.errors import DropFolderError

_SUFFIX: Final = ".csv"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file as it was when it was listed.

    Attributes:
        path: in its file system.
        size_bytes: of it.
        written_at_ns: when it was last written, nanoseconds since the epoch.
    """

    path: str
    size_bytes: int
    written_at_ns: int

    @property
    def written_at(self) -> datetime:
        """Return when it was last written, UTC."""
        return datetime.fromtimestamp(self.written_at_ns // 1_000_000_000, UTC)

    def is_settled(self, now: datetime, settling: timedelta) -> bool:
        """Say whether nobody has written to it for as long as `settling`."""
        return now - self.written_at >= settling


@dataclass(frozen=True, slots=True)
class DropFolder:
    """The folder.

    Attributes:
        uri: a path, or an address like s3://bucket/orders; credentials are the environment's.
    """

    uri: str

    def files(self) -> list[DroppedFile]:
        """Return its CSV files by path, without those of folders in it.

        Raises:
            DropFolderError: it is not there, or cannot be listed.
        """
        system, path = self._system()
        try:
            found = system.get_file_info(fs.FileSelector(path))
        except OSError as error:
            message = f"the drop folder {self.uri} cannot be listed: {error}"
            raise DropFolderError(message) from error
        return sorted(
            (
                DroppedFile(info.path, info.size, info.mtime_ns)
                for info in found
                if info.type == fs.FileType.File and info.path.lower().endswith(_SUFFIX)
            ),
            key=lambda file: file.path,
        )

    def open(self, file: DroppedFile) -> Any:
        """Open a file for reading; to be used in a `with`.

        Raises:
            OSError: it is gone, or closed to this process.
        """
        system, _ = self._system()
        return system.open_input_stream(file.path)

    def _system(self) -> tuple[Any, str]:
        uri = self.uri if _SCHEME.match(self.uri) else str(Path(self.uri).absolute())
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
