"""Reading the log files of a stack: the last lines, and what is added to them."""

from collections.abc import Iterator
from pathlib import Path

from millrace_local.errors import LocalStackError
from millrace_local.stack import log_file


def log_names(work_dir: Path) -> tuple[str, ...]:
    """Return the names of the processes that have a log."""
    return tuple(sorted(path.stem for path in (work_dir / "logs").glob("*.log")))


def choose(work_dir: Path, name: str | None) -> tuple[str, ...]:
    """Return the names to read: `name`, or all there are.

    Raises:
        LocalStackError: there is no log of that name, or none at all.
    """
    names = log_names(work_dir)
    if not names:
        message = f"there are no logs in {work_dir}"
        raise LocalStackError(message)
    if name is not None and name not in names:
        message = f"there is no log of {name}: there are {', '.join(names)}"
        raise LocalStackError(message)
    return names if name is None else (name,)


class LogReader:
    """Reads one log on from where it was read to; starts over when the file was emptied by rotation."""

    def __init__(self, work_dir: Path, name: str) -> None:
        """Begin at the start of the log of `name`."""
        self.name = name
        self._path = log_file(work_dir, name)
        self._position_bytes = 0

    def new_lines(self) -> Iterator[str]:
        """Yield the whole lines added since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position_bytes:
                    self._position_bytes = 0
                file.seek(self._position_bytes)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._position_bytes += len(line)
                    yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        except FileNotFoundError:
            return
