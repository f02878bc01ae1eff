"""stack.json: how to find a running stack, and how to recognise what a crashed one has left."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from millrace_local.control import ControlAddress
from millrace_local.errors import LocalStackError
from millrace_local.processes import Identity

_FILE: Final = "stack.json"
_LOCK: Final = "stack.lock"


@dataclass(frozen=True, slots=True)
class StackRecord:
    """What a supervisor writes down about itself.

    Attributes:
        supervisor: the process.
        control: where it can be reached; secret, so the file is for its owner only.
        children: every process it has started and not seen end, by name.
    """

    supervisor: Identity
    control: ControlAddress
    children: Mapping[str, Identity]


def write(work_dir: Path, record: StackRecord) -> None:
    """Put `record` in place of the last one, in one move."""
    temporary = work_dir / f"{_FILE}.new"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(asdict(record), file, indent=2)
    temporary.replace(work_dir / _FILE)


def read(work_dir: Path) -> StackRecord | None:
    """Return the record, None if there is none (or none that can be read: it is then as good as lost)."""
    try:
        stored = json.loads((work_dir / _FILE).read_text(encoding="utf-8"))
        return StackRecord(
            supervisor=Identity(**stored["supervisor"]),
            control=ControlAddress(**stored["control"]),
            children={name: Identity(**identity) for name, identity in stored["children"].items()},
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def remove(work_dir: Path) -> None:
    """Forget the record."""
    (work_dir / _FILE).unlink(missing_ok=True)


def lock(work_dir: Path, name: str = _LOCK) -> int | None:
    """Take a lock of the work directory; None if another process has it.

    It ends with the process that took it, however that ends; closing the returned descriptor gives it back earlier.

    Raises:
        LocalStackError: the work directory cannot be written.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"the work directory {work_dir} cannot be written ({error.strerror}): choose another with --work-dir"
        raise LocalStackError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
