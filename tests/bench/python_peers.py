"""The stream libraries for Python: both in one environment of their own, installed from a lock of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from millrace_local.errors import LocalStackError
from shop_log import GAP_MS
from systems import PEERS, Assignment, Closing, Command, System

_LOCK: Final = PEERS / "python" / "requirements.lock"
_JOBS: Final = frozenset(("enrich", "session"))
_INSTALL_SECONDS: Final = 300.0
# Quix closes a window when a further gap has gone by after its end; the clock it is given ticks by the minute.
_QUIX_CLOSES_MS: Final = 2 * GAP_MS + 2 * 60_000
# Where the Makefile puts it if there is none on the PATH.
_OWN_UV: Final = Path(__file__).parents[2] / ".uv" / "bin" / "uv"


def bytewax() -> System:
    """Return Bytewax with its own connectors and windows."""
    return System(
        name="bytewax",
        about="Bytewax 0.21.1 as its guides write it: per record, its Kafka connectors, SessionWindower, its recovery",
        command=_program("bytewax_guide"),
        fastest={"enrich": 60_000.0, "session": 30_000.0},
        # Its offsets are in its recovery store. Its session job commits them to Kafka besides; they run a little ahead,
        # so they are no promise, but sessions come out so long after their events that they are no measure of progress.
        seen_by_output=frozenset(("enrich",)),
        prepare=_install,
    )


def quix(name: str, guarantee: str) -> System:
    """Return Quix Streams with a processing guarantee: exactly-once or at-least-once."""
    return System(
        name=name,
        about=f"Quix Streams 3.28.0, {guarantee}; a lookup join, session windows on RocksDB and a changelog topic",
        command=_program("quix", guarantee),
        fastest={"enrich": 45_000.0, "session": 25_000.0},
        exactly_once=_JOBS if guarantee == "exactly-once" else frozenset(),
        closing=Closing(_QUIX_CLOSES_MS),
        variant=guarantee != "exactly-once",
        prepare=_install,
    )


def _program(name: str, *arguments: str) -> Callable[[Assignment], Command]:
    def command(work: Assignment) -> Command:
        script = PEERS / "python" / f"{name}_{work.job.name}.py"
        python = _environment(work.cache_dir) / "bin" / "python"
        # What is no library's business they have from the plain loop.
        return Command((str(python), str(script), *arguments), {"PYTHONPATH": str(PEERS / "plain")})

    return command


def _install(cache_dir: Path) -> None:
    """Install what is locked, unless it is there.

    Raises:
        LocalStackError: it cannot be installed.
    """
    folder = _environment(cache_dir)
    installed = folder / "requirements.lock"
    if installed.exists() and installed.read_bytes() == _LOCK.read_bytes():
        return
    uv = shutil.which("uv") or str(_OWN_UV)
    if not Path(uv).exists():
        message = "no uv: `make install` brings it"
        raise LocalStackError(message)
    _call(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    _call(uv, "pip", "install", "--quiet", "--python", str(folder), "--require-hashes", "--requirement", str(_LOCK))
    shutil.copyfile(_LOCK, installed)


def _call(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        message = f"the Python peers were not installed in {_INSTALL_SECONDS:.0f} s"
        raise LocalStackError(message) from error
    if done.returncode:
        message = f"the Python peers cannot be installed\n{done.stderr}"
        raise LocalStackError(message)


def _environment(cache_dir: Path) -> Path:
    # Beside the systems' own folders: they share it.
    return cache_dir.parent / "python"
